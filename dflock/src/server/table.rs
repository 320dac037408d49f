//! The lock table: keys, holders, queues and leases as a pure state machine.
//!
//! The table does no IO, reads no clock and takes no lock. The caller passes the time `now` to
//! every operation, counted from a fixed epoch and never going back. An operation first expires the
//! leases that are over, because otherwise an expired lease could pass for a live one.
//!
//! A grant to a queued waiter stays in the table until [`take_grant`](Table::take_grant) returns
//! it. If no client receives the token of a grant, the slot is granted to the next waiter, so that
//! it is never leaked.

mod records;
mod token;

#[cfg(dflock_bench)]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "benchmark code, in no released build"
)]
pub(crate) mod bench;
#[cfg(any(test, fuzzing))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use std::vec::Drain;

use super::observer::{EndReason, Event, Observer};
use crate::stats::{IdleStats, LockStats, SemaphoreStats, Stats};
use crate::wire::{ErrorStatus, Grant, Key, Kind, LeaseSeconds, Primitive, Reply, Token};
pub(super) use records::{ConnectionId, KeyId, WaiterId};
use records::{ConnectionState, Entry, HoldId, Holder, KeyMap, Waiter, WaiterState};
pub(super) use token::TokenGenerator;

/// Limits and options of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TableConfig {
    /// Maximum number of keys, locks and semaphores together.
    pub(super) max_keys: usize,
    /// Maximum length of the queue of one key; zero for no limit.
    pub(super) max_waiters: usize,
    /// Time after which an idle key is removed.
    pub(super) gc_max_idle: Duration,
    /// Releases the slots of a connection when it disconnects.
    pub(super) auto_release: bool,
}

/// Result of a request that may have to wait.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a queued waiter must take its grant or cancel its wait"]
pub(super) enum Outcome {
    Reply(Reply),
    /// The waiter is queued until [`Table::take_grant`] or [`Table::cancel_wait`] removes it.
    Queued(WaiterId),
}

/// A queued waiter that was granted a slot; its connection should call [`Table::take_grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) waiter: WaiterId,
    pub(super) connection: ConnectionId,
}

/// The keys of a server with their holders and queues.
#[derive(Debug)]
pub(super) struct Table {
    config: TableConfig,
    tokens: TokenGenerator,
    observer: Observer,
    keys: KeyMap,
    waiters: BTreeMap<WaiterId, Waiter>,
    last_waiter: u64,
    connections: BTreeMap<ConnectionId, ConnectionState>,
    /// All holds, by the end of the lease and then by fence.
    leases: BTreeMap<(Duration, u64), HoldId>,
    /// All idle keys, the longest idle first.
    idle: BTreeSet<(Duration, KeyId)>,
    granted: Vec<Granted>,
}

impl Table {
    pub(super) fn new(config: TableConfig, tokens: TokenGenerator) -> Self {
        Self {
            config,
            tokens,
            observer: Observer::default(),
            keys: KeyMap::default(),
            waiters: BTreeMap::new(),
            last_waiter: 0,
            connections: BTreeMap::new(),
            leases: BTreeMap::new(),
            idle: BTreeSet::new(),
            granted: Vec::new(),
        }
    }

    pub(super) fn with_observer(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Handles `l` and `sl`: grants a slot or enqueues a waiter.
    pub(super) fn acquire(
        &mut self,
        connection: ConnectionId,
        key: Key<'_>,
        primitive: Primitive,
        lease: LeaseSeconds,
        now: Duration,
    ) -> Outcome {
        self.sweep(now);
        let key = match self.get_or_insert(key, primitive, now) {
            Ok(key) => key,
            Err(status) => return Outcome::Reply(Reply::Error(status)),
        };
        match self.try_grant(&key, connection, lease, now) {
            Some(token) => Outcome::Reply(Reply::Granted(Grant {
                token,
                lease,
                fence: None,
            })),
            None if self.queue_is_full(&key) => {
                Outcome::Reply(Reply::Error(ErrorStatus::MaxWaiters))
            }
            None => Outcome::Queued(self.enqueue_waiter(&key, connection, lease)),
        }
    }

    /// Handles `e` and `se`: grants a slot or enqueues a waiter, for a later [`wait`](Self::wait).
    pub(super) fn enqueue(
        &mut self,
        connection: ConnectionId,
        key: Key<'_>,
        primitive: Primitive,
        lease: LeaseSeconds,
        now: Duration,
    ) -> Reply {
        self.sweep(now);
        let before = self.find_enqueue(primitive.kind(), key, connection);
        let waiter = before.and_then(|id| self.waiters.get(&id));
        if waiter.is_some_and(|waiter| waiter.state != WaiterState::Expired) {
            return Reply::Error(ErrorStatus::AlreadyEnqueued);
        }
        let key = match self.get_or_insert(key, primitive, now) {
            Ok(key) => key,
            Err(status) => return Reply::Error(status),
        };
        let token = self.try_grant(&key, connection, lease, now);
        if token.is_none() && self.queue_is_full(&key) {
            return Reply::Error(ErrorStatus::MaxWaiters);
        }
        if let Some(expired) = before {
            self.remove_waiter(expired);
        }
        let (id, reply) = match token {
            Some(token) => {
                let state = WaiterState::Acquired(token);
                let id = self.add_waiter(Waiter {
                    key: key.clone(),
                    connection,
                    lease,
                    state,
                });
                let entry = self.keys.get_mut(&key);
                if let Some(holder) = entry.and_then(|entry| entry.holders.get_mut(&token)) {
                    holder.waiter = Some(id);
                }
                (
                    id,
                    Reply::Acquired(Grant {
                        token,
                        lease,
                        fence: None,
                    }),
                )
            }
            None => (self.enqueue_waiter(&key, connection, lease), Reply::Queued),
        };
        if let Some(entry) = self.keys.get_mut(&key) {
            entry.enqueued.insert(connection, id);
        }
        reply
    }

    /// Handles `w` and `sw`: answers the enqueue of this connection.
    pub(super) fn wait(
        &mut self,
        connection: ConnectionId,
        kind: Kind,
        key: Key<'_>,
        now: Duration,
    ) -> Outcome {
        self.sweep(now);
        match self.find_enqueue(kind, key, connection) {
            Some(waiter) => self.take_grant(waiter, now),
            None => Outcome::Reply(Reply::Error(ErrorStatus::NotEnqueued)),
        }
    }

    /// Returns the grant of a queued waiter, if there is one. The lease starts with this reply.
    pub(super) fn take_grant(&mut self, id: WaiterId, now: Duration) -> Outcome {
        self.sweep(now);
        let Some(Waiter { state, lease, .. }) = self.waiters.get(&id) else {
            return Outcome::Reply(Reply::Error(ErrorStatus::NotEnqueued));
        };
        let (state, lease) = (*state, *lease);
        match state {
            WaiterState::Queued => Outcome::Queued(id),
            WaiterState::Granted(token) | WaiterState::Acquired(token) => {
                if let Some(waiter) = self.remove_waiter(id) {
                    self.renew_hold(
                        &HoldId {
                            key: waiter.key,
                            token,
                        },
                        lease,
                        now,
                    );
                }
                Outcome::Reply(Reply::Granted(Grant {
                    token,
                    lease,
                    fence: None,
                }))
            }
            WaiterState::Expired => {
                self.remove_waiter(id);
                Outcome::Reply(Reply::Error(ErrorStatus::LeaseExpired))
            }
        }
    }

    /// Removes the waiter from the queue and returns `otherwise`; returns the grant instead if the
    /// waiter has one.
    pub(super) fn cancel_wait(&mut self, id: WaiterId, otherwise: Reply, now: Duration) -> Reply {
        match self.take_grant(id, now) {
            Outcome::Reply(reply) => reply,
            Outcome::Queued(id) => {
                // A queued waiter has no slot, so there is nothing to grant to the next waiter.
                self.remove_waiter(id);
                otherwise
            }
        }
    }

    /// Handles `r` and `sr`: releases a slot and grants it to the next waiter.
    pub(super) fn release(
        &mut self,
        kind: Kind,
        key: Key<'_>,
        token: Token,
        now: Duration,
    ) -> Reply {
        self.sweep(now);
        let Some((key, _)) = self.keys.find(kind, key) else {
            return Reply::Error(ErrorStatus::Unspecified);
        };
        let hold = HoldId { key, token };
        let Some(holder) = self.remove_hold(&hold, EndReason::Released) else {
            return Reply::Error(ErrorStatus::Unspecified);
        };
        // Only the waiter of this hold: the connection may be queued for the key once more.
        if let Some(waiter) = holder.waiter {
            self.remove_waiter(waiter);
        }
        self.grant_waiters(&hold.key, now);
        Reply::Ok
    }

    /// Handles `n` and `sn`: restarts the lease of a hold.
    pub(super) fn renew(
        &mut self,
        kind: Kind,
        key: Key<'_>,
        token: Token,
        lease: LeaseSeconds,
        now: Duration,
    ) -> Reply {
        self.sweep(now);
        let hold = self
            .keys
            .find(kind, key)
            .map(|(key, _)| HoldId { key, token });
        if hold.is_some_and(|hold| self.renew_hold(&hold, lease, now)) {
            Reply::Renewed(lease.into())
        } else {
            Reply::Error(ErrorStatus::Unspecified)
        }
    }

    /// Expires the leases that are over.
    pub(super) fn sweep(&mut self, now: Duration) {
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
    pub(super) fn expire(&mut self, key: Key<'_>, now: Duration) -> bool {
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
    pub(super) fn disconnect(&mut self, connection: ConnectionId, now: Duration) {
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
    pub(super) fn gc(&mut self, now: Duration) {
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

    /// Returns the waiters that were granted a slot since the last call, in the order of the
    /// grants.
    pub(super) fn take_granted(&mut self) -> Drain<'_, Granted> {
        self.granted.drain(..)
    }

    /// Reports to the observer that a connection sent nothing for the read timeout.
    pub(super) fn record_read_timeout(&self, connection: ConnectionId) {
        self.observer.emit(|| Event::ReadTimeout {
            connection: connection.0,
        });
    }

    /// Returns the statistics of all keys, in no order and without the number of connections.
    pub(super) fn stats(&mut self, now: Duration) -> Stats {
        self.sweep(now);
        let mut stats = Stats::default();
        for (id, entry) in self.keys.iter() {
            let key = id.key.to_string();
            let waiters = entry.queue.len() as u64;
            match id.kind {
                kind if entry.is_idle() => {
                    let idle_s = now.saturating_sub(entry.idle_since).as_secs_f64();
                    let idle = IdleStats { key, idle_s };
                    match kind {
                        Kind::Lock => stats.idle_locks.push(idle),
                        Kind::Semaphore => stats.idle_semaphores.push(idle),
                    }
                }
                Kind::Lock => {
                    let holder = entry.holders.values().next();
                    let lease = holder.map(|holder| holder.expires.saturating_sub(now));
                    stats.locks.push(LockStats {
                        key,
                        owner_conn_id: holder.map_or(0, |holder| holder.connection.0),
                        lease_expires_in_s: lease.unwrap_or_default().as_secs_f64(),
                        waiters,
                    });
                }
                Kind::Semaphore => {
                    let (limit, holders) = (entry.limit.get(), entry.holders.len() as u64);
                    stats.semaphores.push(SemaphoreStats {
                        key,
                        limit,
                        holders,
                        waiters,
                    });
                }
            }
        }
        stats
    }

    /// Returns the connections that hold a key or are queued for it, as a lock or as a semaphore.
    pub(super) fn connections_of(&self, key: Key<'_>) -> BTreeSet<ConnectionId> {
        let mut connections = BTreeSet::new();
        for kind in [Kind::Lock, Kind::Semaphore] {
            let Some((_, entry)) = self.keys.find(kind, key) else {
                continue;
            };
            connections.extend(entry.holders.values().map(|holder| holder.connection));
            let waiters = entry.queue.iter().filter_map(|id| self.waiters.get(id));
            connections.extend(waiters.map(|waiter| waiter.connection));
        }
        connections
    }

    /// Returns whether a connection holds a slot.
    pub(super) fn has_slots(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|connection| !connection.holds.is_empty())
    }

    fn find_enqueue(&self, kind: Kind, key: Key<'_>, connection: ConnectionId) -> Option<WaiterId> {
        self.keys
            .find(kind, key)?
            .1
            .enqueued
            .get(&connection)
            .copied()
    }

    /// Returns the id of a key, which has this limit. Inserts the key if it is not in the table.
    fn get_or_insert(
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
    fn try_grant(
        &mut self,
        key: &KeyId,
        connection: ConnectionId,
        lease: LeaseSeconds,
        now: Duration,
    ) -> Option<Token> {
        // A queued waiter comes first, even if it has not taken the free slot yet.
        let entry = self.keys.get(key)?;
        let is_free = entry.has_free_slot() && entry.queue.is_empty();
        is_free.then(|| self.grant(key, connection, None, lease, now))
    }

    fn grant(
        &mut self,
        key: &KeyId,
        connection: ConnectionId,
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
                    connection,
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
                connection: connection.0,
                waiter,
            }
        });
        self.leases.insert((expires, fence), hold.clone());
        self.connections
            .entry(connection)
            .or_default()
            .holds
            .insert(fence, hold);
        token
    }

    /// Restarts the lease of a hold; returns `false` when there is no such hold.
    fn renew_hold(&mut self, hold: &HoldId, lease: LeaseSeconds, now: Duration) -> bool {
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

    fn queue_is_full(&self, key: &KeyId) -> bool {
        let max = self.config.max_waiters;
        max > 0
            && self
                .keys
                .get(key)
                .is_some_and(|entry| entry.queue.len() >= max)
    }

    fn enqueue_waiter(
        &mut self,
        key: &KeyId,
        connection: ConnectionId,
        lease: LeaseSeconds,
    ) -> WaiterId {
        let state = WaiterState::Queued;
        let id = self.add_waiter(Waiter {
            key: key.clone(),
            connection,
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
            connection: connection.0,
        });
        id
    }

    fn add_waiter(&mut self, waiter: Waiter) -> WaiterId {
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

    /// Grants free slots to queued waiters, in order; marks the key as idle if it has become so.
    fn grant_waiters(&mut self, key: &KeyId, now: Duration) {
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
    fn remove_hold(&mut self, hold: &HoldId, reason: EndReason) -> Option<Holder> {
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
    fn remove_waiter(&mut self, id: WaiterId) -> Option<Waiter> {
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
