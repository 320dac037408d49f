//! The connections to one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::call_limits::CallLimits;
use super::idle_connections::IdleConnections;
use super::{Connection, ConnectionError, Dialer};
use crate::clock::{Clock, Instant};
use crate::driver;
use crate::error::{ConfigError, Error, ErrorContext, Operation};
use crate::telemetry;
use crate::wire::{ErrorStatus, Reply, Request};

/// A request that had no reply for this long is in the queue of its key. A connection that ends
/// sooner says nothing about a queue: a server that speaks another protocol closes it as well.
const QUEUED_AFTER: Duration = Duration::from_millis(100);

/// The idle connections to one server, and the means to make new ones.
#[derive(Debug)]
pub(crate) struct Pool {
    server: Arc<str>,
    dialer: Arc<Dialer>,
    clock: Clock,
    idle: Arc<IdleConnections>,
    /// The time of the last request that has a reply, in nanoseconds of the clock.
    last_replied: AtomicU64,
    /// The number of jitter seeds that were given out.
    seeds: AtomicU64,
}

/// The subject of a call, for its error. It is borrowed: the names are shared by all threads, so
/// that cloning them for every call would contend on their reference counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallContext<'a> {
    pub(super) operation: Operation,
    pub(super) key: Option<&'a Arc<str>>,
    pub(super) server: &'a Arc<str>,
}

/// A reply, and the connection on which it was received.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) connection: Box<Connection>,
    pub(super) reply: Reply,
    /// A time before the request was sent.
    pub(super) sent_at: Instant,
}

/// The reason for which a request has no reply.
#[derive(Debug)]
pub(super) enum CallError {
    /// The server sent nothing in time. The connection is closed.
    Timeout,
    /// The connection ended while the request was in the queue of its key.
    QueueLost(Error),
    /// The request could not be sent, or the connection failed.
    Failed(Error),
}

impl CallContext<'_> {
    pub(super) fn to_error_context(self) -> ErrorContext {
        let (key, server) = (self.key.cloned(), self.server.clone());
        ErrorContext {
            operation: self.operation,
            key,
            server,
        }
    }
}

impl CallError {
    /// Returns the error of a request that the server had to answer at once, within `limit`.
    pub(super) fn into_error(self, context: CallContext<'_>, limit: Duration) -> Error {
        match self {
            Self::Timeout => Error::Unresponsive {
                context: context.to_error_context(),
                limit,
            },
            Self::QueueLost(error) | Self::Failed(error) => error,
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ConfigError> for CallError {
    fn from(error: ConfigError) -> Self {
        Self::Failed(error.into())
    }
}

impl Pool {
    pub(crate) fn new(
        server: Arc<str>,
        dialer: Arc<Dialer>,
        clock: Clock,
        idle_timeout: Duration,
        max_age: Duration,
    ) -> Self {
        let idle = IdleConnections::new(clock.clone(), idle_timeout, max_age);
        let (last_replied, seeds) = (AtomicU64::default(), AtomicU64::default());
        Self {
            server,
            dialer,
            clock,
            idle,
            last_replied,
            seeds,
        }
    }

    pub(crate) fn server(&self) -> &Arc<str> {
        &self.server
    }

    pub(super) fn context(&self, operation: Operation) -> CallContext<'_> {
        CallContext {
            operation,
            key: None,
            server: &self.server,
        }
    }

    /// Sends `request` on an idle connection, or on a new one. An idle connection that has ended, or
    /// that the server still counts in a queue, is replaced once. `sent_at` is now.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` stores its arguments twice, and every acquire moves this future"
    )]
    pub(super) fn call<'a>(
        &'a self,
        context: CallContext<'a>,
        request: Request<'a>,
        limits: CallLimits,
        sent_at: Instant,
    ) -> impl Future<Output = Result<Response, CallError>> + Send + 'a {
        async move {
            let runtime = driver::runtime_id()?;
            if let Some(connection) = self.idle.take(runtime, sent_at) {
                let call = {
                    let request = limits.apply(request, sent_at);
                    connection.call(&request, limits.reply(sent_at))
                };
                match call.await {
                    Ok((_, reply)) if is_stale_enqueue(&request, &reply) => {}
                    Ok((connection, reply)) => {
                        self.note_reply(sent_at);
                        telemetry::record_reused_connection(&self.server);
                        return Ok(Response {
                            connection,
                            reply,
                            sent_at,
                        });
                    }
                    Err(ConnectionError::Timeout(_)) => {
                        self.close_unused_since(sent_at);
                        return Err(CallError::Timeout);
                    }
                    Err(error)
                        if error.is_disconnect()
                            && !self.is_queued(&limits.apply(request, sent_at), sent_at) => {}
                    Err(error) => {
                        let request = limits.apply(request, sent_at);
                        return Err(self.call_error(error, context, &request, sent_at));
                    }
                }
            }
            // Boxed: the future is large, and rarely used.
            Box::pin(self.call_on_new(context, request, limits)).await
        }
    }

    /// Sends `request` on a new connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn call_on_new(
        &self,
        context: CallContext<'_>,
        request: Request<'_>,
        limits: CallLimits,
    ) -> Result<Response, CallError> {
        let connection = self.open(context, limits).await?;
        let sent_at = self.now();
        let request = limits.apply(request, sent_at);
        match connection.call(&request, limits.reply(sent_at)).await {
            Ok((connection, reply)) => {
                self.note_reply(sent_at);
                Ok(Response {
                    connection,
                    reply,
                    sent_at,
                })
            }
            Err(error) => Err(self.call_error(error, context, &request, sent_at)),
        }
    }

    /// Opens a connection.
    pub(super) async fn open(
        &self,
        context: CallContext<'_>,
        limits: CallLimits,
    ) -> Result<Box<Connection>, Error> {
        // Its age counts from here: the name of the server is resolved afterwards.
        let opened = self.now();
        let reuse_until = self.idle.reuse_until(opened);
        let connection = self
            .dialer
            .dial(context, limits.connect(opened), reuse_until)
            .await?;
        telemetry::record_opened_connection(&self.server);
        Ok(connection)
    }

    /// Sends `request`, which the server answers at once, and returns its reply.
    pub(super) async fn call_immediate(
        &self,
        context: CallContext<'_>,
        request: Request<'_>,
    ) -> Result<Response, Error> {
        let timeout = self.socket_timeout();
        let called = self
            .call(context, request, CallLimits::immediate(timeout), self.now())
            .await;
        called.map_err(|error| error.into_error(context, timeout))
    }

    fn call_error(
        &self,
        error: ConnectionError,
        context: CallContext<'_>,
        request: &Request<'_>,
        sent_at: Instant,
    ) -> CallError {
        let is_queue_lost = error.is_disconnect() && self.is_queued(request, sent_at);
        match error {
            ConnectionError::Timeout(_) => CallError::Timeout,
            error => match error.into_error(context.to_error_context()) {
                // A server that speaks TLS has no queue.
                error @ Error::Tls { .. } => CallError::Failed(error),
                error if is_queue_lost => CallError::QueueLost(error),
                error => CallError::Failed(error),
            },
        }
    }

    /// Returns whether `request`, which was sent at `sent_at` and has no reply, is in a queue.
    fn is_queued(&self, request: &Request<'_>, sent_at: Instant) -> bool {
        let can_queue = matches!(request, Request::Acquire { wait, .. } if wait.get() > 0);
        can_queue && self.was_queued(sent_at)
    }

    /// Returns whether a request that was sent at `sent_at` has been in a queue, if it can be.
    pub(super) fn was_queued(&self, sent_at: Instant) -> bool {
        self.now().duration_since(sent_at) >= QUEUED_AFTER
    }

    /// Closes the idle connections that were used last before a request that was sent at `sent_at`
    /// and had no reply, unless the server has replied to a later request. The network may
    /// have dropped all of them silently, and each would cost another timeout.
    pub(super) fn close_unused_since(&self, sent_at: Instant) {
        if self.last_replied.load(Ordering::Relaxed) <= sent_at.as_nanos() {
            self.idle.close_unused_since(sent_at);
        }
    }

    /// Closes the idle connections, and keeps none from here on.
    pub(super) fn close_idle(&self) {
        self.idle.close();
    }

    /// Notes that a request that was sent at `sent_at` has a reply.
    pub(super) fn note_reply(&self, sent_at: Instant) {
        self.last_replied
            .store(sent_at.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.dialer.connect_timeout
    }

    pub(super) fn socket_timeout(&self) -> Duration {
        self.dialer.socket_timeout
    }

    /// Returns a seed for jitter that no other call of this pool gets. A simulation that is repeated
    /// gets the same seeds.
    pub(super) fn jitter_seed(&self) -> u64 {
        let waiter = self.seeds.fetch_add(1, Ordering::Relaxed);
        self.now().as_nanos() ^ waiter.rotate_right(16)
    }

    /// Returns `connection`, which was used last at `used`, to the idle ones, unless a reply is
    /// pending on it.
    pub(super) fn put_back(&self, connection: Box<Connection>, used: Instant) {
        if connection.is_idle() {
            self.idle.put(connection, used);
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }
}

/// Returns whether the server refused an enqueue because it still counts an earlier one on the
/// connection, as servers before v1.15 do until the connection ends.
fn is_stale_enqueue(request: &Request<'_>, reply: &Reply) -> bool {
    // The Python server answers `error` to everything.
    let is_refused = matches!(
        reply,
        Reply::Error(ErrorStatus::AlreadyEnqueued | ErrorStatus::Unspecified)
    );
    matches!(request, Request::Enqueue { .. }) && is_refused
}
