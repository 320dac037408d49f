//! What the table keeps of one key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::{ConnectionId, Name, WaiterId};
use crate::wire::{LeaseSeconds, Limit, Token};

/// One key: who holds it, who stands in line.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) limit: Limit,
    pub(super) holders: HashMap<Token, Holder>,
    /// Waiters' numbers grow as they come, so their order is the order of arrival.
    pub(super) line: BTreeSet<WaiterId>,
    /// The two-phase state: who enqueued and has not been answered by a wait.
    pub(super) enqueued: HashMap<ConnectionId, WaiterId>,
    /// When it was last held or waited for; only looked at while it is neither.
    pub(super) idle_since: Duration,
}

impl Entry {
    pub(super) fn new(limit: Limit, now: Duration) -> Self {
        Self { limit, holders: HashMap::new(), line: BTreeSet::new(), enqueued: HashMap::new(), idle_since: now }
    }

    pub(super) fn has_room(&self) -> bool {
        self.holders.len() < self.limit.get() as usize
    }

    pub(super) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.line.is_empty()
    }
}

/// One slot that is held.
#[derive(Debug)]
pub(super) struct Holder {
    /// Who acquired it: when that connection ends, the slot goes.
    pub(super) connection: ConnectionId,
    pub(super) ends: Duration,
    /// The waiter that it was granted to and that may still ask for it.
    pub(super) waiter: Option<WaiterId>,
}

/// Which hold it is.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: Name,
    pub(super) token: Token,
}

/// One that came for a slot and has not had its last answer.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) name: Name,
    pub(super) connection: ConnectionId,
    pub(super) lease: LeaseSeconds,
    pub(super) state: State,
}

/// How far a waiter has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    InLine,
    /// It has a slot; nobody has been told the token yet.
    Promoted(Token),
    /// It has a slot; its enqueue told the token, and a wait will say it once more.
    Acquired(Token),
    /// It had a slot, whose lease ended before it asked.
    Expired,
}

/// What one connection has, so that nothing is searched for when it ends.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// By fence, so that they end in the order in which they were granted.
    pub(super) slots: BTreeMap<u64, Slot>,
    pub(super) waiters: BTreeSet<WaiterId>,
}

impl Belongings {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.waiters.is_empty()
    }
}
