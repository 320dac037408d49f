//! One request and its reply, on a connection that is kept for the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::idle::Idle;
use super::{Connection, Dialer, Fault, Instant};
use crate::error::{Attempt, ConfigError, Error, Operation};
use crate::watch;
use crate::wire::{Reply, Request, Status};

/// The connections to one server that nobody holds anything on.
#[derive(Debug)]
pub(crate) struct Pool {
    server: Arc<str>,
    dialer: Arc<Dialer>,
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
    pub(crate) fn new(server: Arc<str>, dialer: Arc<Dialer>, max_idle: Duration) -> Self {
        let idle = Idle::new(dialer.clock(), max_idle);
        Self { server, dialer, idle }
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
    pub(crate) async fn call<'a>(&self, at: impl Fn() -> Attempt, ask: impl Fn(Duration) -> Ask<'a>) -> Result<Option<Answer>, Error> {
        let runtime = Handle::try_current().map_err(|_| ConfigError::NoRuntime)?.id();
        let mut first = None;
        let began = self.now();
        let mut idle = self.idle.take(runtime, began);
        loop {
            let reused = idle.is_some();
            let (connection, asked) = if let Some(connection) = idle.take() {
                (connection, began)
            } else {
                // boxed: it is large, and rare
                let connection = Box::pin(self.dialer.dial(&at())).await?;
                watch::opened(&self.server);
                (connection, self.now())
            };
            let Ask { request, limit } = ask(asked.since(*first.get_or_insert(asked)));
            match connection.call(&request, limit).await {
                Ok((_, reply)) if reused && is_in_line(&request, &reply) => {}
                Ok((connection, reply)) => {
                    if reused {
                        watch::reused(&self.server);
                    }
                    return Ok(Some(Answer { connection, reply, asked }));
                }
                Err(Fault::Silence(_)) => return Ok(None),
                Err(fault) if reused && fault.is_end() => {}
                Err(fault) => return Err(fault.into_error(at())),
            }
        }
    }

    /// Keeps `connection`, which was `used` last, for the next request, unless something is owed on it.
    pub(crate) fn give(&self, connection: Box<Connection>, used: Instant) {
        if connection.is_quiet() {
            self.idle.put(connection, used);
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.dialer.clock().now()
    }
}

/// Whether the server has kept an earlier enqueue in mind that is long over, as servers before v1.15 do until its connection ends.
fn is_in_line(request: &Request<'_>, reply: &Reply) -> bool {
    // the Python server has one word for everything
    matches!((request, reply), (Request::Enqueue { .. }, Reply::Refused(Status::AlreadyEnqueued | Status::Error)))
}
