//! Operations that release slots, expire leases, remove waiters and collect idle keys.

use std::time::Duration;

use super::entry::{ConnectionState, HoldId, Holder, Waiter, WaiterState};
use super::{ConnectionId, Granted, KeyId, Table, WaiterId};
use crate::server::observer::{EndReason, Event};
use crate::wire::{Key, Kind, Token};

impl Table {
    /// Expires the leases that are over.
    pub(in crate::server) fn sweep(&mut self, now: Duration) {
        while let Some(first) = self.leases.first_entry()
            && first.key().0 <= now
        {
            let hold = first.get().clone();
            self.expire_hold(&hold, EndReason::Expired);
            self.grant_waiters(&hold.key, now);
        }
    }

    /// Expires all leases of a key, those of the lock and those of the semaphore, before their
    /// time. Returns whether there was one.
    pub(in crate::server) fn expire(&mut self, key: Key<'_>, now: Duration) -> bool {
        self.sweep(now);
        let mut found = false;
        for kind in [Kind::Lock, Kind::Semaphore] {
            let Some((key, entry)) = self.keys.find(kind, key) else {
                continue;
            };
            let mut tokens: Vec<_> = entry.holders.keys().copied().collect();
            tokens.sort_unstable_by_key(Token::fence);
            found |= !tokens.is_empty();
            for token in tokens {
                self.expire_hold(
                    &HoldId {
                        key: key.clone(),
                        token,
                    },
                    EndReason::Forced,
                );
            }
            self.grant_waiters(&key, now);
        }
        found
    }

    /// Removes the waiters of a connection and releases its slots. Without auto-release, a slot
    /// whose token the client has received stays until its lease expires.
    pub(in crate::server) fn disconnect(&mut self, connection: ConnectionId, now: Duration) {
        self.sweep(now);
        let Some(ConnectionState { mut holds, waiters }) = self.connections.remove(&connection)
        else {
            return;
        };
        if !self.config.auto_release {
            holds.clear();
        }
        let mut holds: Vec<_> = holds.into_values().collect();
        // Remove all waiters before the slots are granted, because a waiter of this connection
        // could be next in the queue.
        for id in waiters {
            // The client has not received this token, so the slot is free even without
            // auto-release.
            if let Some(waiter) = self.remove_waiter(id)
                && let WaiterState::Granted(token) = waiter.state
            {
                holds.push(HoldId {
                    key: waiter.key,
                    token,
                });
            }
        }
        holds.retain(|hold| self.remove_hold(hold, EndReason::Disconnected).is_some());
        for hold in holds {
            self.grant_waiters(&hold.key, now);
        }
    }

    /// Removes the keys that have been idle for `gc_max_idle`.
    pub(in crate::server) fn gc(&mut self, now: Duration) {
        while let Some((since, _)) = self.idle.first()
            && since.saturating_add(self.config.gc_max_idle) <= now
            && let Some((_, key)) = self.idle.pop_first()
        {
            // An enqueue without a `wait` leaves its waiter here when the lease expires.
            let expired = self
                .keys
                .remove(&key)
                .map(|entry| entry.enqueued)
                .unwrap_or_default();
            for waiter in expired.into_values() {
                self.remove_waiter(waiter);
            }
        }
    }

    /// Grants free slots to queued waiters, in order; marks the key as idle if it has become so.
    pub(super) fn grant_waiters(&mut self, key: &KeyId, now: Duration) {
        while let Some(entry) = self.keys.get_mut(key)
            && entry.has_free_slot()
            && let Some(id) = entry.queue.pop_first()
        {
            let Some(&Waiter {
                connection, lease, ..
            }) = self.waiters.get(&id)
            else {
                continue;
            };
            let token = self.grant(key, connection, Some(id), lease, now);
            if let Some(waiter) = self.waiters.get_mut(&id) {
                waiter.state = WaiterState::Granted(token);
            }
            self.granted.push(Granted {
                waiter: id,
                connection,
            });
        }
        if let Some(entry) = self.keys.get_mut(key)
            && entry.is_idle()
            && !self.idle.contains(&(entry.idle_since, key.clone()))
        {
            entry.idle_since = now;
            self.idle.insert((now, key.clone()));
        }
    }

    /// Removes a hold; the caller grants the slot to the next waiter.
    pub(super) fn remove_hold(&mut self, hold: &HoldId, reason: EndReason) -> Option<Holder> {
        let holder = self.keys.get_mut(&hold.key)?.holders.remove(&hold.token)?;
        let fence = hold.token.fence();
        let (key, token) = (&hold.key.key, hold.token);
        self.observer.emit(|| Event::Ended {
            key: key.clone(),
            token,
            reason,
        });
        self.leases.remove(&(holder.expires, fence));
        if let Some(connection) = self.connections.get_mut(&holder.connection) {
            connection.holds.remove(&fence);
            if connection.is_empty() {
                self.connections.remove(&holder.connection);
            }
        }
        Some(holder)
    }

    /// Removes a waiter. Its slot, if it has one, stays a hold of its connection.
    pub(super) fn remove_waiter(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        if let Some(connection) = self.connections.get_mut(&waiter.connection) {
            connection.waiters.remove(&id);
            if connection.is_empty() {
                self.connections.remove(&waiter.connection);
            }
        }
        if let Some(entry) = self.keys.get_mut(&waiter.key) {
            if entry.queue.remove(&id) {
                self.observer.emit(|| Event::Left {
                    key: waiter.key.key.clone(),
                    waiter: id.0,
                });
            }
            if entry.enqueued.get(&waiter.connection) == Some(&id) {
                entry.enqueued.remove(&waiter.connection);
            }
            if let WaiterState::Granted(token) | WaiterState::Acquired(token) = waiter.state
                && let Some(holder) = entry.holders.get_mut(&token)
            {
                holder.waiter = None;
            }
        }
        Some(waiter)
    }

    fn expire_hold(&mut self, hold: &HoldId, reason: EndReason) {
        if let Some(holder) = self.remove_hold(hold, reason)
            && let Some(waiter) = holder.waiter.and_then(|id| self.waiters.get_mut(&id))
        {
            waiter.state = WaiterState::Expired;
        }
    }
}
