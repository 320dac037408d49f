//! Joining the queue of a key: acquire and enqueue.

use std::time::Duration;

use tokio::time::sleep;

use super::call_limits::{AcquireLimits, CallLimits};
use super::pool::{CallContext, CallError, Pool, Response};
use super::{Connection, Dflockd, Entry};
use crate::clock::Instant;
use crate::engine::{self, EnqueueOutcome, Granted, SlotSpec};
use crate::error::{Error, Operation, TlsErrorKind};
use crate::telemetry;
use crate::wire::{ErrorStatus, Grant, Reply, Request, Seconds};

/// A refusal with plain `error` after this long comes from a server that shuts down: v1.10.0 has no
/// other status for it. It answers `error` at once to a request that it does not understand.
const SHUTDOWN_AFTER: Duration = Duration::from_secs(1);

/// The longest pause before a waiter joins the queue again.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The reason for which one attempt to acquire got no slot.
enum AttemptError {
    /// The server went away, or is about to, while the request was in its queue.
    QueueLost(Error),
    /// The reply is neither a grant nor a timeout.
    Refused(Response),
    Failed(Error),
}

impl Dflockd {
    /// Waits in the queue for at most `wait`. An acquire whose place in the queue is lost with its
    /// connection joins the queue again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives up a slot that was granted in the meantime.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` stores its arguments twice, and every acquire moves this future"
    )]
    pub(crate) fn acquire<'a>(
        &'a self,
        slot: &'a SlotSpec,
        wait: Duration,
    ) -> impl Future<Output = Result<Granted, Error>> + Send + 'a {
        async move {
            let pool = self.pool(slot);
            let started_at = pool.now();
            let call = limits(pool, started_at, wait).call();
            let context = context(slot, Operation::Acquire);
            let called = pool.call(context, request(slot), call, started_at).await;
            let limits = limits(pool, started_at, wait);
            match granted(pool, context, &limits, called) {
                Ok((connection, grant, sent_at)) => {
                    Ok(self.granted(connection, grant, sent_at, |now| limits.immediate(now)))
                }
                // Boxed: the future is large, and rarely used.
                Err(error) => Box::pin(self.recover(slot, limits, error)).await,
            }
        }
    }

    /// Joins the queue, or takes a slot that is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives up a slot that was granted in the meantime.
    pub(crate) async fn enqueue(&self, slot: &SlotSpec) -> Result<EnqueueOutcome, Error> {
        let pool = self.pool(slot);
        let context = context(slot, Operation::Enqueue);
        let (key, primitive, lease) = (slot.key.as_key(), slot.primitive, slot.lease);
        let request = Request::Enqueue {
            key,
            primitive,
            lease,
        };
        let timeout = pool.socket_timeout();
        let limits = CallLimits::immediate(timeout);
        let called = pool.call(context, request, limits, pool.now()).await;
        let response = called.map_err(|error| error.into_error(context, timeout))?;
        let Response {
            connection,
            reply,
            sent_at,
        } = response;
        match reply {
            Reply::Acquired(grant) => {
                let granted = self.granted(connection, grant, sent_at, |_| timeout);
                Ok(EnqueueOutcome::Granted(granted))
            }
            Reply::Queued => Ok(EnqueueOutcome::Queued(entry(connection))),
            reply => {
                let response = Response {
                    connection,
                    reply,
                    sent_at,
                };
                Err(Box::pin(self.refusal(slot, context, response, timeout)).await)
            }
        }
    }

    fn granted(
        &self,
        connection: Box<Connection>,
        grant: Grant,
        sent_at: Instant,
        verify_timeout: impl FnOnce(Instant) -> Duration,
    ) -> Granted {
        let received_at = self.now();
        let verify_timeout = verify_timeout(received_at);
        Granted {
            entry: entry(connection),
            grant,
            sent_at,
            received_at,
            verify_timeout: Some(verify_timeout),
        }
    }

    /// Returns the error of an attempt, or joins the queue again if the place in it was lost, until
    /// there is a slot or the wait is over.
    async fn recover(
        &self,
        slot: &SlotSpec,
        limits: AcquireLimits,
        mut failed: AttemptError,
    ) -> Result<Granted, Error> {
        let pool = self.pool(slot);
        let context = context(slot, Operation::Acquire);
        let mut backoff = self.backoff(slot, MAX_PAUSE);
        let mut has_queued = false;
        loop {
            let (error, retries) = match failed {
                AttemptError::QueueLost(error) => {
                    telemetry::warn_lost_place(slot.labels(), &error);
                    backoff.reset();
                    has_queued = true;
                    (error, true)
                }
                AttemptError::Refused(response) => {
                    let limit = limits.immediate(pool.now());
                    let error = self.refusal(slot, context, response, limit).await;
                    let retries = has_queued && is_unavailable(&error);
                    (error, retries)
                }
                AttemptError::Failed(error) => {
                    let retries = has_queued && is_unavailable(&error);
                    (error, retries)
                }
            };
            let pause = backoff.pause();
            if !retries || pause >= limits.remaining_wait(pool.now()) {
                return Err(error);
            }
            sleep(pause).await;
            let called = pool
                .call_on_new(context, request(slot), limits.call())
                .await;
            failed = match granted(pool, context, &limits, called) {
                Ok((connection, grant, sent_at)) => {
                    return Ok(
                        self.granted(connection, grant, sent_at, |now| limits.immediate(now))
                    );
                }
                Err(failed) => failed,
            };
        }
    }

    /// Returns the error for a reply that is neither a grant nor a timeout. `limit` is the time for
    /// the reply to a request that completes the error.
    #[cfg_attr(
        not(feature = "stats"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "only `stats` sends a request"
        )
    )]
    async fn refusal(
        &self,
        slot: &SlotSpec,
        context: CallContext<'_>,
        response: Response,
        limit: Duration,
    ) -> Error {
        let Response {
            connection,
            reply,
            sent_at,
        } = response;
        let pool = self.pool(slot);
        if reply == Reply::Error(ErrorStatus::LimitMismatch) {
            #[cfg(feature = "stats")]
            let theirs = self.fetch_limit(slot, connection, limit).await;
            #[cfg(not(feature = "stats"))]
            let theirs = {
                pool.put_back(connection, sent_at);
                None
            };
            let ours = slot.primitive.limit().get();
            return Error::LimitMismatch {
                context: context.to_error_context(),
                ours,
                theirs,
            };
        }
        // Any other reply does not belong to this request, so the connection is not reused.
        if matches!(reply, Reply::Error(_)) {
            pool.put_back(connection, sent_at);
        }
        Error::from_reply(context.to_error_context(), &reply)
    }

    /// Returns the limit that the key has on the server, if the server tells it within `limit`.
    #[cfg(feature = "stats")]
    async fn fetch_limit(
        &self,
        slot: &SlotSpec,
        connection: Box<Connection>,
        limit: Duration,
    ) -> Option<u32> {
        let pool = self.pool(slot);
        let sent_at = pool.now();
        let (connection, reply) = connection.call(&Request::Stats, limit).await.ok()?;
        let Reply::Stats(stats) = reply else {
            return None;
        };
        pool.put_back(connection, sent_at);
        stats.conflicting_limit(slot.primitive.limit().get(), slot.key.as_str())
    }
}

fn entry(connection: Box<Connection>) -> engine::Entry {
    engine::Entry::Dflockd(Entry(connection))
}

fn limits(pool: &Pool, started_at: Instant, wait: Duration) -> AcquireLimits {
    AcquireLimits::new(
        started_at,
        wait,
        pool.connect_timeout(),
        pool.socket_timeout(),
    )
}

fn context(slot: &SlotSpec, operation: Operation) -> CallContext<'_> {
    CallContext {
        operation,
        key: Some(slot.key.as_shared()),
        server: &slot.server.name,
    }
}

/// Returns the request of an acquire. The limits of the call set its wait.
fn request(slot: &SlotSpec) -> Request<'_> {
    let (key, primitive, lease) = (slot.key.as_key(), slot.primitive, slot.lease);
    Request::Acquire {
        key,
        primitive,
        wait: Seconds::MAX,
        lease,
    }
}

/// Returns the grant in the response to one attempt, with its connection and the time of the
/// request.
fn granted(
    pool: &Pool,
    context: CallContext<'_>,
    limits: &AcquireLimits,
    called: Result<Response, CallError>,
) -> Result<(Box<Connection>, Grant, Instant), AttemptError> {
    let waited = limits.wait();
    match called {
        Ok(Response {
            connection,
            reply: Reply::Granted(grant),
            sent_at,
        }) => Ok((connection, grant, sent_at)),
        Ok(Response {
            connection,
            reply: Reply::Timeout,
            ..
        }) => {
            // Mark the connection as used now: the request may have been sent long ago.
            pool.put_back(connection, pool.now());
            let context = context.to_error_context();
            Err(AttemptError::Failed(Error::Timeout { context, waited }))
        }
        Ok(response) if is_shutdown(pool, limits, &response) => {
            let error = Error::from_reply(context.to_error_context(), &response.reply);
            Err(AttemptError::QueueLost(error))
        }
        Ok(response) => Err(AttemptError::Refused(response)),
        Err(CallError::Timeout) => {
            let context = context.to_error_context();
            Err(AttemptError::Failed(if limits.awaits_timeout() {
                Error::Unresponsive {
                    context,
                    limit: limits.total(),
                }
            } else {
                Error::Timeout { context, waited }
            }))
        }
        Err(CallError::QueueLost(error)) => Err(AttemptError::QueueLost(error)),
        Err(CallError::Failed(error)) => Err(AttemptError::Failed(error)),
    }
}

/// Returns whether the reply tells a waiter that the server shuts down.
fn is_shutdown(pool: &Pool, limits: &AcquireLimits, response: &Response) -> bool {
    let queued = pool.now().duration_since(response.sent_at);
    match response.reply {
        _ if limits.wait().is_zero() => false,
        Reply::Error(ErrorStatus::Draining) => pool.was_queued(response.sent_at),
        Reply::Error(ErrorStatus::Unspecified) => queued >= SHUTDOWN_AFTER,
        _ => false,
    }
}

/// Returns whether `error` is one of a server that went away and may come back.
fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::Connect { .. }
        | Error::ConnectTimeout { .. }
        | Error::Unresponsive { .. }
        | Error::Disconnected { .. }
        | Error::Draining { .. } => true,
        Error::Tls { kind, .. } => *kind == TlsErrorKind::ConnectionClosed,
        _ => false,
    }
}
