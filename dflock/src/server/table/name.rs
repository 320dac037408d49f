//! What a key is called on the server, and the numbers of connections and waiters.

use std::sync::Arc;

use crate::wire::{Key, Kind};

/// A key and its family: locks and semaphores have separate names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(super) kind: Kind,
    pub(super) key: Arc<str>,
}

impl Name {
    pub(super) fn new(kind: Kind, key: Key<'_>) -> Self {
        Self { kind, key: key.as_str().into() }
    }
}

/// The server's number for a connection, never used again; `stats` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// The server's number for a waiter, in order of arrival, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(super) u64);
