//! The wait for a slot, with progress on a terminal.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io::{IsTerminal, stderr};
use std::mem;
use std::time::Duration;

use dflock::cli_support::{cluster, wait_with};
use dflock::{Client, Enqueued, Error, Held, Operation, Queued, Semaphore, Stats, TlsErrorKind};
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::CliError;
use crate::escape::escape;
use crate::message::message;
use crate::warning::warn;

/// Interval at which the position in the queue is updated.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Upper bound of the first pause before the client joins the queue again.
const FIRST_MAX_BACKOFF: Duration = Duration::from_millis(100);

/// Upper bound of all later pauses.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Stage of a wait. Selects the error that is reported when `--timeout` ends.
enum Stage {
    /// The server has not replied yet.
    NoReply,
    /// The client is in the queue.
    Queued,
    /// The client has lost its place in the queue, and this is the last error.
    Disconnected(Error),
}

/// Acquires a slot of `semaphore`, and shows the queue position if standard error is a terminal.
///
/// The call takes at most `timeout` if it is given, including connecting and the replies of the
/// server. If the place in the queue is lost, the client joins the queue again. `client` has only
/// the server of the key, and polls the length of the queue. `is_nested` says whether an enclosing
/// `dflock run` holds a slot of the same key.
pub(crate) async fn acquire(
    semaphore: Semaphore,
    client: &Client,
    timeout: Option<Duration>,
    is_nested: bool,
) -> Result<Semaphore<Held>, CliError> {
    let timeout = match timeout {
        Some(Duration::ZERO) => return Ok(semaphore.try_acquire().await?),
        Some(timeout) => timeout,
        None => Duration::MAX,
    };
    let mut stage = Stage::NoReply;
    let acquire = enqueue_until_held(&semaphore, client, is_nested, &mut stage);
    if let Ok(held) = tokio::time::timeout(timeout, acquire).await {
        return Ok(held?);
    }
    let server = client.servers().next().unwrap_or_default();
    Err(match stage {
        Stage::NoReply => CliError::no_reply_in_time(semaphore.key(), server),
        Stage::Queued => CliError::no_slot_in_time(semaphore.key(), server),
        Stage::Disconnected(error) => error.into(),
    })
}

/// Acquires several permits of `semaphore`, as [`acquire`] does with one slot. The library joins
/// the queue again by itself.
pub(crate) async fn acquire_many(
    semaphore: Semaphore,
    permits: u32,
    client: &Client,
    timeout: Option<Duration>,
    is_nested: bool,
) -> Result<Semaphore<Held>, CliError> {
    if timeout == Some(Duration::ZERO) {
        return Ok(semaphore.try_acquire_many(permits).await?);
    }
    let key = semaphore.key().to_owned();
    if is_nested {
        warn(&format!(
            "an enclosing `dflock run` holds a slot of {key:?} until this command ends: it waits \
             for itself unless {permits} other slots become free"
        ));
    }
    let acquire = async {
        let acquired = semaphore.acquire_many(permits);
        let Some(progress) = Progress::start(&key) else {
            return acquired.await;
        };
        tokio::select! {
            acquired = acquired => acquired,
            // The position on etcd is not known: its stats list all keys, which is too much for
            // each terminal to read each second.
            never = progress.follow_length(client), if cluster(client).is_none() => match never {},
        }
    };
    let timeout = timeout.unwrap_or(Duration::MAX);
    if let Ok(acquired) = tokio::time::timeout(timeout, acquire).await {
        Ok(acquired?)
    } else {
        let server = client.servers().next().unwrap_or_default();
        Err(CliError::no_slot_in_time(&key, server))
    }
}

/// Acquires so many permits of `semaphore` without waiting for one. Returns `None` if fewer are
/// free.
pub(crate) async fn try_acquire(
    semaphore: Semaphore,
    permits: u32,
) -> Result<Option<Semaphore<Held>>, CliError> {
    match semaphore.try_acquire_many(permits).await {
        Ok(held) => Ok(Some(held)),
        Err(error) if error.is_timeout() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Joins the queue and waits for a slot. Joins the queue again each time the place in it is lost.
async fn enqueue_until_held(
    semaphore: &Semaphore,
    client: &Client,
    is_nested: bool,
    stage: &mut Stage,
) -> Result<Semaphore<Held>, Error> {
    let (mut warn_nested, mut warn_disconnected) = (is_nested, true);
    let mut max_backoff = FIRST_MAX_BACKOFF;
    loop {
        let error = match semaphore.clone().enqueue().await {
            Ok(Enqueued::Acquired(held)) => return Ok(held),
            Ok(Enqueued::Queued(queued)) => {
                *stage = Stage::Queued;
                if mem::take(&mut warn_nested) {
                    warn(&format!(
                        "no slot of {:?} is free, and an enclosing `dflock run` holds one until \
                         this command ends: it waits for itself unless another holder releases a \
                         slot",
                        semaphore.key()
                    ));
                }
                max_backoff = FIRST_MAX_BACKOFF;
                match wait(queued, client).await {
                    Err(error) if is_disconnected(&error) || is_shutdown_refusal(&error) => error,
                    held => return held,
                }
            }
            Err(error) if matches!(stage, Stage::Disconnected(_)) && is_disconnected(&error) => {
                error
            }
            Err(error) => return Err(error),
        };
        if mem::take(&mut warn_disconnected) {
            warn(&format!(
                "lost the place in the queue, joining again: {}",
                message(&error)
            ));
        }
        *stage = Stage::Disconnected(error);
        tokio::time::sleep(jitter(max_backoff)).await;
        max_backoff = (max_backoff * 2).min(MAX_BACKOFF);
    }
}

/// Waits in the queue.
async fn wait(queued: Semaphore<Queued>, client: &Client) -> Result<Semaphore<Held>, Error> {
    let Some(progress) = Progress::start(queued.key()) else {
        return queued.wait_within(Duration::MAX).await;
    };
    let show_position = async |queued: &Semaphore<Queued>| {
        if cluster(client).is_some() {
            progress.follow_position(queued).await
        } else {
            progress.follow_length(client).await
        }
    };
    wait_with(queued, show_position).await
}

/// Returns whether `error` means that the server is not reachable, but may become so again.
fn is_disconnected(error: &Error) -> bool {
    match error {
        Error::Connect { .. }
        | Error::ConnectTimeout { .. }
        | Error::Unresponsive { .. }
        | Error::Disconnected { .. }
        | Error::NoLeader { .. }
        | Error::Unavailable { .. }
        | Error::Revoked { .. }
        | Error::Draining { .. } => true,
        Error::Tls { kind, .. } => *kind == TlsErrorKind::ConnectionClosed,
        _ => false,
    }
}

/// Returns whether `error` is the reply `error` to a wait. dflockd v1.10.0 sends it to the clients
/// in its queues when it shuts down, and has no other reply for that.
fn is_shutdown_refusal(error: &Error) -> bool {
    error.operation() == Some(Operation::Wait)
        && matches!(error, Error::Refused { status, .. } if status == "error")
}

/// Returns a random pause of at most `max`. Without jitter, all clients in the queue of a server
/// that restarts would connect at the same moment.
fn jitter(max: Duration) -> Duration {
    let random = (RandomState::new().hash_one(()) >> 32) as u32;
    max.mul_f64(f64::from(random) / f64::from(u32::MAX))
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

/// The line of a wait on a terminal. It is cleared when this is dropped.
struct Progress {
    spinner: ProgressBar,
    key: String,
}

impl Progress {
    /// Shows that a slot of `key` is waited for. Returns `None` if standard error is no terminal.
    fn start(key: &str) -> Option<Self> {
        if !stderr().is_terminal() {
            return None;
        }
        let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        // Draws on a separate thread, so that a blocked terminal does not block the wait.
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner.set_message(format!("waiting for a slot of {}", escape(key)));
        let key = key.to_owned();
        Some(Self { spinner, key })
    }

    /// Shows the position of `queued`, which etcd reports.
    async fn follow_position(&self, queued: &Semaphore<Queued>) -> Infallible {
        loop {
            // It is 0 when the wait is over, and an error if the entry is lost.
            if let Ok(position @ 1..) = queued.position().await {
                self.show(&position.to_string());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Shows an upper bound of the position, from the stats of `client`, which has only the server
    /// of the key.
    async fn follow_length(&self, client: &Client) -> Infallible {
        let mut position = QueuePosition::default();
        loop {
            // If the server does not answer, the wait goes on without a position.
            if let Some(waiters) = waiters(client, &self.key).await {
                self.show(&format!("{} of {waiters}", position.update(waiters)));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn show(&self, position: &str) {
        self.spinner.set_message(format!(
            "waiting for a slot of {}: position {position} in the queue",
            escape(&self.key)
        ));
    }
}

/// Returns the length of the queue of the semaphore `key`, if its server answers.
async fn waiters(client: &Client, key: &str) -> Option<u64> {
    let all = client.stats().await.ok()?;
    all.iter().find_map(|stats| waiters_in(stats, key))
}

/// Returns the length of the queue of the semaphore `key`. Servers up to v1.13 list a semaphore
/// with the limit 1 as a lock.
fn waiters_in(stats: &Stats, key: &str) -> Option<u64> {
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
