//! The wait for a slot.

use std::io::{IsTerminal, Write, stderr};
use std::pin::pin;
use std::time::{Duration, Instant};

use dflock::{Client, Enqueued, Error, Held, Semaphore, Stats};
use indicatif::{ProgressBar, ProgressStyle};

use crate::escape::escape;

/// How often it is asked how long the line is.
const LOOK: Duration = Duration::from_secs(1);

/// Waits for a slot of `pool`, for at most `timeout` if there is one, and shows the place in line on a terminal. `is_nested` is
/// whether a `dflock run` around this one holds a slot of the same key.
pub(crate) async fn slot(
    pool: Semaphore,
    client: &Client,
    timeout: Option<Duration>,
    is_nested: bool,
) -> Result<Semaphore<Held>, Error> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return pool.try_acquire().await;
    }
    let (began, key) = (Instant::now(), pool.key().to_owned());
    let queued = match pool.enqueue().await? {
        Enqueued::Acquired(held) => return Ok(held),
        Enqueued::Queued(queued) => queued,
    };
    if is_nested {
        // without a standard error there is no place to report that
        let _ = writeln!(
            stderr(),
            "dflock: warning: no slot of {key:?} is free, and a `dflock run` around this one holds one until this one ends: it waits \
             for itself, unless another holder gives one back"
        );
    }
    let wait = pin!(queued.wait_within(timeout.map_or(Duration::MAX, |timeout| {
        timeout.saturating_sub(began.elapsed())
    })));
    if !stderr().is_terminal() {
        return wait.await;
    }
    let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    // on a thread of its own, so that a terminal that takes nothing holds nothing up
    spinner.enable_steady_tick(Duration::from_millis(100));
    let held = tokio::select! {
        held = wait => held,
        never = show_place(&spinner, client, &key) => match never {},
    };
    spinner.finish_and_clear();
    held
}

/// The best that is known of a place in line.
#[derive(Default)]
struct Place(Option<u64>);

impl Place {
    /// The line has `waiters` now. It has grown only behind us.
    fn update(&mut self, waiters: u64) -> u64 {
        let place = self.0.map_or(waiters, |place| place.min(waiters)).max(1);
        self.0 = Some(place);
        place
    }
}

async fn show_place(spinner: &ProgressBar, client: &Client, key: &str) -> std::convert::Infallible {
    let mut place = Place::default();
    let shown = escape(key);
    spinner.set_message(format!("waiting for a slot of {shown}"));
    loop {
        // a server that does not tell is waited for all the same
        if let Some(waiters) = client
            .stats()
            .await
            .ok()
            .and_then(|all| all.iter().find_map(|stats| waiters(stats, key)))
        {
            spinner.set_message(format!(
                "waiting for a slot of {shown}: place {} of {waiters} in line",
                place.update(waiters)
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How many wait for the semaphore `key`; servers up to v1.13 list one of 1 as a lock.
fn waiters(stats: &Stats, key: &str) -> Option<u64> {
    let semaphore = stats
        .semaphores
        .iter()
        .find(|semaphore| semaphore.key == key)
        .map(|semaphore| semaphore.waiters);
    semaphore.or_else(|| {
        stats
            .locks
            .iter()
            .find(|lock| lock.key == key)
            .map(|lock| lock.waiters)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_line_never_gets_worse() {
        let mut place = Place::default();
        let places: Vec<_> = [3, 5, 2, 4, 0]
            .into_iter()
            .map(|waiters| place.update(waiters))
            .collect();
        assert_eq!(places, [3, 3, 2, 2, 1]);
    }
}
