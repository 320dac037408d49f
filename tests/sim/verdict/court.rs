//! State of the checker, built from the history entry by entry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dflock::server::EndReason;

use super::grant::{Cause, Grant, Had};
use super::spans::Spans;
use crate::sim::actor::HASTY;
use crate::sim::history::{Entry, Slot, What};
use crate::sim::link::Link;
use crate::sim::plan::{Fault, Plan, SERVERS};

/// Longest latency with which a renewal is certain to succeed. With more, a lease of 1 s may be
/// lost without a fault.
pub(super) const GENTLE: Duration = Duration::from_millis(20);

/// Queue and holders of one key on the server.
#[derive(Default)]
struct Queue {
    line: VecDeque<u64>,
    live: BTreeSet<Slot>,
}

pub(super) struct Court<'a> {
    pub(super) plan: &'a Plan,
    pub(super) begun: tokio::time::Instant,
    pub(super) links: &'a [Link],
    pub(super) grants: BTreeMap<Slot, Grant>,
    queues: BTreeMap<Arc<str>, Queue>,
    /// Shard of each server, by the number of the server.
    homes: BTreeMap<usize, usize>,
    silent: BTreeSet<(usize, u64)>,
    pub(super) jumps: Spans,
    /// Times of any fault.
    pub(super) troubles: Spans,
    /// Times at which each server was frozen.
    pub(super) freezes: [Spans; SERVERS.len()],
    /// Times at which each server delayed its replies.
    pub(super) delays: [Spans; SERVERS.len()],
    /// Times at which each server disconnected clients.
    pub(super) hang_ups: [Spans; SERVERS.len()],
    /// Times at which at least one client did not run.
    pub(super) pauses: Spans,
    /// Violations in which a slot had two holders.
    pub(super) overlaps: Vec<String>,
    pub(super) others: Vec<String>,
    pub(super) events: BTreeMap<&'static str, u64>,
}

impl<'a> Court<'a> {
    pub(super) fn new(plan: &'a Plan, begun: tokio::time::Instant, links: &'a [Link]) -> Self {
        Self {
            plan,
            begun,
            links,
            grants: BTreeMap::new(),
            queues: BTreeMap::new(),
            homes: BTreeMap::new(),
            silent: BTreeSet::new(),
            jumps: Spans::default(),
            troubles: Spans::default(),
            freezes: Default::default(),
            delays: Default::default(),
            hang_ups: Default::default(),
            pauses: Spans::default(),
            overlaps: Vec::new(),
            others: Vec::new(),
            events: BTreeMap::new(),
        }
    }

    pub(super) fn hear(&mut self, Entry { at, what }: &Entry) {
        let at = *at;
        match what {
            What::Started { shard, server } => {
                self.homes.insert(*server, *shard);
            }
            What::Stopped { shard } => self.end_all(at, *shard),
            What::Joined { key, waiter } => {
                self.count("waits in line");
                self.queue(key).line.push_back(*waiter);
            }
            What::Left { key, waiter } => self.queue(key).line.retain(|w| w != waiter),
            What::Granted {
                key,
                slot,
                server,
                connection,
                waiter,
            } => {
                self.count("grants");
                self.grant(at, *slot, key, *server, *waiter);
                self.grants
                    .insert(*slot, Grant::new(key, at, (*server, *connection)));
            }
            What::Renewed { .. } => self.count("renewals"),
            What::Ended { slot, why } => self.end(at, *slot, *why),
            What::Silent { server, connection } => {
                self.count("read timeouts");
                self.silent.insert((*server, *connection));
            }
            What::Had {
                key,
                slot,
                lease,
                asked,
                in_body,
                ..
            } => {
                self.count("holds");
                if *in_body {
                    self.count("holds of bodies");
                }
                if self.plan.key(key).is_lock {
                    self.count("holds of locks");
                }
                if self.at(*slot).key != *key {
                    self.accuse(at, &format!("slot {slot} was received as a slot of {key}"));
                }
                let had = Had {
                    at,
                    lease: *lease,
                    asked: *asked,
                    in_body: *in_body,
                };
                if self.at(*slot).had.replace(had).is_some() {
                    self.accuse(at, &format!("slot {slot} was received twice"));
                }
            }
            What::Doubted { slot } => {
                self.at(*slot).doubted.get_or_insert(at);
            }
            What::Unlost { slot } => {
                self.accuse(at, &format!("slot {slot} was lost, and later was not"));
            }
            What::OnLost { slot, .. } => {
                self.count("losses told");
                self.at(*slot).on_lost.push(at);
            }
            What::Told { slot, since } => {
                self.at(*slot).told.get_or_insert((*since, at));
            }
            What::Worked { slot } => self.at(*slot).worked.push(at),
            What::Gone {
                slot,
                how,
                believed,
            } => self.at(*slot).gone = Some((at, *how, *believed)),
            What::Released { slot, outcome } => {
                self.at(*slot).released = Some(*outcome);
                if outcome.is_ok()
                    && self
                        .at(*slot)
                        .ended
                        .is_none_or(|(_, cause)| cause != Cause::Released)
                {
                    self.accuse(
                        at,
                        &format!(
                            "the release of slot {slot} succeeded, but the server did not release it"
                        ),
                    );
                }
            }
            What::Failed { what, why, .. } => self.failed(at, what, why),
            What::Slow {
                what,
                took,
                allowed,
                ..
            } => self.accuse(
                at,
                &format!("{what} took {took:?}, more than {allowed:?}"),
            ),
            What::Cut { .. } => self.count("futures cut short"),
            What::Fault(fault) => {
                self.troubles.open(at);
                if let Some(spans) = self.spans(fault) {
                    spans.open(at);
                }
            }
            What::Healed(fault) => {
                self.troubles.close(at);
                if let Some(spans) = self.spans(fault) {
                    spans.close(at);
                }
            }
            What::Jumped { from } => {
                for spans in [&mut self.jumps, &mut self.pauses, &mut self.troubles] {
                    spans.add(*from, at);
                }
            }
            What::Wrong(what) => self.accuse(at, what),
        }
    }

    pub(super) fn is_calm(&self) -> bool {
        self.plan.longest_latency() <= GENTLE && self.troubles.is_empty()
    }

    pub(super) fn accuse(&mut self, at: Duration, what: &str) {
        self.others.push(violation(at, what));
    }

    /// Checks that grants follow the order of the queue and that the limit is kept.
    fn grant(
        &mut self,
        at: Duration,
        slot: Slot,
        key: &Arc<str>,
        server: usize,
        waiter: Option<u64>,
    ) {
        let (limit, home) = (self.plan.key(key).limit as usize, self.plan.key(key).shard);
        let there = self.homes[&server];
        if there != home {
            self.overlaps.push(violation(
                at,
                &format!(
                    "slot {slot} of {key} was granted on shard {there}, but its key belongs to shard {home}"
                ),
            ));
        }
        if home > 0 {
            self.count("grants of other shards");
        }
        let queue = self.queue(key);
        let first = queue.line.front().copied();
        if waiter.is_some() {
            queue.line.pop_front();
        }
        queue.live.insert(slot);
        let live = queue.live.len();
        if first != waiter {
            self.accuse(at, &format!("slot {slot} of {key} was granted to waiter {waiter:?}, but {first:?} was first in the queue"));
        }
        if live > limit {
            self.overlaps.push(violation(
                at,
                &format!("the server granted slot {slot} of {key} above the limit"),
            ));
        }
    }

    fn end(&mut self, at: Duration, slot: Slot, why: EndReason) {
        let Some(grant) = self.grants.get_mut(&slot) else {
            return;
        };
        let cause = match why {
            EndReason::Released => Cause::Released,
            EndReason::Expired => Cause::Expired,
            EndReason::Disconnected if self.silent.contains(&grant.link) => Cause::Silent,
            EndReason::Forced | EndReason::Disconnected => Cause::Gone,
        };
        grant.ended = Some((at, cause));
        let key = Arc::clone(&grant.key);
        self.queue(&key).live.remove(&slot);
        if cause == Cause::Expired {
            self.count("leases ended");
        }
    }

    /// Ends all grants of a server that has stopped.
    fn end_all(&mut self, at: Duration, shard: usize) {
        let plan = self.plan;
        let lived_there = |key: &str| plan.key(key).shard == shard;
        for grant in self
            .grants
            .values_mut()
            .filter(|grant| grant.ended.is_none() && lived_there(&grant.key))
        {
            grant.ended = Some((at, Cause::Gone));
        }
        self.queues.retain(|key, _| !lived_there(key));
    }

    fn failed(&mut self, at: Duration, what: &str, why: &'static str) {
        self.count(why);
        if matches!(why, "protocol" | "config" | "limit mismatch" | "other") {
            self.accuse(at, &format!("{what} failed: {why}"));
        } else if self.is_calm() && why != "timeout" && (what, why) != (HASTY, "connect timeout") {
            self.accuse(at, &format!("{what} failed without a fault: {why}"));
        }
    }

    /// Returns the intervals in which the times of this fault are kept.
    fn spans(&mut self, fault: &Fault) -> Option<&mut Spans> {
        match *fault {
            Fault::Freeze { shard } => Some(&mut self.freezes[shard]),
            Fault::DelayReplies { shard, .. } => Some(&mut self.delays[shard]),
            Fault::Disconnect { key } => Some(&mut self.hang_ups[self.plan.keys[key].shard]),
            Fault::DisconnectAll { shard } => Some(&mut self.hang_ups[shard]),
            Fault::Busy { .. } => Some(&mut self.pauses),
            _ => None,
        }
    }

    fn queue(&mut self, key: &Arc<str>) -> &mut Queue {
        self.queues.entry(Arc::clone(key)).or_default()
    }

    fn at(&mut self, slot: Slot) -> &mut Grant {
        self.grants
            .get_mut(&slot)
            .expect("the server's grant is recorded first")
    }

    fn count(&mut self, what: &'static str) {
        *self.events.entry(what).or_default() += 1;
    }
}

pub(super) fn violation(at: Duration, what: &str) -> String {
    format!("at {:.3} s: {what}", at.as_secs_f64())
}
