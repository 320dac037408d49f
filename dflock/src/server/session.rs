//! One connection's life: each request, in order, to the desk, and the reply back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Shared;
use super::desk::Visit;
use super::peer::{Letter, Over, Peer};
use super::table::Answer;
use crate::transport::BoxStream;
use crate::wire::{Malformed, Reply, Request, Seconds, Status};

/// One connection.
pub(super) struct Session {
    peer: Peer,
    visit: Visit,
    shared: Arc<Shared>,
    draining: watch::Receiver<bool>,
    trusted: bool,
}

impl Session {
    pub(super) fn new(stream: BoxStream, visit: Visit, shared: Arc<Shared>) -> Self {
        Self {
            peer: Peer::new(stream, shared.config.write_timeout),
            visit,
            draining: shared.draining.subscribe(),
            trusted: shared.config.auth_token.is_empty(),
            shared,
        }
    }

    /// Serves until the connection is over; then all that it had at the desk goes, before anything more is written.
    pub(super) async fn run(mut self) {
        let Over = self.serve().await;
        drop(self.visit);
        let delay = self.shared.condition.now().reply_delay;
        self.peer.part(delay).await;
    }

    async fn serve(&mut self) -> Over {
        loop {
            if let Err(over) = self.serve_one().await {
                return over;
            }
        }
    }

    async fn serve_one(&mut self) -> Result<(), Over> {
        let letter = self.next_letter().await?;
        let reply = self.reply(&letter).await?;
        self.peer.say(&reply);
        if self.peer.is_full() { self.flush().await } else { Ok(()) }
    }

    /// The next request. The replies are written before it is waited for.
    async fn next_letter(&mut self) -> Result<Letter, Over> {
        if let Some(letter) = self.peer.next()? {
            return Ok(letter);
        }
        self.flush().await?;
        let mut silence = pin!(sleep(self.shared.config.read_timeout));
        loop {
            // a delayed flush reads ahead
            if let Some(letter) = self.peer.next()? {
                return Ok(letter);
            }
            tokio::select! {
                biased;
                read = self.peer.read() => read?,
                () = &mut silence => {
                    self.visit.with(|table, by, _| table.silent(by));
                    self.peer.say(&Reply::Refused(Status::Error));
                    return Err(Over);
                }
                () = drained(&mut self.draining, &self.visit, self.shared.config.lease_sweep_interval), if !self.peer.has_begun() => return Err(Over),
            }
        }
    }

    async fn reply(&mut self, letter: &Letter) -> Result<Reply, Over> {
        let request = letter.open();
        if !self.trusted {
            let secret = &self.shared.config.auth_token;
            self.trusted = matches!(request, Ok(Request::Auth { secret: given }) if same_secret(given, secret));
            if self.trusted {
                return Ok(Reply::Ok);
            }
            self.peer.say(&Reply::Refused(Status::Auth));
            return Err(Over);
        }
        let default_lease = self.shared.default_lease;
        let is_draining = *self.draining.borrow();
        Ok(match request {
            Err(Malformed) | Ok(Request::Auth { .. }) => Reply::Refused(Status::Error),
            Ok(Request::Acquire { .. } | Request::Enqueue { .. }) if is_draining => Reply::Refused(Status::Draining),
            Ok(Request::Acquire { key, capacity, wait, lease }) => {
                let answer = self.visit.with(|table, by, now| table.acquire(by, key, capacity, lease.unwrap_or(default_lease), now));
                self.stay_in_line(answer, wait).await?
            }
            Ok(Request::Enqueue { key, capacity, lease }) => {
                self.visit.with(|table, by, now| table.enqueue(by, key, capacity, lease.unwrap_or(default_lease), now))
            }
            Ok(Request::Wait { key, kind, wait }) => {
                let answer = self.visit.with(|table, by, now| table.wait(by, kind, key, now));
                self.stay_in_line(answer, wait).await?
            }
            Ok(Request::Release { key, kind, token }) => self.visit.with(|table, _, now| table.release(kind, key, token, now)),
            Ok(Request::Renew { key, kind, token, lease }) => {
                self.visit.with(|table, _, now| table.renew(kind, key, token, lease.unwrap_or(default_lease), now))
            }
            Ok(Request::Ping) => Reply::Ok,
            Ok(Request::Stats) => match serde_json::to_string(&self.shared.desk.stats()) {
                Ok(json) => Reply::Stats(json.into()),
                Err(_) => Reply::Refused(Status::Error),
            },
        })
    }

    /// Waits for the slot of a waiter that stands in line.
    async fn stay_in_line(&mut self, answer: Answer, wait: Seconds) -> Result<Reply, Over> {
        let waiter = match answer {
            Answer::Now(reply) => return Ok(reply),
            Answer::InLine(waiter) => waiter,
        };
        let instead = if wait.get() == 0 {
            Reply::Timeout
        } else {
            let mut patience = pin!(sleep(wait.as_duration()));
            self.flush().await?;
            loop {
                tokio::select! {
                    biased;
                    over = self.peer.gone() => return Err(over),
                    () = self.visit.rung() => {
                        if let Answer::Now(reply) = self.visit.with(|table, _, now| table.collect(waiter, now)) {
                            return Ok(reply);
                        }
                    }
                    // the sender lives as long as the session does
                    Ok(_) = self.draining.wait_for(|draining| *draining) => break Reply::Refused(Status::Draining),
                    () = &mut patience => break Reply::Timeout,
                }
            }
        };
        Ok(self.visit.with(|table, _, now| table.give_up(waiter, instead, now)))
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let delay = self.shared.condition.now().reply_delay;
        self.peer.flush(delay).await
    }
}

/// Resolves when the server shuts down and the connection has nothing to give back, or no more: its leases end in a `sweep`.
async fn drained(draining: &mut watch::Receiver<bool>, visit: &Visit, sweep: Duration) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
    while visit.with(|table, connection, _| table.holds(connection)) {
        sleep(sweep).await;
    }
}

/// Takes as long as `given` is, however much of it is right: the client learns nothing from the time.
fn same_secret(given: &str, secret: &str) -> bool {
    let endless = secret.bytes().cycle();
    let differences =
        given.bytes().zip(endless).fold(given.len() ^ secret.len(), |sum, (a, b)| std::hint::black_box(sum | usize::from(a ^ b)));
    differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    // S16
    #[test]
    fn only_the_same_secret_is_the_same() {
        assert!(same_secret("s3cret", "s3cret"));
        for given in ["", "s", "s3cre", "s3creT", "S3cret", "s3crets", "s3crets3cret"] {
            assert!(!same_secret(given, "s3cret"), "{given:?}");
        }
    }
}
