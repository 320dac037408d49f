//! Ids of keys, connections and waiters.

use std::sync::Arc;

use crate::wire::{Key, Kind};

/// A key and its kind: a lock and a semaphore of the same name are two keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyId {
    pub(super) kind: Kind,
    pub(super) key: Arc<str>,
}

impl KeyId {
    pub(super) fn new(kind: Kind, key: Key<'_>) -> Self {
        Self {
            kind,
            key: key.as_str().into(),
        }
    }
}

/// Number of a connection, as `stats` shows it. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Number of a waiter, in order of arrival. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(super) u64);
