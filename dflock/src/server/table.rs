//! The lock table: keys, holders, queues and leases as a pure state machine.
//!
//! The table does no IO, reads no clock and takes no lock. Every operation is given the time `now`,
//! counted from a fixed epoch and never going back. An operation first expires the leases that are
//! over, because otherwise an expired lease could pass for a live one. A grant to a queued waiter
//! stays in the table until [`take_grant`](Table::take_grant) returns it. A grant that no client
//! was told is passed on to the next waiter, so it is never lost.

mod acquire;
mod entry;
mod id;
mod key_map;
mod release;
mod stats;
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
use crate::wire::{ErrorStatus, Grant, Key, Kind, LeaseSeconds, Primitive, Reply, Token};
use entry::{ConnectionState, HoldId, Waiter, WaiterState};
pub(super) use id::{ConnectionId, KeyId, WaiterId};
use key_map::KeyMap;
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
        by: ConnectionId,
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
        match self.try_grant(&key, by, lease, now) {
            Some(token) => Outcome::Reply(Reply::Granted(Grant {
                token,
                lease,
                fence: None,
            })),
            None if self.queue_is_full(&key) => {
                Outcome::Reply(Reply::Error(ErrorStatus::MaxWaiters))
            }
            None => Outcome::Queued(self.enqueue_waiter(&key, by, lease)),
        }
    }

    /// Handles `e` and `se`: grants a slot or enqueues a waiter, for a later [`wait`](Self::wait).
    pub(super) fn enqueue(
        &mut self,
        by: ConnectionId,
        key: Key<'_>,
        primitive: Primitive,
        lease: LeaseSeconds,
        now: Duration,
    ) -> Reply {
        self.sweep(now);
        let before = self.find_enqueue(primitive.kind(), key, by);
        let waiter = before.and_then(|id| self.waiters.get(&id));
        if waiter.is_some_and(|waiter| waiter.state != WaiterState::Expired) {
            return Reply::Error(ErrorStatus::AlreadyEnqueued);
        }
        let key = match self.get_or_insert(key, primitive, now) {
            Ok(key) => key,
            Err(status) => return Reply::Error(status),
        };
        let token = self.try_grant(&key, by, lease, now);
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
                    connection: by,
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
            None => (self.enqueue_waiter(&key, by, lease), Reply::Queued),
        };
        if let Some(entry) = self.keys.get_mut(&key) {
            entry.enqueued.insert(by, id);
        }
        reply
    }

    /// Handles `w` and `sw`: answers the enqueue of this connection.
    pub(super) fn wait(
        &mut self,
        by: ConnectionId,
        kind: Kind,
        key: Key<'_>,
        now: Duration,
    ) -> Outcome {
        self.sweep(now);
        match self.find_enqueue(kind, key, by) {
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

    /// Returns the waiters that were granted a slot since the last call, in the order of the
    /// grants.
    pub(super) fn take_granted(&mut self) -> Drain<'_, Granted> {
        self.granted.drain(..)
    }

    /// Reports to the observer that a connection sent nothing for the read timeout.
    pub(super) fn read_timed_out(&self, connection: ConnectionId) {
        self.observer.emit(|| Event::ReadTimeout {
            connection: connection.0,
        });
    }

    fn find_enqueue(&self, kind: Kind, key: Key<'_>, by: ConnectionId) -> Option<WaiterId> {
        self.keys.find(kind, key)?.1.enqueued.get(&by).copied()
    }
}
