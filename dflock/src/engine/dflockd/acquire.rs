//! Joining the queue of a key: acquire and enqueue.

use std::time::Duration;

use tokio::time::sleep;

use super::call_limits::{AcquireLimits, CallLimits};
use super::pool::{CallContext, CallError, Pool, Response};
use super::{Backoff, Connection, Dflockd, Entry};
use crate::clock::Instant;
use crate::engine::{self, EnqueueOutcome, Granted, SlotSpec};
use crate::error::{Error, Operation, TlsErrorKind};
use crate::telemetry;
use crate::wire::{ErrorStatus, Grant, Reply, Request, Seconds};

/// A refusal with plain `error` after this long comes from a server that shuts down: v1.10.0 has no
/// other status for it. It answers `error` at once to a request that it does not understand.
const SHUTDOWN_AFTER: Duration = Duration::from_secs(1);

/// A grant that was received later than this after its request is verified by a renewal before it
/// is held. Half of the shortest lease that the wire can express: no lease can have ended sooner.
const MAX_UNVERIFIED_AGE: Duration = Duration::from_millis(500);

/// The longest pause before a waiter joins the queue again.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The reason for which one attempt to acquire got no slot.
pub(super) enum AttemptError {
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
            // Computed again: stored, the limits would make the future larger.
            let limits = || limits(pool, started_at, wait);
            let failed = match called {
                Ok(Response {
                    connection,
                    reply: Reply::Granted(grant),
                    sent_at,
                }) => {
                    let verify_timeout = |now| limits().immediate(now);
                    return Ok(self.granted(connection, grant, sent_at, verify_timeout));
                }
                failed => failed,
            };
            let limits = limits();
            let error = attempt_error(pool, context, &limits, failed);
            // Boxed: the future is large, and rarely used.
            Box::pin(self.recover(slot, limits, error)).await
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
            Reply::Queued => Ok(EnqueueOutcome::Queued(engine_entry(connection))),
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

    /// Returns the slot of `grant`. `verify_timeout` returns the time for the reply to a renewal.
    fn granted(
        &self,
        connection: Box<Connection>,
        grant: Grant,
        sent_at: Instant,
        verify_timeout: impl FnOnce(Instant) -> Duration,
    ) -> Granted {
        let received_at = self.now();
        let is_late = is_late(sent_at, received_at);
        let verify_timeout = is_late.then(|| verify_timeout(received_at));
        Granted {
            entry: engine_entry(connection),
            grant,
            sent_at,
            received_at,
            verify_timeout,
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
        let mut rejoin = Rejoin::new(self, slot, limits);
        loop {
            rejoin.pause(failed).await?;
            let called = pool
                .call_on_new(context, request(slot), limits.call())
                .await;
            failed = match called {
                Ok(Response {
                    connection,
                    reply: Reply::Granted(grant),
                    sent_at,
                }) => {
                    let verify_timeout = |now| limits.immediate(now);
                    return Ok(self.granted(connection, grant, sent_at, verify_timeout));
                }
                failed => attempt_error(pool, context, &limits, failed),
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

/// The attempts of one acquire to join the queue again after its place in it was lost.
pub(super) struct Rejoin<'a> {
    engine: &'a Dflockd,
    slot: &'a SlotSpec,
    limits: AcquireLimits,
    backoff: Backoff,
    has_queued: bool,
}

impl<'a> Rejoin<'a> {
    pub(super) fn new(engine: &'a Dflockd, slot: &'a SlotSpec, limits: AcquireLimits) -> Self {
        Self {
            engine,
            slot,
            limits,
            backoff: engine.backoff(slot, MAX_PAUSE),
            has_queued: false,
        }
    }

    /// Pauses before the attempt that follows a `failed` one. Returns the error of the acquire if
    /// there is none, because the place in the queue was not lost, or the wait is over.
    pub(super) async fn pause(&mut self, failed: AttemptError) -> Result<(), Error> {
        let pool = self.engine.pool(self.slot);
        let (error, retries) = match failed {
            AttemptError::QueueLost(error) => {
                telemetry::warn_lost_place(self.slot.labels(), &error);
                self.backoff.reset();
                self.has_queued = true;
                (error, true)
            }
            AttemptError::Refused(response) => {
                let limit = self.limits.immediate(pool.now());
                let context = context(self.slot, Operation::Acquire);
                let refusal = self.engine.refusal(self.slot, context, response, limit);
                let error = refusal.await;
                let retries = self.has_queued && is_unavailable(&error);
                (error, retries)
            }
            AttemptError::Failed(error) => {
                let retries = self.has_queued && is_unavailable(&error);
                (error, retries)
            }
        };
        let pause = self.backoff.pause();
        if !retries || pause >= self.limits.remaining_wait(pool.now()) {
            return Err(error);
        }
        sleep(pause).await;
        Ok(())
    }
}

/// Returns the entry that a connection serves, for a lease.
fn engine_entry(connection: Box<Connection>) -> engine::Entry {
    engine::Entry::Dflockd(Entry::new(connection))
}

pub(super) fn limits(pool: &Pool, started_at: Instant, wait: Duration) -> AcquireLimits {
    AcquireLimits::new(
        started_at,
        wait,
        pool.connect_timeout(),
        pool.socket_timeout(),
    )
}

pub(super) fn context(slot: &SlotSpec, operation: Operation) -> CallContext<'_> {
    CallContext {
        operation,
        key: Some(slot.key.as_shared()),
        server: &slot.server.name,
    }
}

/// Returns the request of an acquire. The limits of the call set its wait.
pub(super) fn request(slot: &SlotSpec) -> Request<'_> {
    let (key, primitive, lease) = (slot.key.as_key(), slot.primitive, slot.lease);
    Request::Acquire {
        key,
        primitive,
        wait: Seconds::MAX,
        lease,
    }
}

/// Returns whether the lease of a grant that was requested at `sent_at` can have ended before the
/// grant was received.
pub(super) fn is_late(sent_at: Instant, received_at: Instant) -> bool {
    received_at.duration_since(sent_at) >= MAX_UNVERIFIED_AGE
}

/// Returns the error of an attempt whose response is no grant.
pub(super) fn attempt_error(
    pool: &Pool,
    context: CallContext<'_>,
    limits: &AcquireLimits,
    failed: Result<Response, CallError>,
) -> AttemptError {
    let waited = limits.wait();
    match failed {
        Ok(Response {
            connection,
            reply: Reply::Timeout,
            ..
        }) => {
            // Mark the connection as used now: the request may have been sent long ago.
            pool.put_back(connection, pool.now());
            let context = context.to_error_context();
            AttemptError::Failed(Error::Timeout { context, waited })
        }
        Ok(response) if is_shutdown(pool, limits, &response) => {
            let context = context.to_error_context();
            AttemptError::QueueLost(Error::from_reply(context, &response.reply))
        }
        Ok(response) => AttemptError::Refused(response),
        Err(CallError::Timeout) => {
            let context = context.to_error_context();
            AttemptError::Failed(if limits.awaits_timeout() {
                Error::Unresponsive {
                    context,
                    limit: limits.total(),
                }
            } else {
                Error::Timeout { context, waited }
            })
        }
        Err(CallError::QueueLost(error)) => AttemptError::QueueLost(error),
        Err(CallError::Failed(error)) => AttemptError::Failed(error),
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
