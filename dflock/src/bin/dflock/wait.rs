//! The wait for a slot, with progress on a terminal.

use std::convert::Infallible;
use std::io::{IsTerminal, Write, stderr};
use std::pin::pin;
use std::time::{Duration, Instant};

use dflock::{Client, Enqueued, Error, Held, Semaphore, Stats};
use indicatif::{ProgressBar, ProgressStyle};

use crate::escape::escape;

/// Interval at which the length of the queue is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Acquires a slot of `semaphore`, and shows the queue position if standard error is a terminal.
///
/// Waits for at most `timeout` if it is given. `client` polls the length of the queue. `is_nested`
/// says whether an enclosing `dflock run` holds a slot of the same key.
pub(crate) async fn acquire(
    semaphore: Semaphore,
    client: &Client,
    timeout: Option<Duration>,
    is_nested: bool,
) -> Result<Semaphore<Held>, Error> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return semaphore.try_acquire().await;
    }
    let (began, key) = (Instant::now(), semaphore.key().to_owned());
    let queued = match semaphore.enqueue().await? {
        Enqueued::Acquired(held) => return Ok(held),
        Enqueued::Queued(queued) => queued,
    };
    if is_nested {
        // Ignored: without a standard error there is no place to report the failure.
        let _ = writeln!(
            stderr(),
            "dflock: warning: no slot of {key:?} is free, and an enclosing `dflock run` holds one \
             until this command ends: it waits for itself unless another holder releases a slot"
        );
    }
    let wait = pin!(queued.wait_within(timeout.map_or(Duration::MAX, |timeout| {
        timeout.saturating_sub(began.elapsed())
    })));
    if !stderr().is_terminal() {
        return wait.await;
    }
    let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    // Draws on a separate thread, so that a blocked terminal does not block the wait.
    spinner.enable_steady_tick(Duration::from_millis(100));
    let held = tokio::select! {
        held = wait => held,
        never = show_progress(&spinner, client, &key) => match never {},
    };
    spinner.finish_and_clear();
    held
}

/// The best known upper bound of the queue position.
#[derive(Default)]
struct QueuePosition(Option<u64>);

impl QueuePosition {
    /// Updates the position with the current length of the queue, and returns it. New waiters are
    /// always behind this one.
    fn update(&mut self, waiters: u64) -> u64 {
        let position = self
            .0
            .map_or(waiters, |position| position.min(waiters))
            .max(1);
        self.0 = Some(position);
        position
    }
}

async fn show_progress(spinner: &ProgressBar, client: &Client, key: &str) -> Infallible {
    let mut position = QueuePosition::default();
    let key_text = escape(key);
    spinner.set_message(format!("waiting for a slot of {key_text}"));
    loop {
        // If the server does not answer, the wait goes on without a position.
        if let Some(waiters) = client
            .stats()
            .await
            .ok()
            .and_then(|all| all.iter().find_map(|stats| waiters(stats, key)))
        {
            spinner.set_message(format!(
                "waiting for a slot of {key_text}: position {} of {waiters} in the queue",
                position.update(waiters)
            ));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the length of the queue of the semaphore `key`. Servers up to v1.13 list a semaphore
/// with the limit 1 as a lock.
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
    fn queue_position_never_increases() {
        let mut position = QueuePosition::default();
        let positions: Vec<_> = [3, 5, 2, 4, 0]
            .into_iter()
            .map(|waiters| position.update(waiters))
            .collect();
        assert_eq!(positions, [3, 3, 2, 2, 1]);
    }
}
