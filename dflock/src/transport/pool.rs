//! One request and its reply, on a connection that is kept for the next.

use std::sync::Arc;
use std::time::Duration;

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Id;

use super::idle::Idle;
use super::{Clock, Connection, Dialer, Fault, Instant, driver};
use crate::error::{ConfigError, Error, ErrorContext, Operation};
use crate::telemetry;
use crate::wire::{Reply, Request, Status};

/// A request that the server may keep in a queue is taken to be in the queue when it had no reply for
/// this long. A connection that ends sooner says nothing about a queue: a server that speaks TLS, or
/// another protocol, closes it as well.
pub(crate) const QUEUED_AFTER: Duration = Duration::from_millis(100);

/// The connections to one server that nobody holds anything on.
#[derive(Debug)]
pub(crate) struct Pool {
    server: Arc<str>,
    dialer: Arc<Dialer>,
    clock: Clock,
    idle: Arc<Idle>,
    /// Number of jitter seeds that were given out.
    seeds: AtomicU64,
}

/// A request, and how long its reply may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) limit: Duration,
    /// How long a new connection may take to be ready, if less than the client's own limits.
    pub(crate) connect: Duration,
}

impl<'a> Ask<'a> {
    /// A request that the server answers at once.
    pub(crate) fn prompt(request: Request<'a>, limit: Duration) -> Self {
        Self {
            request,
            limit,
            connect: Duration::MAX,
        }
    }
}

/// A reply, and the connection that it came on.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) connection: Box<Connection>,
    pub(crate) reply: Reply,
    /// A point before the request was sent.
    pub(crate) asked: Instant,
}

/// Reason for which a request has no reply.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// The server sent nothing in time. The connection is closed.
    Silent,
    /// The connection ended after [`QUEUED_AFTER`], while the server kept the request in a queue.
    Ended(Error),
    /// Everything else.
    Failed(Error),
}

impl NoReply {
    /// Returns the error of a request that the server owed an immediate reply, within `limit`.
    pub(crate) fn into_error(self, context: ErrorContext, limit: Duration) -> Error {
        match self {
            Self::Silent => Error::Unresponsive { context, limit },
            Self::Ended(error) | Self::Failed(error) => error,
        }
    }
}

impl From<Error> for NoReply {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ConfigError> for NoReply {
    fn from(error: ConfigError) -> Self {
        Self::Failed(error.into())
    }
}

impl Pool {
    pub(crate) fn new(
        server: Arc<str>,
        dialer: Arc<Dialer>,
        clock: Clock,
        max_idle: Duration,
        max_age: Duration,
    ) -> Self {
        let idle = Idle::new(clock.clone(), max_idle, max_age);
        Self {
            server,
            dialer,
            idle,
            clock,
            seeds: AtomicU64::default(),
        }
    }

    /// The runtime that this is called on.
    pub(crate) fn runtime() -> Result<Id, ConfigError> {
        driver::runtime()
    }

    pub(crate) fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// What is tried here, for errors.
    pub(crate) fn context(&self, operation: Operation, key: Option<&Arc<str>>) -> ErrorContext {
        ErrorContext {
            operation,
            key: key.cloned(),
            server: self.server.clone(),
        }
    }

    /// Asks on an idle connection, or a new one. An idle one that turns out to have ended, or to be in a line already, is replaced,
    /// once.
    ///
    /// `at` says what is tried, when that has to be told: the names are shared by all threads, and to count their users costs.
    /// `began` is now. `ask` is given how much time has passed since then, so that the second try asks for no more than what is
    /// left.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it closes the connection.
    pub(crate) async fn call<'a>(
        &self,
        began: Instant,
        context: &impl Fn() -> ErrorContext,
        ask: &impl Fn(Duration) -> Ask<'a>,
    ) -> Result<Answer, NoReply> {
        let runtime = Self::runtime()?;
        if let Some(connection) = self.idle.take(runtime, began) {
            let (call, is_enqueue, may_queue) = {
                let Ask { request, limit, .. } = ask(Duration::ZERO);
                (
                    connection.call(&request, limit),
                    matches!(request, Request::Enqueue { .. }),
                    may_queue(&request),
                )
            };
            match call.await {
                Ok((_, reply)) if is_enqueue && is_in_line(&reply) => {}
                Ok((connection, reply)) => {
                    telemetry::reused(&self.server);
                    return Ok(Answer {
                        connection,
                        reply,
                        asked: began,
                    });
                }
                Err(Fault::Silence(_)) => {
                    self.close_unused_since(began);
                    return Err(NoReply::Silent);
                }
                Err(fault) if fault.is_end() && !(may_queue && self.is_queued_since(began)) => {}
                Err(fault) => return Err(self.no_reply(fault, context(), may_queue, began)),
            }
        }
        // boxed: it is large, and rare
        Box::pin(self.call_anew(began, context, ask)).await
    }

    /// Asks on a new connection. `began` is the time from which `ask` counts.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it closes the connection.
    pub(crate) async fn call_anew<'a>(
        &self,
        began: Instant,
        context: &impl Fn() -> ErrorContext,
        ask: &impl Fn(Duration) -> Ask<'a>,
    ) -> Result<Answer, NoReply> {
        let opened = self.now();
        let connect = ask(opened.since(began)).connect;
        let connection = self.dialer.dial(&context(), connect, opened).await?;
        telemetry::opened(&self.server);
        let asked = self.now();
        let Ask { request, limit, .. } = ask(asked.since(began));
        match connection.call(&request, limit).await {
            Ok((connection, reply)) => Ok(Answer {
                connection,
                reply,
                asked,
            }),
            Err(fault) => Err(self.no_reply(fault, context(), may_queue(&request), asked)),
        }
    }

    /// Reason for which a request, sent at `asked`, has no reply.
    fn no_reply(
        &self,
        fault: Fault,
        context: ErrorContext,
        may_queue: bool,
        asked: Instant,
    ) -> NoReply {
        match fault {
            Fault::Silence(_) => NoReply::Silent,
            fault if fault.is_end() && may_queue && self.is_queued_since(asked) => {
                NoReply::Ended(fault.into_error(context))
            }
            fault => NoReply::Failed(fault.into_error(context)),
        }
    }

    /// Whether a request that was sent at `asked`, and has no reply, is in a queue by now.
    pub(crate) fn is_queued_since(&self, asked: Instant) -> bool {
        self.now().since(asked) >= QUEUED_AFTER
    }

    /// Closes the idle connections that were used last before `asked`, when a request was sent that
    /// got no reply: the network may have dropped all of them without a word, and each would cost
    /// another timeout.
    pub(crate) fn close_unused_since(&self, asked: Instant) {
        self.idle.close_unused_since(asked);
    }

    pub(crate) fn idle(&self) -> &Arc<Idle> {
        &self.idle
    }

    /// Limits of time to connect and to wait for one reply.
    pub(crate) fn timeouts(&self) -> (Duration, Duration) {
        (self.dialer.connect_timeout, self.dialer.socket_timeout)
    }

    /// Returns a seed for jitter: no two waiters have the same one, and a simulation that is repeated
    /// has the same seeds.
    pub(crate) fn jitter_seed(&self) -> u64 {
        let waiter = self.seeds.fetch_add(1, Ordering::Relaxed);
        self.now().as_nanos() ^ waiter.rotate_right(16)
    }

    /// Keeps `connection`, which was `used` last, for the next request, unless something is owed on it.
    pub(crate) fn give(&self, connection: Box<Connection>, used: Instant) {
        if connection.is_idle() {
            self.idle.put(connection, used);
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }
}

/// Whether the server may keep `request` in a queue before it replies.
fn may_queue(request: &Request<'_>) -> bool {
    matches!(request, Request::Acquire { wait, .. } if wait.get() > 0)
}

/// Whether the reply to an enqueue says that the server has kept an earlier one in mind that is long over, as servers before v1.15 do
/// until its connection ends.
fn is_in_line(reply: &Reply) -> bool {
    // the Python server has one word for everything
    matches!(
        reply,
        Reply::Refused(Status::AlreadyEnqueued | Status::Error)
    )
}
