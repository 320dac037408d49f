//! The loss of a held slot.

use std::fmt;
use std::sync::Arc;

use crate::wire::Token;

/// The loss of a held slot. It is final: a lost slot cannot be held again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The key of the slot.
    pub key: Arc<str>,
    /// The token of the grant.
    pub token: Token,
    /// The server that granted the slot, `host:port`.
    pub server: Arc<str>,
    /// The reason of the loss.
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
            "the slot of {key:?} on {server} is lost: {reason}; stop what it protects, and acquire \
             again"
        )
    }
}

impl std::error::Error for Lost {}

/// The reason why a slot was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease expired before it could be renewed.
    ///
    /// The program was suspended, or its executor did not run.
    Expired,
    /// The server refused the renewal: it no longer counts the slot as held.
    Rejected,
    /// The connection ended, which frees the slot.
    Disconnected,
    /// A renewal was sent, and the lease expired before the answer came.
    Unreachable,
    /// The slot was held for as long as [`max_hold`](crate::SemaphoreBuilder::max_hold) allows.
    Overdue,
    /// The slot was taken away: its entry was deleted or its lease revoked. On etcd only.
    Revoked,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease expired before it could be renewed",
            Self::Rejected => "the server refused to renew it",
            Self::Disconnected => "its connection ended",
            Self::Unreachable => "the server did not answer while its lease lasted",
            Self::Overdue => "it was held for as long as max_hold allows",
            Self::Revoked => "it was revoked",
        })
    }
}
