//! Session of one connection: reads requests in order, applies them to the table, writes replies.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use tokio::time::{Instant, sleep};

use super::connection::{Closed, Connection, RequestBuffer};
use super::registry::ConnectionGuard;
use super::shared::Shared;
use super::table::Outcome;
use crate::engine::dflockd::{BoxStream, LazyTimer};
use crate::wire::{ErrorStatus, Malformed, Reply, Request, Seconds};

/// Session of one connection.
pub(super) struct Session {
    connection: Connection,
    guard: ConnectionGuard,
    shared: Arc<Shared>,
    read_timeout: LazyTimer,
    authenticated: bool,
}

impl Session {
    pub(super) fn new(stream: BoxStream, guard: ConnectionGuard, shared: Arc<Shared>) -> Self {
        Self {
            connection: Connection::new(stream, shared.config.write_timeout),
            guard,
            read_timeout: LazyTimer::default(),
            authenticated: shared.config.auth_token.is_empty(),
            shared,
        }
    }

    /// Serves the connection until it is over. Its slots are released before the last replies are
    /// written, because the client may take long to read them.
    pub(super) async fn run(mut self) {
        let Closed = self.serve().await;
        drop(self.guard);
        let delay = self.shared.control.reply_delay();
        self.connection.shutdown(delay).await;
    }

    async fn serve(&mut self) -> Closed {
        let mut request = RequestBuffer::default();
        loop {
            if let Err(closed) = self.serve_one(&mut request).await {
                self.apply_pending_releases(&mut request);
                return closed;
            }
        }
    }

    /// Applies releases that were still in the read buffer when the client disconnected. Without
    /// auto-release their slots would stay held until the leases expire.
    fn apply_pending_releases(&mut self, request: &mut RequestBuffer) {
        while self.authenticated && matches!(self.connection.next_request(request), Ok(true)) {
            if let Ok(Request::Release { key, kind, token }) = request.parse() {
                self.guard
                    .with_table(|table, _, now| table.release(kind, key, token, now));
            }
        }
    }

    async fn serve_one(&mut self, request: &mut RequestBuffer) -> Result<(), Closed> {
        self.receive(request).await?;
        let reply = self.reply(request).await?;
        self.connection.queue_reply(&reply);
        if self.connection.should_flush() {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Receives the next request. Writes the buffered replies before it waits.
    async fn receive(&mut self, request: &mut RequestBuffer) -> Result<(), Closed> {
        if self.connection.next_request(request)? {
            return Ok(());
        }
        self.flush().await?;
        let deadline = Instant::now() + self.shared.config.read_timeout;
        loop {
            // A delayed flush may have read the request already.
            if self.connection.next_request(request)? {
                return Ok(());
            }
            let is_idle = !self.connection.has_partial_request(request);
            tokio::select! {
                biased;
                read = self.connection.read() => read?,
                () = poll_fn(|cx| self.read_timeout.poll_elapsed(cx, deadline)) => {
                    self.guard.record_read_timeout();
                    self.connection.queue_reply(&Reply::Error(ErrorStatus::Unspecified));
                    return Err(Closed);
                }
                () = wait_until_drained(&self.shared, &self.guard), if is_idle => {
                    return Err(Closed);
                }
            }
        }
    }

    async fn reply(&mut self, request: &RequestBuffer) -> Result<Reply, Closed> {
        let request = request.parse();
        if !self.authenticated {
            if let Ok(Request::Auth { token: given }) = request
                && tokens_equal(given, &self.shared.config.auth_token)
            {
                self.authenticated = true;
                return Ok(Reply::Ok);
            }
            self.connection
                .queue_reply(&Reply::Error(ErrorStatus::Auth));
            return Err(Closed);
        }
        let default_lease = self.shared.default_lease;
        let is_shutdown = self.shared.control.is_shutdown();
        let guard = &self.guard;
        Ok(match request {
            Err(Malformed) | Ok(Request::Auth { .. }) => Reply::Error(ErrorStatus::Unspecified),
            Ok(Request::Acquire { .. } | Request::Enqueue { .. }) if is_shutdown => {
                Reply::Error(ErrorStatus::Draining)
            }
            Ok(Request::Acquire {
                key,
                primitive,
                wait,
                lease,
            }) => {
                let lease = lease.unwrap_or(default_lease);
                let outcome = guard.with_table(|table, connection, now| {
                    table.acquire(connection, key, primitive, lease, now)
                });
                self.wait_for_grant(outcome, wait).await?
            }
            Ok(Request::Enqueue {
                key,
                primitive,
                lease,
            }) => {
                let lease = lease.unwrap_or(default_lease);
                guard.with_table(|table, connection, now| {
                    table.enqueue(connection, key, primitive, lease, now)
                })
            }
            Ok(Request::Wait { key, kind, wait }) => {
                let outcome = guard
                    .with_table(|table, connection, now| table.wait(connection, kind, key, now));
                self.wait_for_grant(outcome, wait).await?
            }
            Ok(Request::Release { key, kind, token }) => {
                guard.with_table(|table, _, now| table.release(kind, key, token, now))
            }
            Ok(Request::Renew {
                key,
                kind,
                token,
                lease,
            }) => {
                let lease = lease.unwrap_or(default_lease);
                guard.with_table(|table, _, now| table.renew(kind, key, token, lease, now))
            }
            Ok(Request::Ping) => Reply::Ok,
            Ok(Request::Stats) => Reply::Stats(Box::new(self.shared.registry.stats())),
        })
    }

    /// Waits until a queued waiter is granted a slot, and for at most `wait`.
    async fn wait_for_grant(&mut self, outcome: Outcome, wait: Seconds) -> Result<Reply, Closed> {
        let waiter = match outcome {
            Outcome::Reply(reply) => return Ok(reply),
            Outcome::Queued(waiter) => waiter,
        };
        let otherwise = if wait.get() == 0 {
            Reply::Timeout
        } else {
            let mut timeout = pin!(sleep(wait.as_duration()));
            self.flush().await?;
            loop {
                if self.shared.control.is_shutdown() {
                    break Reply::Error(ErrorStatus::Draining);
                }
                tokio::select! {
                    biased;
                    closed = self.connection.closed() => return Err(closed),
                    () = self.guard.notified() => {
                        let outcome = self
                            .guard
                            .with_table(|table, _, now| table.take_grant(waiter, now));
                        if let Outcome::Reply(reply) = outcome {
                            return Ok(reply);
                        }
                    }
                    () = &mut timeout => break Reply::Timeout,
                }
            }
        };
        Ok(self
            .guard
            .with_table(|table, _, now| table.cancel_wait(waiter, otherwise, now)))
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        let delay = self.shared.control.reply_delay();
        self.connection.flush(delay).await
    }
}

/// Waits until the server shuts down and the connection holds no slot.
async fn wait_until_drained(shared: &Shared, guard: &ConnectionGuard) {
    while !shared.control.is_shutdown() {
        guard.notified().await;
    }
    while guard.has_slots() {
        // An expired lease ends at the next sweep.
        sleep(shared.config.lease_sweep_interval).await;
    }
}

/// Compares a given auth token with the configured one, which is not empty. The time depends on
/// the length of `given` only: the comparison of slices by `subtle` would reveal the length of
/// `token`, because it returns early when the lengths differ.
fn tokens_equal(given: &str, token: &str) -> bool {
    let bytes = given.bytes().zip(token.bytes().cycle());
    let equal = bytes.fold(given.len().ct_eq(&token.len()), |equal, (a, b)| {
        equal & a.ct_eq(&b)
    });
    equal.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // S16
    #[test]
    fn tokens_equal_accepts_only_the_same_token() {
        assert!(tokens_equal("s3cret", "s3cret"));
        for given in [
            "",
            "s",
            "s3cre",
            "s3creT",
            "S3cret",
            "s3crets",
            "s3crets3cret",
        ] {
            assert!(!tokens_equal(given, "s3cret"), "{given:?}");
        }
    }
}
