//! The end of a hold that its owner did not ask for.

use std::fmt;
use std::sync::Arc;

use crate::wire::Token;

/// A slot that was held is gone. This is final: nothing un-loses a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The key of the slot.
    pub key: Arc<str>,
    /// The token that proved the hold.
    pub token: Token,
    /// The server that granted it, `host:port`.
    pub server: Arc<str>,
    /// How it was lost.
    pub reason: LostReason,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            server,
            reason,
            ..
        } = self;
        write!(
            f,
            "the slot of {key:?} on {server} is lost: {reason}; stop what it protects, and acquire again"
        )
    }
}

impl std::error::Error for Lost {}

/// How a slot was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease ended before it could be renewed: the program was suspended, or its executor did not run.
    Expired,
    /// The server refused the renewal: it had given the slot up.
    Rejected,
    /// The connection ended, and the slot with it.
    Disconnected,
    /// A renewal was sent, and no answer came while the lease lasted.
    Unreachable,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease ended before it could be renewed",
            Self::Rejected => "the server refused to renew it",
            Self::Disconnected => "its connection ended",
            Self::Unreachable => "the server did not answer while its lease lasted",
        })
    }
}
