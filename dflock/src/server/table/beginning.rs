//! How holds and waits begin.

use std::time::Duration;

use super::entry::{Entry, Holder, Slot, State, Waiter};
use super::{ConnectionId, Name, Table, WaiterId};
use crate::server::observer::Event;
use crate::wire::{Capacity, Key, LeaseSeconds, Status, Token};

impl Table {
    /// The key, which is there with this limit from now on.
    pub(super) fn open(&mut self, key: Key<'_>, capacity: Capacity, now: Duration) -> Result<Name, Status> {
        let (kind, limit) = (capacity.kind(), capacity.limit());
        if let Some((name, entry)) = self.keys.find(kind, key) {
            return if entry.limit == limit { Ok(name) } else { Err(Status::LimitMismatch) };
        }
        let most = self.rules.max_keys;
        if !self.census.add_key(most) {
            // keys whose time is over are no reason to refuse
            self.gc(now);
            if !self.census.add_key(most) {
                return Err(Status::MaxLocks);
            }
        }
        // a new key has a free slot: who opened it takes one, so it is not left behind idle
        let name = Name::new(kind, key);
        self.keys.insert(name.clone(), Entry::new(limit, now));
        Ok(name)
    }

    pub(super) fn take_free(&mut self, name: &Name, by: ConnectionId, lease: LeaseSeconds, now: Duration) -> Option<Token> {
        // nobody overtakes the line
        let free = self.keys.get(name).is_some_and(|entry| entry.has_room() && entry.line.is_empty());
        free.then(|| self.grant(name, by, None, lease, now))
    }

    pub(super) fn grant(&mut self, name: &Name, to: ConnectionId, waiter: Option<WaiterId>, lease: LeaseSeconds, now: Duration) -> Token {
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
    pub(super) fn restart(&mut self, slot: &Slot, lease: LeaseSeconds, now: Duration) -> bool {
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

    pub(super) fn line_is_full(&self, name: &Name) -> bool {
        self.rules.max_waiters > 0 && self.keys.get(name).is_some_and(|entry| entry.line.len() >= self.rules.max_waiters)
    }

    pub(super) fn join_line(&mut self, name: &Name, by: ConnectionId, lease: LeaseSeconds) -> WaiterId {
        let id = self.add_waiter(Waiter { name: name.clone(), connection: by, lease, state: State::InLine });
        self.line_up(name, id, by);
        id
    }

    pub(super) fn line_up(&mut self, name: &Name, id: WaiterId, by: ConnectionId) {
        if let Some(entry) = self.keys.get_mut(name) {
            entry.line.insert(id);
        }
        self.observer.tell(|| Event::Joined { key: name.key.clone(), waiter: id.0, connection: by.0 });
    }

    pub(super) fn add_waiter(&mut self, waiter: Waiter) -> WaiterId {
        let id = self.census.next_waiter();
        self.connections.entry(waiter.connection).or_default().waiters.insert(id);
        self.waiters.insert(id, waiter);
        id
    }
}
