//! What was tried when it failed, on which key and server.

use std::fmt;
use std::sync::Arc;

/// What was tried, on which key and server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorContext {
    /// What was tried.
    pub operation: Operation,
    /// On which key, if on one.
    pub key: Option<Arc<str>>,
    /// On which server, `host:port`.
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

/// What can be tried on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// To show the shared secret.
    Auth,
    /// To get a slot.
    Acquire,
    /// To join the line.
    Enqueue,
    /// To wait in the line that was joined.
    Wait,
    /// To begin the lease anew.
    Renew,
    /// To give the slot back.
    Release,
    /// To ask who holds what.
    Stats,
    /// To ask for any answer.
    Ping,
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
        })
    }
}
