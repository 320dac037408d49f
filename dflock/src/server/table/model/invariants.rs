//! Invariants of the table, checked after each operation.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::op::{Op, seconds};
use super::{Model, wire_key};
use crate::server::table::records::{HoldId, WaiterState};
use crate::server::table::{ConnectionId, KeyId};
use crate::wire::{ErrorStatus, Reply, Token};

/// A hold, to compare the table before and after an operation.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    key: KeyId,
    connection: ConnectionId,
    expires: Duration,
}

impl Model {
    pub(super) fn holds(&self) -> HashMap<Token, Hold> {
        let entries = self.table.keys.iter();
        let holds = entries.flat_map(|(key, entry)| {
            entry
                .holders
                .iter()
                .map(move |(token, holder)| (key.clone(), token, holder))
        });
        holds
            .map(|(key, &token, h)| {
                (
                    token,
                    Hold {
                        key,
                        connection: h.connection,
                        expires: h.expires,
                    },
                )
            })
            .collect()
    }

    /// Checks that a hold ends only for a reason, that the token of an ended hold is refused, and
    /// that fences grow.
    pub(super) fn check_ends(&mut self, op: &Op, before: &HashMap<Token, Hold>) {
        let after = self.holds();
        for (&token, hold) in before
            .iter()
            .filter(|(token, _)| !after.contains_key(token))
        {
            let reason = match op {
                Op::Release { token: index } => self
                    .known_token(*index)
                    .is_some_and(|(_, released)| *released == token),
                Op::Disconnect { .. } => self.closed.contains(&hold.connection),
                Op::Expire { key } => *hold.key.key == **key,
                _ => false,
            };
            assert!(
                reason || hold.expires <= self.now,
                "{hold:?} ended by {op:?}"
            );
            self.ended.push((hold.key.clone(), token));
        }
        let mut new: Vec<_> = after
            .iter()
            .filter(|(token, _)| !before.contains_key(token))
            .collect();
        new.sort_by_key(|(token, _)| token.fence());
        for (&token, hold) in new {
            assert!(token.fence() > self.highest_fence, "fences grow");
            self.highest_fence = token.fence();
            self.tokens.push((hold.key.clone(), token));
        }
        for (id, token) in self.ended.iter().rev().take(9).cloned().collect::<Vec<_>>() {
            let key = wire_key(&id.key);
            assert_eq!(
                self.table.renew(id.kind, key, token, seconds(9), self.now),
                Reply::Error(ErrorStatus::Unspecified)
            );
            assert_eq!(
                self.table.release(id.kind, key, token, self.now),
                Reply::Error(ErrorStatus::Unspecified)
            );
        }
        self.follow_grants();
    }

    pub(super) fn check_invariants(&self) {
        let table = &self.table;
        let (mut leases, mut idle, mut queued) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        assert!(table.keys.len() <= table.config.max_keys);
        for (key, entry) in table.keys.iter() {
            assert!(
                entry.holders.len() <= entry.limit.get() as usize,
                "{key:?} has more holders than its limit"
            );
            assert!(
                entry.queue.is_empty() || !entry.has_free_slot(),
                "{key:?} has a free slot and a queue"
            );
            let expected = self.queues.get(&key).map_or(&[][..], |queue| &queue[..]);
            assert!(
                entry.queue.iter().eq(expected),
                "the queue of {key:?} is not in order of arrival"
            );
            queued.extend(entry.queue.iter().copied());
            for (token, holder) in &entry.holders {
                leases.insert((holder.expires, token.fence()));
                let is_closed = self.closed.contains(&holder.connection);
                assert!(
                    !(is_closed && table.config.auto_release),
                    "a closed connection holds {key:?}"
                );
                assert!(
                    is_closed
                        || table.connections[&holder.connection]
                            .holds
                            .contains_key(&token.fence())
                );
                if let Some(id) = holder.waiter {
                    let state = table.waiters[&id].state;
                    assert!(
                        state == WaiterState::Granted(*token)
                            || state == WaiterState::Acquired(*token)
                    );
                }
            }
            for (connection, id) in &entry.enqueued {
                assert_eq!(table.waiters[id].connection, *connection);
            }
            if entry.is_idle() {
                idle.insert((entry.idle_since, key.clone()));
            }
        }
        assert!(
            table.leases.keys().eq(leases.iter()),
            "the leases are not those of the holders"
        );
        assert_eq!(table.idle, idle);
        for (id, waiter) in &table.waiters {
            assert!(
                !self.closed.contains(&waiter.connection),
                "a closed connection has a waiter"
            );
            assert!(table.connections[&waiter.connection].waiters.contains(id));
            assert_eq!(waiter.state == WaiterState::Queued, queued.contains(id));
            let is_used = table.keys.get(&waiter.key).is_some() || self.pending.contains(id);
            assert!(is_used, "an unused waiter outlived its key");
        }
        for (id, connection) in &table.connections {
            assert!(!connection.is_empty() && !self.closed.contains(id));
            assert!(
                connection
                    .waiters
                    .iter()
                    .all(|id| table.waiters.contains_key(id))
            );
            let has_hold = |hold: &HoldId| {
                table
                    .keys
                    .get(&hold.key)
                    .is_some_and(|entry| entry.holders.contains_key(&hold.token))
            };
            assert!(connection.holds.values().all(has_hold));
        }
    }
}
