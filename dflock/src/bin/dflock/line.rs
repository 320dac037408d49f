//! The wait for a slot.

use std::hash::{BuildHasher, RandomState};
use std::io::{IsTerminal, Write, stderr};
use std::mem;
use std::time::Duration;

use dflock::{Client, Enqueued, Error, Held, Operation, Queued, Semaphore, Stats, TlsErrorKind};
use indicatif::{ProgressBar, ProgressStyle};

use crate::escape::escape;
use crate::status::{self, Failure};

/// How often it is asked how long the line is.
const LOOK: Duration = Duration::from_secs(1);

/// Longest first pause before the queue is joined again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause of all.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Stage of a wait, which tells why there is no slot when the time is over.
enum Stage {
    /// The server has not answered yet.
    Unanswered,
    /// The program has a place in the queue.
    Queued,
    /// The place was lost, and the program cannot join the queue again because of this error.
    Away(Error),
}

/// Waits for a slot of `pool`, for at most `timeout` if there is one, and shows the place in the
/// queue on a terminal. `client` asks the server of the key alone. `is_nested` tells whether a
/// `dflock run` around this one holds a slot of the same key.
pub(crate) async fn slot(
    pool: Semaphore,
    client: &Client,
    timeout: Option<Duration>,
    is_nested: bool,
) -> Result<Semaphore<Held>, Failure> {
    let timeout = match timeout {
        Some(Duration::ZERO) => return Ok(pool.try_acquire().await?),
        Some(timeout) => timeout,
        None => Duration::MAX,
    };
    let mut stage = Stage::Unanswered;
    let queue = join_until_held(&pool, client, is_nested, &mut stage);
    if let Ok(held) = tokio::time::timeout(timeout, queue).await {
        return Ok(held?);
    }
    let server = client.servers().next().unwrap_or_default();
    Err(match stage {
        Stage::Unanswered => Failure::no_answer_in_time(pool.key(), server),
        Stage::Queued => Failure::no_slot_in_time(pool.key(), server),
        Stage::Away(error) => error.into(),
    })
}

/// Joins the queue, and joins it again whenever the place in it is lost, until there is a slot.
async fn join_until_held(
    pool: &Semaphore,
    client: &Client,
    is_nested: bool,
    stage: &mut Stage,
) -> Result<Semaphore<Held>, Error> {
    let (mut warns_of_itself, mut warns_of_loss) = (is_nested, true);
    let mut longest_pause = FIRST_PAUSE;
    loop {
        let error = match pool.clone().enqueue().await {
            Ok(Enqueued::Acquired(held)) => return Ok(held),
            Ok(Enqueued::Queued(queued)) => {
                *stage = Stage::Queued;
                if mem::take(&mut warns_of_itself) {
                    warn(&format!(
                        "no slot of {:?} is free, and a `dflock run` around this one holds one \
                         until this one ends: it waits for itself, unless another holder gives \
                         one back",
                        pool.key()
                    ));
                }
                longest_pause = FIRST_PAUSE;
                match wait(queued, client).await {
                    Err(error) if is_away(&error) || is_late_refusal(&error) => error,
                    held => return held,
                }
            }
            Err(error) if matches!(stage, Stage::Away(_)) && is_away(&error) => error,
            Err(error) => return Err(error),
        };
        if mem::take(&mut warns_of_loss) {
            let said = status::said(&error);
            warn(&format!(
                "lost the place in the queue, and joins it again: {said}"
            ));
        }
        *stage = Stage::Away(error);
        tokio::time::sleep(jitter(longest_pause)).await;
        longest_pause = (longest_pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits in the queue, and shows the place in it on a terminal.
async fn wait(queued: Semaphore<Queued>, client: &Client) -> Result<Semaphore<Held>, Error> {
    let key = queued.key().to_owned();
    let wait = queued.wait_within(Duration::MAX);
    if !stderr().is_terminal() {
        return wait.await;
    }
    // it clears its line when it is dropped
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

/// Returns whether `error` is that of a server that went away and may come back.
fn is_away(error: &Error) -> bool {
    match error {
        Error::Connect { .. }
        | Error::ConnectTimeout { .. }
        | Error::Unresponsive { .. }
        | Error::Disconnected { .. }
        | Error::Draining { .. } => true,
        Error::Tls { fault, .. } => *fault == TlsErrorKind::ConnectionClosed,
        _ => false,
    }
}

/// Returns whether `error` is the `error` with which dflockd v1.10.0 answers the clients in its
/// queues when it shuts down. It has no other word for that.
fn is_late_refusal(error: &Error) -> bool {
    error.operation() == Some(Operation::Wait)
        && matches!(error, Error::Refused { status, .. } if status == "error")
}

/// Returns a random pause of at most `longest`. The waiters of a server that restarts lose their
/// places in the same moment, and without jitter they would all come back in the same moment.
fn jitter(longest: Duration) -> Duration {
    let random = (RandomState::new().hash_one(()) >> 32) as u32;
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Prints a warning.
fn warn(what: &str) {
    // without a standard error there is no place to report that
    let _ = writeln!(stderr(), "dflock: warning: {what}");
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
