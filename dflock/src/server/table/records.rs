//! Records of the table: keys, holders, waiters and connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::wire::{Key, Kind, LeaseSeconds, Limit, Token};

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

/// Entries by key. Each kind has a separate map, so that a lookup can borrow the key's text.
#[derive(Debug, Default)]
pub(super) struct KeyMap {
    locks: HashMap<Arc<str>, Entry>,
    semaphores: HashMap<Arc<str>, Entry>,
}

impl KeyMap {
    /// Returns the entry of a key and the id that the map shares with its callers.
    pub(super) fn find(&self, kind: Kind, key: Key<'_>) -> Option<(KeyId, &Entry)> {
        let (key, entry) = self.map(kind).get_key_value(key.as_str())?;
        Some((
            KeyId {
                kind,
                key: Arc::clone(key),
            },
            entry,
        ))
    }

    pub(super) fn get(&self, key: &KeyId) -> Option<&Entry> {
        self.map(key.kind).get(&key.key)
    }

    pub(super) fn get_mut(&mut self, key: &KeyId) -> Option<&mut Entry> {
        self.map_mut(key.kind).get_mut(&key.key)
    }

    pub(super) fn insert(&mut self, key: KeyId, entry: Entry) {
        self.map_mut(key.kind).insert(key.key, entry);
    }

    pub(super) fn remove(&mut self, key: &KeyId) -> Option<Entry> {
        self.map_mut(key.kind).remove(&key.key)
    }

    /// Iterates over all entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyId, &Entry)> {
        [Kind::Lock, Kind::Semaphore].into_iter().flat_map(|kind| {
            let entries = self.map(kind).iter();
            entries.map(move |(key, entry)| {
                (
                    KeyId {
                        kind,
                        key: Arc::clone(key),
                    },
                    entry,
                )
            })
        })
    }

    pub(super) fn len(&self) -> usize {
        self.locks.len() + self.semaphores.len()
    }

    fn map(&self, kind: Kind) -> &HashMap<Arc<str>, Entry> {
        match kind {
            Kind::Lock => &self.locks,
            Kind::Semaphore => &self.semaphores,
        }
    }

    fn map_mut(&mut self, kind: Kind) -> &mut HashMap<Arc<str>, Entry> {
        match kind {
            Kind::Lock => &mut self.locks,
            Kind::Semaphore => &mut self.semaphores,
        }
    }
}

/// State of one key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) limit: Limit,
    pub(super) holders: HashMap<Token, Holder>,
    /// Queued waiters. Ids grow in order of arrival, so the first is the next to be granted.
    pub(super) queue: BTreeSet<WaiterId>,
    /// Enqueues that no `wait` has answered yet.
    pub(super) enqueued: HashMap<ConnectionId, WaiterId>,
    /// Time at which the key became idle; meaningful only while the key is idle.
    pub(super) idle_since: Duration,
}

impl Entry {
    pub(super) fn new(limit: Limit, now: Duration) -> Self {
        Self {
            limit,
            holders: HashMap::new(),
            queue: BTreeSet::new(),
            enqueued: HashMap::new(),
            idle_since: now,
        }
    }

    pub(super) fn has_free_slot(&self) -> bool {
        self.holders.len() < self.limit.get() as usize
    }

    pub(super) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.queue.is_empty()
    }
}

/// Holder of one slot.
#[derive(Debug)]
pub(super) struct Holder {
    /// Connection that acquired the slot. The slot ends with this connection.
    pub(super) connection: ConnectionId,
    pub(super) expires: Duration,
    /// Waiter that was granted the slot and may still ask for it.
    pub(super) waiter: Option<WaiterId>,
}

/// Identity of a hold.
#[derive(Clone, Debug)]
pub(super) struct HoldId {
    pub(super) key: KeyId,
    pub(super) token: Token,
}

/// A queued request, or an enqueue that no `wait` has answered yet.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) key: KeyId,
    pub(super) connection: ConnectionId,
    pub(super) lease: LeaseSeconds,
    pub(super) state: WaiterState,
}

/// State of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaiterState {
    Queued,
    /// The waiter has a slot, but its client has not received the token yet.
    Granted(Token),
    /// The waiter has a slot and the reply to its enqueue carried the token. A `wait` repeats it.
    Acquired(Token),
    /// The waiter had a slot whose lease expired before its `wait`.
    Expired,
}

/// Holds and waiters of one connection, so that a disconnect does not search the table.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// Holds by fence, so that a disconnect ends them in the order of their grants.
    pub(super) holds: BTreeMap<u64, HoldId>,
    pub(super) waiters: BTreeSet<WaiterId>,
}

impl ConnectionState {
    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.waiters.is_empty()
    }
}
