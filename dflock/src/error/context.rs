//! The operation, key and server that an error is about.

use std::fmt;
use std::sync::Arc;

/// The operation that failed, with its key and server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorContext {
    /// The operation that failed.
    pub operation: Operation,
    /// The key, if the operation has one.
    pub key: Option<Arc<str>>,
    /// The server, `host:port`.
    pub server: Arc<str>,
}

impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if let Some(key) = &self.key {
            write!(f, " {key:?}")?;
        }
        write!(f, " on {}", self.server)
    }
}

/// An operation on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Authentication with the auth token.
    Auth,
    /// Acquiring a slot.
    Acquire,
    /// Joining the queue.
    Enqueue,
    /// Waiting in the queue after [`Enqueue`](Self::Enqueue).
    Wait,
    /// Renewing the lease.
    Renew,
    /// Releasing the slot.
    Release,
    /// Requesting the keys of the server with their holders and waiters.
    Stats,
    /// Checking that the server answers.
    Ping,
    /// Listing the holders of a key.
    Holders,
    /// Taking a slot away from its holder.
    Revoke,
    /// Asking for the position in the queue.
    Position,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auth => "auth",
            Self::Acquire => "acquire",
            Self::Enqueue => "enqueue",
            Self::Wait => "wait",
            Self::Renew => "renew",
            Self::Release => "release",
            Self::Stats => "stats",
            Self::Ping => "ping",
            Self::Holders => "holders",
            Self::Revoke => "revoke",
            Self::Position => "position",
        })
    }
}
