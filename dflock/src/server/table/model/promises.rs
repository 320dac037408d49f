//! What must hold after each operation.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{Op, World, seconds, wire_key};
use crate::server::table::entry::State;
use crate::server::table::{ConnectionId, Name};
use crate::wire::{Reply, Status, Token};

/// A hold as the table has it, for a look before and after.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    name: Name,
    connection: ConnectionId,
    ends: Duration,
}

impl World {
    pub(super) fn holds(&self) -> HashMap<Token, Hold> {
        let entries = self.table.keys.iter();
        let holds = entries.flat_map(|(name, entry)| entry.holders.iter().map(move |(token, holder)| (name.clone(), token, holder)));
        holds.map(|(name, &token, h)| (token, Hold { name, connection: h.connection, ends: h.ends })).collect()
    }

    /// A hold ends only for a reason, and then its token is dead for ever; fences only grow.
    pub(super) fn check_ends(&mut self, op: &Op, before: &HashMap<Token, Hold>) {
        let after = self.holds();
        for (&token, hold) in before.iter().filter(|(token, _)| !after.contains_key(token)) {
            let reason = match op {
                Op::Release { token: index } => self.told(*index).is_some_and(|(_, released)| *released == token),
                Op::Disconnect { .. } => self.closed.contains(&hold.connection),
                Op::Expire { key } => &*hold.name.key == *key,
                _ => false,
            };
            assert!(reason || hold.ends <= self.now, "{hold:?} ended by {op:?}");
            self.dead.push((hold.name.clone(), token));
        }
        let mut new: Vec<_> = after.iter().filter(|(token, _)| !before.contains_key(token)).collect();
        new.sort_by_key(|(token, _)| token.fence());
        for (&token, hold) in new {
            assert!(token.fence() > self.highest_fence, "fences grow");
            self.highest_fence = token.fence();
            self.tokens.push((hold.name.clone(), token));
        }
        for (name, token) in self.dead.iter().rev().take(9).cloned().collect::<Vec<_>>() {
            let key = wire_key(&name.key);
            assert_eq!(self.table.renew(name.kind, key, token, seconds(9), self.now), Reply::Refused(Status::Error));
            assert_eq!(self.table.release(name.kind, key, token, self.now), Reply::Refused(Status::Error));
        }
        self.follow_promotions();
    }

    pub(super) fn check_invariants(&self) {
        let table = &self.table;
        let (mut leases, mut idle, mut in_line) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        assert_eq!(table.census.keys(), table.keys.len());
        for (name, entry) in table.keys.iter() {
            assert!(entry.holders.len() <= entry.limit.get() as usize, "more holders than the limit at {name:?}");
            assert!(entry.line.is_empty() || !entry.has_room(), "a free slot while somebody waits at {name:?}");
            let expected = self.arrivals.get(&name).map_or(&[][..], |line| &line[..]);
            assert!(entry.line.iter().eq(expected), "the line of {name:?} is not who came");
            in_line.extend(entry.line.iter().copied());
            for (token, holder) in &entry.holders {
                leases.insert((holder.ends, token.fence()));
                let is_gone = self.closed.contains(&holder.connection);
                assert!(!(is_gone && table.rules.auto_release), "a closed connection holds {name:?}");
                assert!(is_gone || table.connections[&holder.connection].slots.contains_key(&token.fence()));
                if let Some(id) = holder.waiter {
                    let state = table.waiters[&id].state;
                    assert!(state == State::Promoted(*token) || state == State::Acquired(*token));
                }
            }
            for (connection, id) in &entry.enqueued {
                assert_eq!(table.waiters[id].connection, *connection);
            }
            if entry.is_idle() {
                idle.insert((entry.idle_since, name.clone()));
            }
        }
        assert!(table.leases.keys().eq(leases.iter()), "the leases are those of the holders");
        assert_eq!(table.idle, idle);
        for (id, waiter) in &table.waiters {
            assert!(!self.closed.contains(&waiter.connection), "a closed connection waits");
            assert!(table.connections[&waiter.connection].waiters.contains(id));
            assert_eq!(waiter.state == State::InLine, in_line.contains(id));
            let is_wanted = table.keys.get(&waiter.name).is_some() || self.pending.contains(id);
            assert!(is_wanted, "a waiter that nobody asks for outlived its key");
        }
        for (connection, belongings) in &table.connections {
            assert!(!belongings.is_empty() && !self.closed.contains(connection));
            assert!(belongings.waiters.iter().all(|id| table.waiters.contains_key(id)));
            assert!(
                belongings
                    .slots
                    .values()
                    .all(|slot| table.keys.get(&slot.name).is_some_and(|entry| entry.holders.contains_key(&slot.token)))
            );
        }
    }
}
