//! Events for the simulation, which checks them against its history.

use std::fmt;
use std::sync::Arc;

use crate::wire::Token;

/// An event of the table. Connections and waiters are numbered in order of arrival, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "hidden, and the names suffice")]
pub enum Event {
    /// A waiter was added to the queue.
    Joined {
        key: Arc<str>,
        waiter: u64,
        connection: u64,
    },
    /// A waiter was removed from the queue without a slot.
    Left { key: Arc<str>, waiter: u64 },
    /// A slot was granted: at once, or to a queued waiter.
    Granted {
        key: Arc<str>,
        token: Token,
        connection: u64,
        waiter: Option<u64>,
    },
    /// A lease was restarted.
    Renewed { token: Token },
    /// A hold ended.
    Ended {
        key: Arc<str>,
        token: Token,
        reason: EndReason,
    },
    /// A connection sent nothing for the read timeout and is closed now.
    ReadTimeout { connection: u64 },
}

/// Reason why a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A client released it.
    Released,
    /// Its lease expired.
    Expired,
    /// [`Faults::expire`](super::Faults::expire) ended it.
    Forced,
    /// Its connection ended.
    Disconnected,
}

/// Callback for events, if there is one. It runs inside the lock of the registry, so it must not
/// call the server.
#[derive(Clone, Default)]
pub(super) struct Observer(pub(super) Option<Arc<dyn Fn(Event) + Send + Sync>>);

impl Observer {
    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.0 {
            observer(event());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
