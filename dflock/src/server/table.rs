//! Who holds what and who waits for it: the whole behaviour of the server as a pure state machine.
//!
//! No IO, no clock, no lock: every operation is told the time `now`, since some epoch and never going back. An operation
//! first ends the leases that are over, so that no ended lease is ever taken for a live one. A grant to a waiter stays in the
//! table until the waiter [`collect`](Table::collect)s it; one that nobody was told is never lost, it is given on.
//!
//! A table knows some of a server's keys, or all. Tables share what is in atomics: the fence, and how many keys there are.

mod beginning;
mod census;
mod ending;
mod entry;
mod keys;
mod mint;
mod name;
mod view;

#[cfg(dflock_bench)]
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "this is a benchmark, in no build that is released")]
pub(crate) mod cycle;
#[cfg(any(test, fuzzing))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use super::observer::{Ending, Event, Observer};
use crate::wire::{Capacity, Grant, Key, Kind, LeaseSeconds, Reply, Status, Token};
use census::Census;
use entry::{Belongings, Slot, State, Waiter};
use keys::Keys;
pub(super) use mint::Mint;
pub(super) use name::{ConnectionId, Name, WaiterId};

/// What the table allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How many keys the tables of a server remember together.
    pub(super) max_keys: usize,
    /// How many may stand in line for one key; zero: no limit.
    pub(super) max_waiters: usize,
    /// How long it remembers a key that nobody holds or waits for.
    pub(super) gc_max_idle: Duration,
    /// Whether slots go with the connection that acquired them.
    pub(super) auto_release: bool,
}

/// The answer to a request that may have to wait.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "one that stands in line must collect or give up"]
pub(super) enum Answer {
    Now(Reply),
    /// It stands in line, until it [`collect`](Table::collect)s or [gives up](Table::give_up).
    InLine(WaiterId),
}

/// A waiter that got a slot: its connection should [`collect`](Table::collect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promotion {
    pub(super) waiter: WaiterId,
    pub(super) connection: ConnectionId,
}

/// The state of all its keys.
#[derive(Debug)]
pub(super) struct Table {
    rules: Rules,
    mint: Mint,
    census: Arc<Census>,
    observer: Observer,
    keys: Keys,
    waiters: BTreeMap<WaiterId, Waiter>,
    connections: BTreeMap<ConnectionId, Belongings>,
    /// Every hold by the end of its lease, then by its fence.
    leases: BTreeMap<(Duration, u64), Slot>,
    /// Every idle key, the longest idle first.
    idle: BTreeSet<(Duration, Name)>,
    promotions: Vec<Promotion>,
}

impl Table {
    pub(super) fn new(rules: Rules, mint: Mint) -> Self {
        Self::empty(rules, mint, Arc::default(), Observer::default())
    }

    pub(super) fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// A table for other keys of the same server.
    pub(super) fn sister(&mut self) -> Self {
        Self::empty(self.rules, self.mint.sister(), Arc::clone(&self.census), self.observer.clone())
    }

    /// `l`, `sl`: a slot, or a place in line.
    pub(super) fn acquire(&mut self, by: ConnectionId, key: Key<'_>, capacity: Capacity, lease: LeaseSeconds, now: Duration) -> Answer {
        self.sweep(now);
        let name = match self.open(key, capacity, now) {
            Ok(name) => name,
            Err(status) => return Answer::Now(Reply::Refused(status)),
        };
        match self.take_free(&name, by, lease, now) {
            Some(token) => Answer::Now(Reply::Granted(Grant { token, lease, fence: None })),
            None if self.line_is_full(&name) => Answer::Now(Reply::Refused(Status::MaxWaiters)),
            None => Answer::InLine(self.join_line(&name, by, lease)),
        }
    }

    /// `e`, `se`: a slot, or a place in line that a [`wait`](Self::wait) comes back for.
    pub(super) fn enqueue(&mut self, by: ConnectionId, key: Key<'_>, capacity: Capacity, lease: LeaseSeconds, now: Duration) -> Reply {
        self.sweep(now);
        let before = self.enqueued(capacity.kind(), key, by);
        if before.is_some_and(|id| self.waiters.get(&id).is_some_and(|waiter| waiter.state != State::Expired)) {
            return Reply::Refused(Status::AlreadyEnqueued);
        }
        let name = match self.open(key, capacity, now) {
            Ok(name) => name,
            Err(status) => return Reply::Refused(status),
        };
        let free = self.take_free(&name, by, lease, now);
        if free.is_none() && self.line_is_full(&name) {
            return Reply::Refused(Status::MaxWaiters);
        }
        if let Some(expired) = before {
            self.forget_waiter(expired);
        }
        let (state, reply) = match free {
            Some(token) => (State::Acquired(token), Reply::Acquired(Grant { token, lease, fence: None })),
            None => (State::InLine, Reply::Queued),
        };
        let id = self.add_waiter(Waiter { name: name.clone(), connection: by, lease, state });
        if let Some(entry) = self.keys.get_mut(&name) {
            entry.enqueued.insert(by, id);
            match state {
                State::InLine => self.line_up(&name, id, by),
                State::Acquired(token) | State::Promoted(token) => {
                    if let Some(holder) = entry.holders.get_mut(&token) {
                        holder.waiter = Some(id);
                    }
                }
                State::Expired => {}
            }
        }
        reply
    }

    /// `w`, `sw`: what became of the enqueue.
    pub(super) fn wait(&mut self, by: ConnectionId, kind: Kind, key: Key<'_>, now: Duration) -> Answer {
        self.sweep(now);
        match self.enqueued(kind, key, by) {
            Some(waiter) => self.collect(waiter, now),
            None => Answer::Now(Reply::Refused(Status::NotEnqueued)),
        }
    }

    /// The grant of a waiter that stood in line, if it came. The lease begins with this answer.
    pub(super) fn collect(&mut self, id: WaiterId, now: Duration) -> Answer {
        self.sweep(now);
        let Some(Waiter { state, lease, .. }) = self.waiters.get(&id) else {
            return Answer::Now(Reply::Refused(Status::NotEnqueued));
        };
        let (state, lease) = (*state, *lease);
        match state {
            State::InLine => Answer::InLine(id),
            State::Promoted(token) | State::Acquired(token) => {
                if let Some(waiter) = self.forget_waiter(id) {
                    self.restart(&Slot { name: waiter.name, token }, lease, now);
                }
                Answer::Now(Reply::Granted(Grant { token, lease, fence: None }))
            }
            State::Expired => {
                self.forget_waiter(id);
                Answer::Now(Reply::Refused(Status::LeaseExpired))
            }
        }
    }

    /// Leaves the line and answers `otherwise`, unless the grant came in the same instant: then that is the answer.
    pub(super) fn give_up(&mut self, id: WaiterId, otherwise: Reply, now: Duration) -> Reply {
        match self.collect(id, now) {
            Answer::Now(reply) => reply,
            Answer::InLine(id) => {
                // who stands in line leaves no slot behind
                self.forget_waiter(id);
                otherwise
            }
        }
    }

    /// `r`, `sr`: gives the slot to the next in line.
    pub(super) fn release(&mut self, kind: Kind, key: Key<'_>, token: Token, now: Duration) -> Reply {
        self.sweep(now);
        let slot = self.keys.find(kind, key).map(|(name, _)| Slot { name, token });
        match slot.and_then(|slot| Some((self.end_hold(&slot, Ending::Released)?, slot.name))) {
            Some((holder, name)) => {
                // only the state that this hold belongs to: its owner may stand in line once more
                if let Some(waiter) = holder.waiter {
                    self.forget_waiter(waiter);
                }
                self.settle(&name, now);
                Reply::Ok
            }
            None => Reply::Refused(Status::Error),
        }
    }

    /// `n`, `sn`: begins the lease anew.
    pub(super) fn renew(&mut self, kind: Kind, key: Key<'_>, token: Token, lease: LeaseSeconds, now: Duration) -> Reply {
        self.sweep(now);
        let slot = self.keys.find(kind, key).map(|(name, _)| Slot { name, token });
        if slot.is_some_and(|slot| self.restart(&slot, lease, now)) { Reply::Renewed(lease.into()) } else { Reply::Refused(Status::Error) }
    }

    /// The waiters that got a slot since the last call, in the order of the grants.
    pub(super) fn promotions(&mut self) -> Drain<'_, Promotion> {
        self.promotions.drain(..)
    }

    /// A connection said nothing for the read timeout; [`disconnect`](Table::disconnect) is next.
    pub(super) fn silent(&self, connection: ConnectionId) {
        self.observer.tell(|| Event::Silent { connection: connection.0 });
    }

    fn empty(rules: Rules, mint: Mint, census: Arc<Census>, observer: Observer) -> Self {
        Self {
            rules,
            mint,
            census,
            observer,
            keys: Keys::default(),
            waiters: BTreeMap::new(),
            connections: BTreeMap::new(),
            leases: BTreeMap::new(),
            idle: BTreeSet::new(),
            promotions: Vec::new(),
        }
    }

    fn enqueued(&self, kind: Kind, key: Key<'_>, by: ConnectionId) -> Option<WaiterId> {
        self.keys.find(kind, key)?.1.enqueued.get(&by).copied()
    }
}
