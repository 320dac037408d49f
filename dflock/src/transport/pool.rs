//! One request and its reply, on a connection that is kept for the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use super::idle::Idle;
use super::{Clock, Connection, Dialer, Fault, Instant};
use crate::error::{Attempt, ConfigError, Error, Operation};
use crate::watch;
use crate::wire::{Reply, Request, Status};

/// The connections to one server that nobody holds anything on.
#[derive(Debug)]
pub(crate) struct Pool {
    server: Arc<str>,
    dialer: Arc<Dialer>,
    clock: Clock,
    idle: Arc<Idle>,
}

/// A request, and how long its reply may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) limit: Duration,
}

/// A reply, and the connection that it came on.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) connection: Box<Connection>,
    pub(crate) reply: Reply,
    /// A point before the request was sent.
    pub(crate) asked: Instant,
}

impl Pool {
    pub(crate) fn new(server: Arc<str>, dialer: Arc<Dialer>, clock: Clock, max_idle: Duration, max_age: Duration) -> Self {
        Self { server, dialer, idle: Idle::new(clock.clone(), max_idle, max_age), clock }
    }

    /// The runtime that this is called on.
    pub(crate) fn runtime() -> Result<Id, ConfigError> {
        Handle::try_current().map(|handle| handle.id()).map_err(|_| ConfigError::NoRuntime)
    }

    pub(crate) fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// What is tried here, for errors.
    pub(crate) fn attempt(&self, operation: Operation, key: Option<&Arc<str>>) -> Attempt {
        Attempt { operation, key: key.cloned(), server: self.server.clone() }
    }

    /// Asks on an idle connection, or a new one. An idle one that turns out to have ended, or to be in a line already, is replaced,
    /// once.
    ///
    /// `at` says what is tried, when that has to be told: the names are shared by all threads, and to count their users costs.
    /// `ask` is given how much time has passed since the first try, so that the second asks for no more than what is left.
    /// `Ok(None)`: the reply did not come in its time, and the connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it closes the connection.
    pub(crate) async fn call<'a>(&self, at: &impl Fn() -> Attempt, ask: &impl Fn(Duration) -> Ask<'a>) -> Result<Option<Answer>, Error> {
        let runtime = Self::runtime()?;
        let asked = self.now();
        let idle = self.idle.take(runtime, asked);
        let first = idle.is_some().then_some(asked);
        if let Some(connection) = idle {
            let (call, is_enqueue) = {
                let Ask { request, limit } = ask(Duration::ZERO);
                (connection.call(&request, limit), matches!(request, Request::Enqueue { .. }))
            };
            match call.await {
                Ok((_, reply)) if is_enqueue && is_in_line(&reply) => {}
                Ok((connection, reply)) => {
                    watch::reused(&self.server);
                    return Ok(Some(Answer { connection, reply, asked }));
                }
                Err(Fault::Silence(_)) => return Ok(None),
                Err(fault) if fault.is_end() => {}
                Err(fault) => return Err(fault.into_error(at())),
            }
        }
        // boxed: it is large, and rare
        Box::pin(self.call_anew(first, at, ask)).await
    }

    /// Asks on a new connection, when another was tried at `first`, if any.
    async fn call_anew<'a>(
        &self,
        first: Option<Instant>,
        at: &impl Fn() -> Attempt,
        ask: &impl Fn(Duration) -> Ask<'a>,
    ) -> Result<Option<Answer>, Error> {
        let connection = self.dialer.dial(&at(), self.now()).await?;
        watch::opened(&self.server);
        let asked = self.now();
        let Ask { request, limit } = ask(first.map_or(Duration::ZERO, |first| asked.since(first)));
        match connection.call(&request, limit).await {
            Ok((connection, reply)) => Ok(Some(Answer { connection, reply, asked })),
            Err(Fault::Silence(_)) => Ok(None),
            Err(fault) => Err(fault.into_error(at())),
        }
    }

    /// Keeps `connection`, which was `used` last, for the next request, unless something is owed on it.
    pub(crate) fn give(&self, connection: Box<Connection>, used: Instant) {
        if connection.is_quiet() {
            self.idle.put(connection, used);
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }
}

/// Whether the reply to an enqueue says that the server has kept an earlier one in mind that is long over, as servers before v1.15 do
/// until its connection ends.
fn is_in_line(reply: &Reply) -> bool {
    // the Python server has one word for everything
    matches!(reply, Reply::Refused(Status::AlreadyEnqueued | Status::Error))
}
