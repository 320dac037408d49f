//! Operations that grant slots, renew leases and enqueue waiters.

use std::time::Duration;

use super::entry::{Entry, HoldId, Holder, Waiter, WaiterState};
use super::{ConnectionId, KeyId, Table, WaiterId};
use crate::server::observer::Event;
use crate::wire::{ErrorStatus, Key, LeaseSeconds, Primitive, Token};

impl Table {
    /// Returns the id of a key, which has this limit. Inserts the key if it is not in the table.
    pub(super) fn get_or_insert(
        &mut self,
        key: Key<'_>,
        primitive: Primitive,
        now: Duration,
    ) -> Result<KeyId, ErrorStatus> {
        let (kind, limit) = (primitive.kind(), primitive.limit());
        if let Some((id, entry)) = self.keys.find(kind, key) {
            return if entry.limit == limit {
                Ok(id)
            } else {
                Err(ErrorStatus::LimitMismatch)
            };
        }
        if self.keys.len() >= self.config.max_keys {
            // Remove old keys first: the next periodic collection may be seconds away.
            self.gc(now);
            if self.keys.len() >= self.config.max_keys {
                return Err(ErrorStatus::MaxLocks);
            }
        }
        // The caller takes a slot of the new key, so the key is not left behind idle.
        let id = KeyId::new(kind, key);
        self.keys.insert(id.clone(), Entry::new(limit, now));
        Ok(id)
    }

    /// Grants a free slot, unless there is none or the queue is not empty.
    pub(super) fn try_grant(
        &mut self,
        key: &KeyId,
        to: ConnectionId,
        lease: LeaseSeconds,
        now: Duration,
    ) -> Option<Token> {
        // A queued waiter comes first, even if it has not taken the free slot yet.
        let entry = self.keys.get(key)?;
        let is_free = entry.has_free_slot() && entry.queue.is_empty();
        is_free.then(|| self.grant(key, to, None, lease, now))
    }

    pub(super) fn grant(
        &mut self,
        key: &KeyId,
        to: ConnectionId,
        waiter: Option<WaiterId>,
        lease: LeaseSeconds,
        now: Duration,
    ) -> Token {
        let hold = HoldId {
            key: key.clone(),
            token: self.tokens.next_token(),
        };
        let (token, fence) = (hold.token, hold.token.fence());
        let expires = now.saturating_add(lease.as_duration());
        if let Some(entry) = self.keys.get_mut(key) {
            if entry.is_idle() {
                self.idle.remove(&(entry.idle_since, key.clone()));
            }
            entry.holders.insert(
                token,
                Holder {
                    connection: to,
                    expires,
                    waiter,
                },
            );
        }
        self.observer.emit(|| {
            let waiter = waiter.map(|id| id.0);
            Event::Granted {
                key: key.key.clone(),
                token,
                connection: to.0,
                waiter,
            }
        });
        self.leases.insert((expires, fence), hold.clone());
        self.connections
            .entry(to)
            .or_default()
            .holds
            .insert(fence, hold);
        token
    }

    /// Restarts the lease of a hold; returns `false` when there is no such hold.
    pub(super) fn renew_hold(&mut self, hold: &HoldId, lease: LeaseSeconds, now: Duration) -> bool {
        let entry = self.keys.get_mut(&hold.key);
        let Some(holder) = entry.and_then(|entry| entry.holders.get_mut(&hold.token)) else {
            return false;
        };
        let fence = hold.token.fence();
        self.leases.remove(&(holder.expires, fence));
        holder.expires = now.saturating_add(lease.as_duration());
        self.leases.insert((holder.expires, fence), hold.clone());
        self.observer.emit(|| Event::Renewed { token: hold.token });
        true
    }

    pub(super) fn queue_is_full(&self, key: &KeyId) -> bool {
        let max = self.config.max_waiters;
        max > 0
            && self
                .keys
                .get(key)
                .is_some_and(|entry| entry.queue.len() >= max)
    }

    pub(super) fn enqueue_waiter(
        &mut self,
        key: &KeyId,
        by: ConnectionId,
        lease: LeaseSeconds,
    ) -> WaiterId {
        let state = WaiterState::Queued;
        let id = self.add_waiter(Waiter {
            key: key.clone(),
            connection: by,
            lease,
            state,
        });
        if let Some(entry) = self.keys.get_mut(key) {
            entry.queue.insert(id);
        }
        let key = &key.key;
        self.observer.emit(|| Event::Joined {
            key: key.clone(),
            waiter: id.0,
            connection: by.0,
        });
        id
    }

    pub(super) fn add_waiter(&mut self, waiter: Waiter) -> WaiterId {
        self.last_waiter += 1;
        let id = WaiterId(self.last_waiter);
        self.connections
            .entry(waiter.connection)
            .or_default()
            .waiters
            .insert(id);
        self.waiters.insert(id, waiter);
        id
    }
}
