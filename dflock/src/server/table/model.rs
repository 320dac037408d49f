//! Random operations against what must always hold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::entry::State;
use super::*;

const MAX_IDLE: u64 = 20;

#[derive(Clone, Debug)]
enum Op {
    Acquire { connection: usize, key: usize, limit: u32, lease: u64 },
    Enqueue { connection: usize, key: usize, limit: u32, lease: u64 },
    Wait { connection: usize, key: usize },
    Collect { waiter: usize },
    GiveUp { waiter: usize },
    Release { token: usize },
    Renew { token: usize, lease: u64 },
    Disconnect { connection: usize },
    Expire { key: usize },
    Advance { milliseconds: u64 },
    Sweep,
    Gc,
}

fn op() -> impl Strategy<Value = Op> {
    // few of each, so that they meet; limit 0 stands for a lock
    let (connection, key, limit, lease) = (0..4_usize, 0..3_usize, 0..3_u32, 1..8_u64);
    prop_oneof![
        6 => (connection.clone(), key.clone(), limit.clone(), lease.clone())
            .prop_map(|(connection, key, limit, lease)| Op::Acquire { connection, key, limit, lease }),
        6 => (connection.clone(), key.clone(), limit, lease.clone())
            .prop_map(|(connection, key, limit, lease)| Op::Enqueue { connection, key, limit, lease }),
        6 => (connection.clone(), key.clone()).prop_map(|(connection, key)| Op::Wait { connection, key }),
        4 => (0..9_usize).prop_map(|waiter| Op::Collect { waiter }),
        2 => (0..9_usize).prop_map(|waiter| Op::GiveUp { waiter }),
        6 => (0..9_usize).prop_map(|token| Op::Release { token }),
        3 => (0..9_usize, lease).prop_map(|(token, lease)| Op::Renew { token, lease }),
        2 => connection.prop_map(|connection| Op::Disconnect { connection }),
        1 => key.prop_map(|key| Op::Expire { key }),
        4 => (0..4_000_u64).prop_map(|milliseconds| Op::Advance { milliseconds }),
        1 => Just(Op::Sweep),
        1 => Just(Op::Gc),
    ]
}

/// A hold as the table has it, for a look before and after.
#[derive(Clone, Debug)]
struct Hold {
    name: Name,
    connection: ConnectionId,
    ends: Duration,
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

    fn holds(&self) -> HashMap<Token, Hold> {
        let entries = self.table.keys.iter();
        let holds = entries.flat_map(|(name, entry)| entry.holders.iter().map(move |(token, holder)| (name, token, holder)));
        holds.map(|(name, &token, h)| (token, Hold { name: name.clone(), connection: h.connection, ends: h.ends })).collect()
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
            Op::Acquire { connection, key, limit, lease } => {
                let (by, capacity) = (self.connections[connection], capacity(limit));
                let text = KEYS[key];
                let answer = self.table.acquire(by, wire_key(text), capacity, seconds(lease), now);
                if let Answer::InLine(id) = answer {
                    self.follow_promotions();
                    self.arrivals.entry(Name::new(capacity.kind(), wire_key(text))).or_default().push(id);
                    self.pending.push(id);
                }
            }
            Op::Enqueue { connection, key, limit, lease } => {
                let (by, capacity) = (self.connections[connection], capacity(limit));
                let name = Name::new(capacity.kind(), wire_key(KEYS[key]));
                if self.table.enqueue(by, wire_key(KEYS[key]), capacity, seconds(lease), now) == Reply::Queued {
                    self.follow_promotions();
                    let id = self.table.enqueued(&name, by).unwrap();
                    self.arrivals.entry(name).or_default().push(id);
                }
            }
            Op::Wait { connection, key } => {
                for kind in [Kind::Lock, Kind::Semaphore] {
                    if let Answer::InLine(id) = self.table.wait(self.connections[connection], kind, wire_key(KEYS[key]), now) {
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
                if let Some((name, token)) = self.tokens.iter().rev().nth(token).cloned() {
                    self.table.release(name.kind, wire_key(&name.key), token, now);
                }
            }
            Op::Renew { token, lease } => {
                if let Some((name, token)) = self.tokens.iter().rev().nth(token).cloned() {
                    self.table.renew(name.kind, wire_key(&name.key), token, seconds(lease), now);
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
            Op::Expire { key } => self.table.expire(wire_key(KEYS[key]), now),
            Op::Advance { milliseconds } => self.now += Duration::from_millis(milliseconds),
            Op::Sweep => self.table.sweep(now),
            Op::Gc => self.table.gc(now),
        }
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

    /// A hold ends only for a reason, and then its token is dead for ever; fences only grow.
    fn check_ends(&mut self, op: &Op, before: &HashMap<Token, Hold>) {
        let after = self.holds();
        for (&token, hold) in before.iter().filter(|(token, _)| !after.contains_key(token)) {
            let reason = match op {
                Op::Release { token: index } => released(&self.tokens, *index) == Some(token),
                Op::Disconnect { .. } => self.closed.contains(&hold.connection),
                Op::Expire { key } => &*hold.name.key == KEYS[*key],
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

    fn check_invariants(&self) {
        let table = &self.table;
        let (mut leases, mut idle, mut in_line) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (name, entry) in &table.keys {
            assert!(entry.holders.len() <= entry.limit.get() as usize, "more holders than the limit at {name:?}");
            assert!(entry.line.is_empty() || !entry.has_room(), "a free slot while somebody waits at {name:?}");
            let expected = self.arrivals.get(name).map_or(&[][..], |line| &line[..]);
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
        }
        for (connection, belongings) in &table.connections {
            assert!(!belongings.is_empty() && !self.closed.contains(connection));
            assert!(belongings.waiters.iter().all(|id| table.waiters.contains_key(id)));
            assert!(belongings.slots.values().all(|slot| table.keys[&slot.name].holders.contains_key(&slot.token)));
        }
    }

    /// When all have gone and all time is over, nothing is left.
    fn end(&mut self) {
        for connection in 0..4 {
            self.step(&Op::Disconnect { connection });
        }
        self.step(&Op::Advance { milliseconds: 100_000 });
        self.step(&Op::Sweep);
        self.step(&Op::Advance { milliseconds: MAX_IDLE * 1000 });
        self.step(&Op::Gc);
        let table = &self.table;
        assert!(table.keys.is_empty() && table.waiters.is_empty() && table.connections.is_empty(), "{table:?}");
        assert!(table.leases.is_empty() && table.idle.is_empty() && table.promotions.is_empty(), "{table:?}");
    }
}

fn released(tokens: &[(Name, Token)], index: usize) -> Option<Token> {
    tokens.iter().rev().nth(index).map(|(_, token)| *token)
}

const KEYS: [&str; 3] = ["a", "b", "c"];

fn wire_key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

fn seconds(lease: u64) -> LeaseSeconds {
    LeaseSeconds::new(Duration::from_secs(lease)).unwrap()
}

fn capacity(limit: u32) -> Capacity {
    Limit::new(limit).map_or(Capacity::Lock, Capacity::Semaphore)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_promises_hold(
        ops in prop::collection::vec(op(), 1..150),
        auto_release in any::<bool>(),
        max_waiters in 0..4_usize,
        max_keys in 2..6_usize,
    ) {
        let rules = Rules { max_keys, max_waiters, gc_max_idle: Duration::from_secs(MAX_IDLE), auto_release };
        let mut world = World::new(rules);
        for op in &ops {
            world.step(op);
        }
        world.end();
    }
}
