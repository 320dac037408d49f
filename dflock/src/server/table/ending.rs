//! How holds and waits end, and who comes next.

use std::time::Duration;

use super::entry::{Belongings, Holder, Slot, State, Waiter};
use super::{ConnectionId, Name, Promotion, Table, WaiterId};
use crate::server::observer::{Ending, Event};
use crate::wire::{Key, Kind, Token};

impl Table {
    /// Ends the leases that are over.
    pub(in crate::server) fn sweep(&mut self, now: Duration) {
        while let Some(first) = self.leases.first_entry()
            && first.key().0 <= now
        {
            let slot = first.get().clone();
            self.expire_hold(&slot, Ending::Expired);
            self.settle(&slot.name, now);
        }
    }

    /// Ends all leases of a key, of the lock and of the semaphore, as if they were over. Returns whether there was one.
    pub(in crate::server) fn expire(&mut self, key: Key<'_>, now: Duration) -> bool {
        self.sweep(now);
        let mut was_held = false;
        for kind in [Kind::Lock, Kind::Semaphore] {
            let Some((name, entry)) = self.keys.find(kind, key) else { continue };
            let mut tokens: Vec<_> = entry.holders.keys().copied().collect();
            tokens.sort_unstable_by_key(Token::fence);
            was_held |= !tokens.is_empty();
            for token in tokens {
                self.expire_hold(&Slot { name: name.clone(), token }, Ending::Forced);
            }
            self.settle(&name, now);
        }
        was_held
    }

    /// A connection has ended: it leaves every line, and its slots go, or live on until their leases end without auto-release.
    pub(in crate::server) fn disconnect(&mut self, connection: ConnectionId, now: Duration) {
        self.sweep(now);
        let Some(Belongings { slots, waiters }) = self.connections.remove(&connection) else { return };
        let mut slots: Vec<_> = if self.rules.auto_release { slots.into_values().collect() } else { Vec::new() };
        // first all of them, then the next in line: it must not be one that has gone, too
        for id in waiters {
            // nobody knows this token, so nobody can hold it, whatever auto-release says
            if let Some(Waiter { name, state: State::Promoted(token), .. }) = self.forget_waiter(id) {
                slots.push(Slot { name, token });
            }
        }
        slots.retain(|slot| self.end_hold(slot, Ending::Disconnected).is_some());
        for slot in slots {
            self.settle(&slot.name, now);
        }
    }

    /// Forgets the keys that have been idle for long.
    pub(in crate::server) fn gc(&mut self, now: Duration) {
        while let Some((since, _)) = self.idle.first()
            && since.saturating_add(self.rules.gc_max_idle) <= now
            && let Some((_, name)) = self.idle.pop_first()
        {
            // whoever enqueued here and never came back for a lease that ended
            let left: Vec<_> = self.keys.get(&name).into_iter().flat_map(|entry| entry.enqueued.values().copied()).collect();
            for waiter in left {
                self.forget_waiter(waiter);
            }
            self.keys.remove(&name);
            self.census.remove_key();
        }
    }

    /// Gives free slots to the line, in order; or notes that the key is idle from now on.
    pub(super) fn settle(&mut self, name: &Name, now: Duration) {
        while let Some(entry) = self.keys.get_mut(name)
            && entry.has_room()
            && let Some(id) = entry.line.pop_first()
        {
            let Some(&Waiter { connection, lease, .. }) = self.waiters.get(&id) else { continue };
            let token = self.grant(name, connection, Some(id), lease, now);
            if let Some(waiter) = self.waiters.get_mut(&id) {
                waiter.state = State::Promoted(token);
            }
            self.promotions.push(Promotion { waiter: id, connection });
        }
        if let Some(entry) = self.keys.get_mut(name)
            && entry.is_idle()
            && !self.idle.contains(&(entry.idle_since, name.clone()))
        {
            entry.idle_since = now;
            self.idle.insert((now, name.clone()));
        }
    }

    /// Takes a hold out; the caller settles the key.
    pub(super) fn end_hold(&mut self, slot: &Slot, why: Ending) -> Option<Holder> {
        let holder = self.keys.get_mut(&slot.name)?.holders.remove(&slot.token)?;
        let fence = slot.token.fence();
        self.observer.tell(|| Event::Ended { key: slot.name.key.clone(), token: slot.token, why });
        self.leases.remove(&(holder.ends, fence));
        if let Some(belongings) = self.connections.get_mut(&holder.connection) {
            belongings.slots.remove(&fence);
            if belongings.is_empty() {
                self.connections.remove(&holder.connection);
            }
        }
        Some(holder)
    }

    /// Takes a waiter out of wherever it stands; its slot, if it has one, stays a plain hold of its connection.
    pub(super) fn forget_waiter(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        if let Some(belongings) = self.connections.get_mut(&waiter.connection) {
            belongings.waiters.remove(&id);
            if belongings.is_empty() {
                self.connections.remove(&waiter.connection);
            }
        }
        if let Some(entry) = self.keys.get_mut(&waiter.name) {
            if entry.line.remove(&id) {
                self.observer.tell(|| Event::Left { key: waiter.name.key.clone(), waiter: id.0 });
            }
            if entry.enqueued.get(&waiter.connection) == Some(&id) {
                entry.enqueued.remove(&waiter.connection);
            }
            if let State::Promoted(token) | State::Acquired(token) = waiter.state
                && let Some(holder) = entry.holders.get_mut(&token)
            {
                holder.waiter = None;
            }
        }
        Some(waiter)
    }

    fn expire_hold(&mut self, slot: &Slot, why: Ending) {
        if let Some(holder) = self.end_hold(slot, why)
            && let Some(waiter) = holder.waiter.and_then(|id| self.waiters.get_mut(&id))
        {
            waiter.state = State::Expired;
        }
    }
}
