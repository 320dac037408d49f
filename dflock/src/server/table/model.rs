//! Model of the table, for the property test and the fuzz target: random operations, and invariants
//! that are checked after each of them.
#![allow(clippy::expect_used, reason = "test code")]

mod invariants;
mod op;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::{ConnectionId, Granted, KeyId, Outcome, Table, TableConfig, TokenGenerator, WaiterId};
use crate::wire::{Key, Kind, Reply, Token};
use op::Op;

const MAX_IDLE: Duration = Duration::from_secs(5);

/// Runs a text input. The first line holds the configuration as three digits (auto-release, maximum
/// of waiters, maximum of keys less 2); every other line holds one operation.
pub(crate) fn run(bytes: &[u8]) {
    let mut lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let digit = |at: usize| usize::from(first.get(at).copied().unwrap_or_default() & 7);
    Model::new(config(digit(0) % 2 == 1, digit(1), digit(2))).run(lines.map(Op::parse));
}

fn config(auto_release: bool, max_waiters: usize, keys_more_than_two: usize) -> TableConfig {
    TableConfig {
        max_keys: 2 + keys_more_than_two,
        max_waiters,
        gc_max_idle: MAX_IDLE,
        auto_release,
    }
}

/// The table, and the state that its clients expect.
struct Model {
    table: Table,
    now: Duration,
    connections: [ConnectionId; 4],
    /// Queued waiters of each key, in order of arrival.
    queues: BTreeMap<KeyId, Vec<WaiterId>>,
    /// Waiters whose request waits for a reply.
    pending: Vec<WaiterId>,
    /// All tokens ever granted, the newest last.
    tokens: Vec<(KeyId, Token)>,
    /// Tokens whose holds have ended.
    ended: Vec<(KeyId, Token)>,
    closed: HashSet<ConnectionId>,
    highest_fence: u64,
}

impl Model {
    fn new(config: TableConfig) -> Self {
        Self {
            table: Table::new(config, TokenGenerator::seeded(1)),
            now: Duration::from_secs(1),
            connections: [1, 2, 3, 4].map(ConnectionId),
            queues: BTreeMap::new(),
            pending: Vec::new(),
            tokens: Vec::new(),
            ended: Vec::new(),
            closed: HashSet::new(),
            highest_fence: 0,
        }
    }

    fn run(mut self, ops: impl Iterator<Item = Op>) {
        ops.for_each(|op| self.step(&op));
        self.end();
    }

    /// Checks that the table is empty after all connections have ended and all times have passed.
    fn end(&mut self) {
        for connection in 0..4 {
            self.step(&Op::Disconnect { connection });
        }
        self.step(&Op::Advance {
            time: Duration::from_secs(100),
        });
        self.step(&Op::Sweep);
        self.step(&Op::Advance { time: MAX_IDLE });
        self.step(&Op::Gc);
        let table = &self.table;
        assert!(
            table.keys.len() == 0 && table.waiters.is_empty() && table.connections.is_empty(),
            "{table:?}"
        );
        assert!(
            table.leases.is_empty() && table.idle.is_empty() && table.granted.is_empty(),
            "{table:?}"
        );
    }

    fn step(&mut self, op: &Op) {
        let before = self.holds();
        self.apply(op);
        self.follow_grants();
        self.check_ends(op, &before);
        self.check_invariants();
    }

    fn apply(&mut self, op: &Op) {
        let now = self.now;
        match *op {
            Op::Acquire {
                connection,
                key,
                primitive,
                lease,
            } => {
                let (connection, key) = (self.connections[connection], wire_key(key));
                if let Outcome::Queued(id) =
                    self.table.acquire(connection, key, primitive, lease, now)
                {
                    self.follow_grants();
                    self.queues
                        .entry(KeyId::new(primitive.kind(), key))
                        .or_default()
                        .push(id);
                    self.pending.push(id);
                }
            }
            Op::Enqueue {
                connection,
                key,
                primitive,
                lease,
            } => {
                let (connection, key) = (self.connections[connection], wire_key(key));
                if self.table.enqueue(connection, key, primitive, lease, now) == Reply::Queued {
                    self.follow_grants();
                    let id = self
                        .table
                        .find_enqueue(primitive.kind(), key, connection)
                        .expect("a queued client has a waiter");
                    self.queues
                        .entry(KeyId::new(primitive.kind(), key))
                        .or_default()
                        .push(id);
                }
            }
            Op::Wait { connection, key } => {
                for kind in [Kind::Lock, Kind::Semaphore] {
                    if let Outcome::Queued(id) =
                        self.table
                            .wait(self.connections[connection], kind, wire_key(key), now)
                    {
                        self.pending.push(id);
                    }
                }
            }
            Op::TakeGrant { waiter } => {
                if let Some(&id) = self.pending.get(waiter)
                    && let Outcome::Reply(_) = self.table.take_grant(id, now)
                {
                    self.pending.retain(|&other| other != id);
                }
            }
            Op::CancelWait { waiter } => {
                if let Some(&id) = self.pending.get(waiter) {
                    self.pending.retain(|&other| other != id);
                    let reply = self.table.cancel_wait(id, Reply::Timeout, now);
                    self.follow_grants();
                    if reply == Reply::Timeout {
                        self.retain_queued(|other| other != id);
                    }
                }
            }
            Op::Release { token } => {
                if let Some((key, token)) = self.known_token(token).cloned() {
                    self.table.release(key.kind, wire_key(&key.key), token, now);
                }
            }
            Op::Renew { token, lease } => {
                if let Some((key, token)) = self.known_token(token).cloned() {
                    self.table
                        .renew(key.kind, wire_key(&key.key), token, lease, now);
                }
            }
            Op::Disconnect { connection } => {
                let gone = self.connections[connection];
                let gone_waiters: HashSet<_> = self
                    .table
                    .waiters
                    .iter()
                    .filter(|(_, waiter)| waiter.connection == gone)
                    .map(|(id, _)| *id)
                    .collect();
                self.table.sweep(now);
                self.follow_grants();
                self.retain_queued(|id| !gone_waiters.contains(&id));
                self.table.disconnect(gone, now);
                self.pending.retain(|id| !gone_waiters.contains(id));
                self.closed.insert(gone);
                self.connections[connection] = ConnectionId(gone.0 + 4);
            }
            Op::Expire { key } => {
                // A queued waiter is granted the slot of an expired lease, and loses it at once.
                let is_held = self
                    .table
                    .keys
                    .iter()
                    .filter(|(id, _)| *id.key == *key)
                    .any(|(_, entry)| {
                        !entry.queue.is_empty()
                            || entry.holders.values().any(|holder| holder.expires > now)
                    });
                assert_eq!(self.table.expire(wire_key(key), now), is_held);
            }
            Op::Advance { time } => self.now += time,
            Op::Sweep => self.table.sweep(now),
            Op::Gc => self.table.gc(now),
        }
    }

    /// Returns the `index`-th newest token.
    fn known_token(&self, index: usize) -> Option<&(KeyId, Token)> {
        self.tokens.iter().rev().nth(index)
    }

    fn retain_queued(&mut self, retain: impl Fn(WaiterId) -> bool) {
        self.queues
            .values_mut()
            .for_each(|queue| queue.retain(|&id| retain(id)));
    }

    /// Checks that grants are made strictly in order of arrival.
    fn follow_grants(&mut self) {
        for Granted { waiter, .. } in self.table.take_granted().collect::<Vec<_>>() {
            let mut queues = self.queues.values_mut();
            let queue = queues
                .find(|queue| queue.contains(&waiter))
                .expect("a granted waiter was queued");
            assert_eq!(queue.remove(0), waiter, "a waiter overtook the queue");
        }
    }
}

fn wire_key(text: &str) -> Key<'_> {
    Key::new(text).expect("the keys of the model are valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn the_invariants_hold_after_every_operation(
            ops in prop::collection::vec(
                any::<[u8; 5]>().prop_map(|line| Op::parse(&line)),
                1..150,
            ),
            config in (any::<bool>(), 0..4_usize, 0..4_usize)
                .prop_map(|(auto_release, waiters, keys)| config(auto_release, waiters, keys)),
        ) {
            Model::new(config).run(ops.into_iter());
        }
    }
}
