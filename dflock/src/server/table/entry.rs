//! Records of the table: keys, holders, waiters and connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::{ConnectionId, KeyId, WaiterId};
use crate::wire::{LeaseSeconds, Limit, Token};

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
