//! One connection's life: each request, in order, to the desk, and the reply back.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::Shared;
use super::desk::Visit;
use super::peer::{Letter, Over, Peer};
use super::table::Answer;
use crate::transport::{BoxStream, LazyTimer};
use crate::wire::{Key, Malformed, Reply, Request, Seconds, Status};

/// One connection.
pub(super) struct Session {
    peer: Peer,
    visit: Visit,
    shared: Arc<Shared>,
    /// Rings when the client has said nothing for the read timeout.
    silence: LazyTimer,
    trusted: bool,
}

impl Session {
    pub(super) fn new(stream: BoxStream, visit: Visit, shared: Arc<Shared>) -> Self {
        Self {
            peer: Peer::new(stream, shared.config.write_timeout),
            visit,
            silence: LazyTimer::default(),
            trusted: shared.config.auth_token.is_empty(),
            shared,
        }
    }

    /// Serves until the connection is over; then all that it had at the desk goes, before anything more is written.
    pub(super) async fn run(mut self) {
        let Over = self.serve().await;
        drop(self.visit);
        let delay = self.shared.condition.reply_delay();
        self.peer.part(delay).await;
    }

    async fn serve(&mut self) -> Over {
        let mut letter = Letter::default();
        loop {
            if let Err(over) = self.serve_one(&mut letter).await {
                self.take_back(&mut letter);
                return over;
            }
        }
    }

    /// Takes what a client that has gone has given back while its last replies were held up.
    fn take_back(&mut self, letter: &mut Letter) {
        while self.trusted && matches!(self.peer.next(letter), Ok(true)) {
            if let Ok(Request::Release { key, kind, token }) = letter.open() {
                self.visit.at(key, |table, _, now| table.release(kind, key, token, now));
            }
        }
    }

    async fn serve_one(&mut self, letter: &mut Letter) -> Result<(), Over> {
        self.receive(letter).await?;
        let reply = self.reply(letter).await?;
        self.peer.say(&reply);
        if self.peer.is_full() { self.flush().await } else { Ok(()) }
    }

    /// The next request. The replies are written before it is waited for.
    async fn receive(&mut self, letter: &mut Letter) -> Result<(), Over> {
        if self.peer.next(letter)? {
            return Ok(());
        }
        self.flush().await?;
        let silent_at = Instant::now() + self.shared.config.read_timeout;
        loop {
            // a delayed flush reads ahead
            if self.peer.next(letter)? {
                return Ok(());
            }
            let may_end = !self.peer.has_begun(letter);
            tokio::select! {
                biased;
                read = self.peer.read() => read?,
                () = poll_fn(|cx| self.silence.poll_elapsed(cx, silent_at)) => {
                    self.visit.silent();
                    self.peer.say(&Reply::Refused(Status::Error));
                    return Err(Over);
                }
                () = drained(&self.shared, &self.visit), if may_end => return Err(Over),
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
        Ok(match request {
            Err(Malformed) | Ok(Request::Auth { .. }) => Reply::Refused(Status::Error),
            Ok(Request::Acquire { .. } | Request::Enqueue { .. }) if self.shared.draining.has_begun() => Reply::Refused(Status::Draining),
            Ok(Request::Acquire { key, capacity, wait, lease }) => {
                let answer = self.visit.acquire(key, capacity, lease.unwrap_or(default_lease));
                self.stay_in_line(key, answer, wait).await?
            }
            Ok(Request::Enqueue { key, capacity, lease }) => self.visit.enqueue(key, capacity, lease.unwrap_or(default_lease)),
            Ok(Request::Wait { key, kind, wait }) => {
                let answer = self.visit.at(key, |table, by, now| table.wait(by, kind, key, now));
                self.stay_in_line(key, answer, wait).await?
            }
            Ok(Request::Release { key, kind, token }) => self.visit.at(key, |table, _, now| table.release(kind, key, token, now)),
            Ok(Request::Renew { key, kind, token, lease }) => {
                self.visit.at(key, |table, _, now| table.renew(kind, key, token, lease.unwrap_or(default_lease), now))
            }
            Ok(Request::Ping) => Reply::Ok,
            Ok(Request::Stats) => Reply::Stats(Box::new(self.shared.desk.stats())),
        })
    }

    /// Waits for the slot of a waiter that stands in line.
    async fn stay_in_line(&mut self, key: Key<'_>, answer: Answer, wait: Seconds) -> Result<Reply, Over> {
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
                if self.shared.draining.has_begun() {
                    break Reply::Refused(Status::Draining);
                }
                tokio::select! {
                    biased;
                    over = self.peer.gone() => return Err(over),
                    () = self.visit.rung() => {
                        if let Answer::Now(reply) = self.visit.at(key, |table, _, now| table.collect(waiter, now)) {
                            return Ok(reply);
                        }
                    }
                    () = &mut patience => break Reply::Timeout,
                }
            }
        };
        Ok(self.visit.at(key, |table, _, now| table.give_up(waiter, instead, now)))
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let delay = self.shared.condition.reply_delay();
        self.peer.flush(delay).await
    }
}

/// Resolves when the server shuts down and the connection has nothing to give back, or no more: its leases end in a `sweep`.
async fn drained(shared: &Shared, visit: &Visit) {
    while !shared.draining.has_begun() {
        visit.rung().await;
    }
    while visit.holds() {
        sleep(shared.config.lease_sweep_interval).await;
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
