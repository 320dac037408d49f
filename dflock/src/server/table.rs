//! Who holds what and who waits for it: the whole behaviour of the server as a pure state machine.
//!
//! No IO, no clock, no lock: every operation is told the time `now`, since some epoch and never going back. An operation
//! first ends the leases that are over, so that no ended lease is ever taken for a live one. A grant to a waiter stays in the
//! table until the waiter [`collect`](Table::collect)s it; one that nobody was told is never lost, it is given on.

mod ending;
mod entry;
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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use std::vec::Drain;

use super::observer::{Ending, Event, Observer};
use crate::wire::{Capacity, Grant, Key, Kind, LeaseSeconds, Limit, Reply, Status, Token};
use entry::{Belongings, Entry, Holder, Slot, State, Waiter};
pub(super) use mint::Mint;
pub(super) use name::{ConnectionId, Name, WaiterId};

/// What the table allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How many keys it remembers.
    pub(super) max_keys: usize,
    /// How many may stand in line for one key; zero: no limit.
    pub(super) max_waiters: usize,
    /// How long it remembers a key that nobody holds or waits for.
    pub(super) gc_max_idle: Duration,
    /// Whether slots go with the connection that acquired them.
    pub(super) auto_release: bool,
}

/// The answer to a request that may have to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The state of all keys.
#[derive(Debug)]
pub(super) struct Table {
    rules: Rules,
    mint: Mint,
    keys: HashMap<Name, Entry>,
    waiters: HashMap<WaiterId, Waiter>,
    connections: HashMap<ConnectionId, Belongings>,
    /// Every hold by the end of its lease, then by its fence.
    leases: BTreeMap<(Duration, u64), Slot>,
    /// Every idle key, the longest idle first.
    idle: BTreeSet<(Duration, Name)>,
    promotions: Vec<Promotion>,
    last_waiter: u64,
    observer: Observer,
}

impl Table {
    pub(super) fn new(rules: Rules, mint: Mint) -> Self {
        Self {
            rules,
            mint,
            keys: HashMap::new(),
            waiters: HashMap::new(),
            connections: HashMap::new(),
            leases: BTreeMap::new(),
            idle: BTreeSet::new(),
            promotions: Vec::new(),
            last_waiter: 0,
            observer: Observer::default(),
        }
    }

    pub(super) fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// `l`, `sl`: a slot, or a place in line.
    pub(super) fn acquire(&mut self, by: ConnectionId, key: Key<'_>, capacity: Capacity, lease: LeaseSeconds, now: Duration) -> Answer {
        self.sweep(now);
        let name = Name::new(capacity.kind(), key);
        if let Err(status) = self.open(&name, capacity.limit(), now) {
            return Answer::Now(Reply::Refused(status));
        }
        match self.take_free(&name, by, lease, now) {
            Some(token) => Answer::Now(Reply::Granted(Grant { token, lease })),
            None if self.line_is_full(&name) => Answer::Now(Reply::Refused(Status::MaxWaiters)),
            None => Answer::InLine(self.join_line(&name, by, lease)),
        }
    }

    /// `e`, `se`: a slot, or a place in line that a [`wait`](Self::wait) comes back for.
    pub(super) fn enqueue(&mut self, by: ConnectionId, key: Key<'_>, capacity: Capacity, lease: LeaseSeconds, now: Duration) -> Reply {
        self.sweep(now);
        let name = Name::new(capacity.kind(), key);
        let before = self.enqueued(&name, by);
        if before.is_some_and(|id| self.waiters.get(&id).is_some_and(|waiter| waiter.state != State::Expired)) {
            return Reply::Refused(Status::AlreadyEnqueued);
        }
        if let Err(status) = self.open(&name, capacity.limit(), now) {
            return Reply::Refused(status);
        }
        let free = self.take_free(&name, by, lease, now);
        if free.is_none() && self.line_is_full(&name) {
            return Reply::Refused(Status::MaxWaiters);
        }
        if let Some(expired) = before {
            self.forget_waiter(expired);
        }
        let (state, reply) = match free {
            Some(token) => (State::Acquired(token), Reply::Acquired(Grant { token, lease })),
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
        match self.enqueued(&Name::new(kind, key), by) {
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
                Answer::Now(Reply::Granted(Grant { token, lease }))
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
        let slot = Slot { name: Name::new(kind, key), token };
        match self.end_hold(&slot, Ending::Released) {
            Some(holder) => {
                // only the state that this hold belongs to: its owner may stand in line once more
                if let Some(waiter) = holder.waiter {
                    self.forget_waiter(waiter);
                }
                self.settle(&slot.name, now);
                Reply::Ok
            }
            None => Reply::Refused(Status::Error),
        }
    }

    /// `n`, `sn`: begins the lease anew.
    pub(super) fn renew(&mut self, kind: Kind, key: Key<'_>, token: Token, lease: LeaseSeconds, now: Duration) -> Reply {
        self.sweep(now);
        if self.restart(&Slot { name: Name::new(kind, key), token }, lease, now) {
            Reply::Renewed(lease.into())
        } else {
            Reply::Refused(Status::Error)
        }
    }

    /// The waiters that got a slot since the last call, in the order of the grants.
    pub(super) fn promotions(&mut self) -> Drain<'_, Promotion> {
        self.promotions.drain(..)
    }

    /// A connection said nothing for the read timeout; [`disconnect`](Table::disconnect) is next.
    pub(super) fn silent(&self, connection: ConnectionId) {
        self.observer.tell(|| Event::Silent { connection: connection.0 });
    }

    /// Makes sure that the key is there, with this limit.
    fn open(&mut self, name: &Name, limit: Limit, now: Duration) -> Result<(), Status> {
        if let Some(entry) = self.keys.get(name) {
            return if entry.limit == limit { Ok(()) } else { Err(Status::LimitMismatch) };
        }
        if self.keys.len() >= self.rules.max_keys {
            // keys whose time is over are no reason to refuse
            self.gc(now);
        }
        if self.keys.len() >= self.rules.max_keys {
            return Err(Status::MaxLocks);
        }
        // a new key has a free slot: who opened it takes one, so it is not left behind idle
        self.keys.insert(name.clone(), Entry::new(limit, now));
        Ok(())
    }

    fn take_free(&mut self, name: &Name, by: ConnectionId, lease: LeaseSeconds, now: Duration) -> Option<Token> {
        // nobody overtakes the line
        let free = self.keys.get(name).is_some_and(|entry| entry.has_room() && entry.line.is_empty());
        free.then(|| self.grant(name, by, None, lease, now))
    }

    fn grant(&mut self, name: &Name, to: ConnectionId, waiter: Option<WaiterId>, lease: LeaseSeconds, now: Duration) -> Token {
        let slot = Slot { name: name.clone(), token: self.mint.next() };
        let (token, fence) = (slot.token, slot.token.fence());
        let ends = now.saturating_add(lease.as_duration());
        if let Some(entry) = self.keys.get_mut(name) {
            if entry.is_idle() {
                self.idle.remove(&(entry.idle_since, name.clone()));
            }
            entry.holders.insert(token, Holder { connection: to, ends, waiter });
        }
        self.observer.tell(|| Event::Granted { key: name.key.clone(), token, connection: to.0, waiter: waiter.map(|id| id.0) });
        self.leases.insert((ends, fence), slot.clone());
        self.connections.entry(to).or_default().slots.insert(fence, slot);
        token
    }

    /// Begins the lease of a hold anew; `false` when there is no such hold.
    fn restart(&mut self, slot: &Slot, lease: LeaseSeconds, now: Duration) -> bool {
        let Some(holder) = self.keys.get_mut(&slot.name).and_then(|entry| entry.holders.get_mut(&slot.token)) else {
            return false;
        };
        let fence = slot.token.fence();
        self.leases.remove(&(holder.ends, fence));
        holder.ends = now.saturating_add(lease.as_duration());
        self.leases.insert((holder.ends, fence), slot.clone());
        self.observer.tell(|| Event::Renewed { token: slot.token });
        true
    }

    fn line_is_full(&self, name: &Name) -> bool {
        self.rules.max_waiters > 0 && self.keys.get(name).is_some_and(|entry| entry.line.len() >= self.rules.max_waiters)
    }

    fn join_line(&mut self, name: &Name, by: ConnectionId, lease: LeaseSeconds) -> WaiterId {
        let id = self.add_waiter(Waiter { name: name.clone(), connection: by, lease, state: State::InLine });
        self.line_up(name, id, by);
        id
    }

    fn line_up(&mut self, name: &Name, id: WaiterId, by: ConnectionId) {
        if let Some(entry) = self.keys.get_mut(name) {
            entry.line.insert(id);
        }
        self.observer.tell(|| Event::Joined { key: name.key.clone(), waiter: id.0, connection: by.0 });
    }

    fn add_waiter(&mut self, waiter: Waiter) -> WaiterId {
        self.last_waiter += 1;
        let id = WaiterId(self.last_waiter);
        self.connections.entry(waiter.connection).or_default().waiters.insert(id);
        self.waiters.insert(id, waiter);
        id
    }

    fn enqueued(&self, name: &Name, by: ConnectionId) -> Option<WaiterId> {
        self.keys.get(name)?.enqueued.get(&by).copied()
    }
}
