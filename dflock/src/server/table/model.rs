//! Random operations against what must always hold: for the property test and for the fuzz target.
#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod op;
mod promises;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::{Answer, ConnectionId, Mint, Name, Promotion, Rules, Table, WaiterId};
use crate::wire::{Key, Kind, LeaseSeconds, Reply, Token};
use op::Op;

const MAX_IDLE: Duration = Duration::from_secs(5);

/// Plays lines of bytes: first the rules as three digits (auto-release, waiters, keys), then an operation each.
pub(crate) fn play(bytes: &[u8]) {
    let mut lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let digit = |at: usize| usize::from(first.get(at).copied().unwrap_or_default() & 7);
    World::new(rules(digit(0) % 2 == 1, digit(1), digit(2))).run(lines.map(Op::read));
}

fn rules(auto_release: bool, max_waiters: usize, keys_more_than_two: usize) -> Rules {
    Rules { max_keys: 2 + keys_more_than_two, max_waiters, gc_max_idle: MAX_IDLE, auto_release }
}

/// The table, and what an onlooker knows.
struct World {
    table: Table,
    now: Duration,
    connections: [ConnectionId; 4],
    /// Who stands in line for each key, in the order in which they came.
    arrivals: BTreeMap<Name, Vec<WaiterId>>,
    /// Who waits for an answer.
    pending: Vec<WaiterId>,
    /// Every token that was ever told or found, the newest last.
    tokens: Vec<(Name, Token)>,
    dead: Vec<(Name, Token)>,
    closed: HashSet<ConnectionId>,
    highest_fence: u64,
}

impl World {
    fn new(rules: Rules) -> Self {
        Self {
            table: Table::new(rules, Mint::seeded(1)),
            now: Duration::from_secs(1),
            connections: [1, 2, 3, 4].map(ConnectionId),
            arrivals: BTreeMap::new(),
            pending: Vec::new(),
            tokens: Vec::new(),
            dead: Vec::new(),
            closed: HashSet::new(),
            highest_fence: 0,
        }
    }

    fn run(mut self, ops: impl Iterator<Item = Op>) {
        ops.for_each(|op| self.step(&op));
        self.end();
    }

    /// When all have gone and all time is over, nothing is left.
    fn end(&mut self) {
        for connection in 0..4 {
            self.step(&Op::Disconnect { connection });
        }
        self.step(&Op::Advance { time: Duration::from_secs(100) });
        self.step(&Op::Sweep);
        self.step(&Op::Advance { time: MAX_IDLE });
        self.step(&Op::Gc);
        let table = &self.table;
        assert!(table.keys.len() == 0 && table.waiters.is_empty() && table.connections.is_empty(), "{table:?}");
        assert!(table.leases.is_empty() && table.idle.is_empty() && table.promotions.is_empty(), "{table:?}");
    }

    fn step(&mut self, op: &Op) {
        let before = self.holds();
        self.apply(op);
        self.follow_promotions();
        self.check_ends(op, &before);
        self.check_invariants();
    }

    fn apply(&mut self, op: &Op) {
        let now = self.now;
        match *op {
            Op::Acquire { connection, key, capacity, lease } => {
                let (by, key) = (self.connections[connection], wire_key(key));
                if let Answer::InLine(id) = self.table.acquire(by, key, capacity, lease, now) {
                    self.follow_promotions();
                    self.arrivals.entry(Name::new(capacity.kind(), key)).or_default().push(id);
                    self.pending.push(id);
                }
            }
            Op::Enqueue { connection, key, capacity, lease } => {
                let (by, key) = (self.connections[connection], wire_key(key));
                if self.table.enqueue(by, key, capacity, lease, now) == Reply::Queued {
                    self.follow_promotions();
                    let name = Name::new(capacity.kind(), key);
                    let id = self.table.enqueued(capacity.kind(), key, by).expect("who is queued stands in line");
                    self.arrivals.entry(name).or_default().push(id);
                }
            }
            Op::Wait { connection, key } => {
                for kind in [Kind::Lock, Kind::Semaphore] {
                    if let Answer::InLine(id) = self.table.wait(self.connections[connection], kind, wire_key(key), now) {
                        self.pending.push(id);
                    }
                }
            }
            Op::Collect { waiter } => {
                if let Some(&id) = self.pending.get(waiter)
                    && let Answer::Now(_) = self.table.collect(id, now)
                {
                    self.pending.retain(|&other| other != id);
                }
            }
            Op::GiveUp { waiter } => {
                if let Some(&id) = self.pending.get(waiter) {
                    self.pending.retain(|&other| other != id);
                    let reply = self.table.give_up(id, Reply::Timeout, now);
                    self.follow_promotions();
                    if reply == Reply::Timeout {
                        self.leave_lines(|other| other != id);
                    }
                }
            }
            Op::Release { token } => {
                if let Some((name, token)) = self.told(token).cloned() {
                    self.table.release(name.kind, wire_key(&name.key), token, now);
                }
            }
            Op::Renew { token, lease } => {
                if let Some((name, token)) = self.told(token).cloned() {
                    self.table.renew(name.kind, wire_key(&name.key), token, lease, now);
                }
            }
            Op::Disconnect { connection } => {
                let gone = self.connections[connection];
                let gone_waiters: HashSet<_> =
                    self.table.waiters.iter().filter(|(_, waiter)| waiter.connection == gone).map(|(id, _)| *id).collect();
                self.table.sweep(now);
                self.follow_promotions();
                self.leave_lines(|id| !gone_waiters.contains(&id));
                self.table.disconnect(gone, now);
                self.pending.retain(|id| !gone_waiters.contains(id));
                self.closed.insert(gone);
                self.connections[connection] = ConnectionId(gone.0 + 4);
            }
            Op::Expire { key } => _ = self.table.expire(wire_key(key), now),
            Op::Advance { time } => self.now += time,
            Op::Sweep => self.table.sweep(now),
            Op::Gc => self.table.gc(now),
        }
    }

    /// The token that was told last but `index`.
    fn told(&self, index: usize) -> Option<&(Name, Token)> {
        self.tokens.iter().rev().nth(index)
    }

    fn leave_lines(&mut self, stays: impl Fn(WaiterId) -> bool) {
        self.arrivals.values_mut().for_each(|line| line.retain(|&id| stays(id)));
    }

    /// Grants come strictly in the order of arrival.
    fn follow_promotions(&mut self) {
        for Promotion { waiter, .. } in self.table.promotions().collect::<Vec<_>>() {
            let line = self.arrivals.values_mut().find(|line| line.contains(&waiter)).expect("who is promoted stood in line");
            assert_eq!(line.remove(0), waiter, "somebody overtook the line");
        }
    }
}

fn wire_key(text: &str) -> Key<'_> {
    Key::new(text).expect("the keys of the model are keys")
}

fn seconds(lease: u64) -> LeaseSeconds {
    LeaseSeconds::new(Duration::from_secs(lease)).expect("the leases of the model are leases")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn whatever_happens_the_promises_hold(
            ops in prop::collection::vec(any::<[u8; 5]>().prop_map(|line| Op::read(&line)), 1..150),
            rules in (any::<bool>(), 0..4_usize, 0..4_usize).prop_map(|(auto_release, waiters, keys)| rules(auto_release, waiters, keys)),
        ) {
            World::new(rules).run(ops.into_iter());
        }
    }
}
