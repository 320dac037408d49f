//! State of the checker, built from the history entry by entry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dflock::LostReason;
use dflock::server::EndReason;

use super::grant::{Acquired, Cause, Grant};
use crate::sim::actor::{ACQUIRE_ALL, SHORT_ACQUIRE};
use crate::sim::history::{Entry, Event, GrantId};
use crate::sim::intervals::Intervals;
use crate::sim::link::Link;
use crate::sim::plan::{Fault, Plan, SERVERS, gate};

/// Longest latency with which a renewal is certain to succeed. With more, a lease of 1 s may be
/// lost without a fault.
pub(super) const RENEWAL_SLACK: Duration = Duration::from_millis(20);

/// Queue and holders of one key on the server.
#[derive(Default)]
struct Queue {
    waiters: VecDeque<u64>,
    holders: BTreeSet<GrantId>,
}

pub(super) struct Checker<'a> {
    pub(super) plan: &'a Plan,
    pub(super) start: tokio::time::Instant,
    pub(super) links: &'a [Link],
    pub(super) grants: BTreeMap<GrantId, Grant>,
    queues: BTreeMap<Arc<str>, Queue>,
    /// Shard of each server, by the number of the server.
    shards: BTreeMap<usize, usize>,
    silent: BTreeSet<(usize, u64)>,
    /// Request that was added to a queue in the previous entry, with its connection.
    joined: Option<(Duration, Arc<str>, (usize, u64))>,
    /// Gate of the acquire on each connection that waits for a further permit.
    gates: BTreeMap<(usize, u64), GrantId>,
    /// Last grant of any slot before the first permit on each connection was requested. Missing if
    /// that permit was free.
    before_request: BTreeMap<(usize, u64), GrantId>,
    /// Further permits of each hold, by its first one.
    further_permits: BTreeMap<GrantId, Vec<GrantId>>,
    pub(super) jumps: Intervals,
    /// Times of any fault.
    pub(super) fault_windows: Intervals,
    /// Times at which each server was frozen.
    pub(super) freezes: [Intervals; SERVERS.len()],
    /// Times at which each server delayed its replies.
    pub(super) delays: [Intervals; SERVERS.len()],
    /// Times at which each server disconnected clients.
    pub(super) disconnects: [Intervals; SERVERS.len()],
    /// Times at which clients began to close, and at which their closes completed.
    pub(super) close_starts: BTreeMap<usize, Duration>,
    pub(super) closes: BTreeMap<usize, Duration>,
    /// Times at which at least one client did not run.
    pub(super) pauses: Intervals,
    /// Violations in which a slot had two holders.
    pub(super) overlaps: Vec<String>,
    pub(super) others: Vec<String>,
    pub(super) events: BTreeMap<&'static str, u64>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(plan: &'a Plan, start: tokio::time::Instant, links: &'a [Link]) -> Self {
        Self {
            plan,
            start,
            links,
            grants: BTreeMap::new(),
            queues: BTreeMap::new(),
            shards: BTreeMap::new(),
            silent: BTreeSet::new(),
            joined: None,
            gates: BTreeMap::new(),
            before_request: BTreeMap::new(),
            further_permits: BTreeMap::new(),
            jumps: Intervals::default(),
            fault_windows: Intervals::default(),
            freezes: Default::default(),
            delays: Default::default(),
            disconnects: Default::default(),
            close_starts: BTreeMap::new(),
            closes: BTreeMap::new(),
            pauses: Intervals::default(),
            overlaps: Vec::new(),
            others: Vec::new(),
            events: BTreeMap::new(),
        }
    }

    pub(super) fn observe(&mut self, entry: &Entry) {
        self.observe_one(entry);
        // An event of a hold is one of each of its permits.
        let mut entry = entry.clone();
        let first = entry.event.hold().copied();
        let further = first.and_then(|slot| self.further_permits.get(&slot).cloned());
        for permit in further.unwrap_or_default() {
            if let Some(slot) = entry.event.hold() {
                *slot = permit;
            }
            self.observe_one(&entry);
        }
    }

    fn observe_one(&mut self, Entry { at, event }: &Entry) {
        let at = *at;
        self.check_joined(event);
        match event {
            Event::Started { shard, server } => {
                self.shards.insert(*server, *shard);
            }
            Event::Stopped { shard } => self.end_all(at, *shard),
            Event::Joined {
                key,
                waiter,
                server,
                connection,
            } => {
                self.count("waits in the queue");
                self.queue(key).waiters.push_back(*waiter);
                let link = (*server, *connection);
                let is_first = !self.grants.values().any(|grant| grant.is_on(link));
                if let Some((&last, _)) = self.grants.last_key_value().filter(|_| is_first) {
                    self.before_request.insert(link, last);
                }
                self.joined = Some((at, Arc::clone(key), link));
            }
            Event::Left { key, waiter } => self.queue(key).waiters.retain(|w| w != waiter),
            Event::Granted {
                key,
                slot,
                server,
                connection,
                waiter,
            } => {
                self.count("grants");
                self.grant(at, *slot, key, *server, *waiter);
                self.granted_beside(at, *slot, key, (*server, *connection), *waiter);
                self.grants
                    .insert(*slot, Grant::new(key, at, (*server, *connection)));
            }
            Event::Renewed { .. } => self.count("renewals"),
            Event::Ended { slot, why } => self.end(at, *slot, *why),
            Event::ReadTimeout { server, connection } => {
                self.count("read timeouts");
                self.silent.insert((*server, *connection));
            }
            Event::Acquired {
                client,
                key,
                slot,
                lease,
                probe,
                in_body,
                further,
            } => {
                let acquired = Acquired {
                    client: *client,
                    at,
                    lease: *lease,
                    probe: *probe,
                    in_body: *in_body,
                };
                self.acquired(key, *slot, acquired, further);
            }
            Event::AcquiredAll { slots } => self.acquired_all(at, slots),
            Event::ReportedLost { slot } => {
                self.grant_mut(*slot).reported_lost.get_or_insert(at);
            }
            Event::ReportedHeld { slot } => {
                self.report_violation(at, &format!("slot {slot} was lost, and later was not"));
            }
            Event::OnLost { slot, reason } => {
                self.count("losses reported");
                let is_overdue = *reason == LostReason::Overdue;
                if is_overdue {
                    self.count("overdue holds");
                }
                let grant = self.grant_mut(*slot);
                grant.is_overdue |= is_overdue;
                grant.on_lost.push(at);
            }
            Event::LossNotified { slot, since } => {
                self.grant_mut(*slot).notified.get_or_insert((*since, at));
            }
            Event::RunEnded { slot } => self.grant_mut(*slot).run_ends.push(at),
            Event::GivenUp {
                slot,
                kind,
                was_held,
            } => self.grant_mut(*slot).given_up = Some((at, *kind, *was_held)),
            Event::ReleaseReturned { slot, outcome } => {
                self.release_returned(at, *slot, *outcome);
            }
            Event::Failed {
                client,
                operation,
                why,
            } => self.failed(at, *client, operation, why),
            Event::Slow {
                operation,
                took,
                allowed,
                ..
            } => self.report_violation(
                at,
                &format!("{operation} took {took:?}, more than {allowed:?}"),
            ),
            Event::Cancelled { .. } => self.count("cancelled futures"),
            Event::CloseStarted { client } => {
                self.count("closes");
                self.close_starts.insert(*client, at);
            }
            Event::Closed { client } => {
                self.closes.insert(*client, at);
            }
            Event::FaultStarted(fault) => {
                self.fault_windows.open(at);
                if let Some(intervals) = self.intervals_mut(fault) {
                    intervals.open(at);
                }
            }
            Event::FaultEnded(fault) => {
                self.fault_windows.close(at);
                if let Some(intervals) = self.intervals_mut(fault) {
                    intervals.close(at);
                }
            }
            Event::TimeJumped { from } => {
                for intervals in [&mut self.jumps, &mut self.pauses, &mut self.fault_windows] {
                    intervals.add(*from, at);
                }
            }
            Event::Violation(what) => self.report_violation(at, what),
        }
    }

    /// Checks the gate of a request that waits in the queue, as soon as something follows it.
    fn check_joined(&mut self, event: &Event) {
        match event {
            Event::ReportedLost { .. } | Event::ReportedHeld { .. } => {}
            // A request without a wait leaves the queue at once.
            Event::Left { .. } => self.joined = None,
            _ => {
                if let Some((at, key, link)) = self.joined.take() {
                    self.check_gate(at, &key, link);
                }
            }
        }
    }

    fn acquired(&mut self, key: &Arc<str>, slot: GrantId, acquired: Acquired, further: &[GrantId]) {
        let at = acquired.at;
        self.count("holds");
        if !further.is_empty() && !self.further_permits.contains_key(&slot) {
            self.count("holds of several permits");
            // The permits have the same event, which is not another hold.
            let permits = further.iter().map(|permit| (*permit, Vec::new()));
            self.further_permits.extend(permits);
            self.further_permits.insert(slot, further.to_vec());
        }
        if acquired.in_body {
            self.count("holds of bodies");
        }
        if self.plan.key(key).is_lock {
            self.count("holds of locks");
        }
        if self.close_starts.contains_key(&acquired.client) {
            let what = format!("slot {slot} was received from a closed client");
            self.report_violation(at, &what);
        }
        if self.grant_mut(slot).key != *key {
            let what = format!("slot {slot} was received as a slot of {key}");
            self.report_violation(at, &what);
        }
        if self.grant_mut(slot).acquired.replace(acquired).is_some() {
            self.report_violation(at, &format!("slot {slot} was received twice"));
        }
    }

    fn release_returned(&mut self, at: Duration, slot: GrantId, outcome: Result<(), &'static str>) {
        self.grant_mut(slot).released = Some(outcome);
        let grant = &self.grants[&slot];
        if outcome.is_ok()
            && !self.lingers(grant)
            && grant
                .ended
                .is_none_or(|(_, cause)| cause != Cause::Released)
        {
            let what =
                format!("the release of slot {slot} succeeded, but the server did not release it");
            self.report_violation(at, &what);
        }
    }

    pub(super) fn is_calm(&self) -> bool {
        self.plan.longest_latency() <= RENEWAL_SLACK && self.fault_windows.is_empty()
    }

    pub(super) fn report_violation(&mut self, at: Duration, what: &str) {
        self.others.push(format_violation(at, what));
    }

    /// Checks that grants follow the order of the queue and that the limit is kept.
    fn grant(
        &mut self,
        at: Duration,
        slot: GrantId,
        key: &Arc<str>,
        server: usize,
        waiter: Option<u64>,
    ) {
        let (limit, shard) = (self.plan.key(key).limit as usize, self.plan.key(key).shard);
        let actual = self.shards[&server];
        if actual != shard {
            self.overlaps.push(format_violation(
                at,
                &format!(
                    "slot {slot} of {key} was granted on shard {actual}, \
                     but its key belongs to shard {shard}"
                ),
            ));
        }
        if shard > 0 {
            self.count("grants of other shards");
        }
        let queue = self.queue(key);
        let first = queue.waiters.front().copied();
        if waiter.is_some() {
            queue.waiters.pop_front();
        }
        queue.holders.insert(slot);
        let holders = queue.holders.len();
        if first != waiter {
            self.report_violation(
                at,
                &format!(
                    "slot {slot} of {key} was granted to waiter {waiter:?}, \
                     but {first:?} was first in the queue"
                ),
            );
        }
        if holders > limit {
            self.overlaps.push(format_violation(
                at,
                &format!("the server granted slot {slot} of {key} above the limit"),
            ));
        }
    }

    /// Returns the connection with this server and number.
    pub(super) fn link(&self, number: (usize, u64)) -> Option<&'a Link> {
        self.links.iter().find(|link| link.peer == Some(number))
    }

    /// Returns whether the client has closed the connection by then.
    fn is_closed_by_client(&self, at: Duration, link: &Link) -> bool {
        let closed = link.closed_by_client;
        closed.is_some_and(|closed| closed.duration_since(self.start) <= at)
    }

    /// Checks that a connection which waits for a permit while it holds others belongs to an acquire
    /// that has the gate, and has not released it. Two such acquires could wait for each other.
    fn check_gate(&mut self, at: Duration, key: &Arc<str>, link: (usize, u64)) {
        let mut held = self.grants.iter().filter(|(_, grant)| grant.is_on(link));
        let Some((&first, _)) = held.find(|(_, grant)| grant.key == *key) else {
            return;
        };
        // The request was under way when its client gave up.
        if self
            .link(link)
            .is_some_and(|link| self.is_closed_by_client(at, link))
        {
            return;
        }
        self.count("waits for further permits");
        let bound = self.gates.get(&link).copied();
        let gate = bound.or_else(|| self.find_gate(at, key, link, first));
        let has_gate = gate.is_some_and(|gate| !self.grants[&gate].is_released());
        if let Some(gate) = gate.filter(|_| has_gate) {
            self.gates.insert(link, gate);
        } else {
            let what = format!("{link:?} waits for a further permit of {key} without its gate");
            self.report_violation(at, &what);
        }
    }

    /// Returns the gate of the acquire on `link` whose first permit is `first`: the last one before
    /// the request for it, on another open connection of the same client, that is the gate of no
    /// other acquire. A gate that was lost counts, because its owner does not know it yet. So a gate
    /// that was granted after the request belongs to another acquire.
    fn find_gate(
        &self,
        at: Duration,
        key: &str,
        link: (usize, u64),
        first: GrantId,
    ) -> Option<GrantId> {
        let (gate, host) = (gate(key), self.link(link)?.host);
        let is_gate = |(id, grant): &(&GrantId, &Grant)| {
            *grant.key == *gate
                && grant.link != link
                && !grant.is_released()
                && !self.gates.values().any(|bound| bound == *id)
                && self
                    .link(grant.link)
                    .is_some_and(|link| link.host == host && !self.is_closed_by_client(at, link))
        };
        let last = self.before_request.get(&link).copied();
        let mut before = self.grants.range(..first).rev();
        before
            .find(|gate| last.is_none_or(|last| *gate.0 <= last) && is_gate(gate))
            .map(|(id, _)| *id)
    }

    /// Checks that a connection holds the permits of one acquire only, so that an acquire that
    /// failed has left nothing. A gate has a separate connection.
    fn granted_beside(
        &mut self,
        at: Duration,
        slot: GrantId,
        key: &Arc<str>,
        link: (usize, u64),
        waiter: Option<u64>,
    ) {
        let mut others = self.grants.values().filter(|grant| grant.is_on(link));
        match others.find(|grant| grant.key != *key) {
            Some(other) => {
                let what = format!(
                    "{link:?} was granted slot {slot} of {key} beside {}",
                    other.key
                );
                self.report_violation(at, &what);
            }
            // The first permit of another acquire.
            None if !self.grants.values().any(|grant| grant.is_on(link)) => {
                self.gates.remove(&link);
                if waiter.is_none() {
                    self.before_request.remove(&link);
                }
            }
            None => {}
        }
    }

    /// Checks that slots which a user received together were granted in the order of their keys.
    /// Grants are numbered in the order in which the servers made them.
    fn acquired_all(&mut self, at: Duration, slots: &[GrantId]) {
        if slots.len() > 1 {
            self.count("holds of several keys");
        }
        let mut granted: Vec<_> = slots
            .iter()
            .map(|slot| (slot, &self.grants[slot].key))
            .collect();
        granted.sort();
        if !granted.is_sorted_by_key(|(_, key)| *key) {
            let what = format!("{granted:?} were not acquired in the order of their keys");
            self.report_violation(at, &what);
        }
    }

    fn end(&mut self, at: Duration, slot: GrantId, why: EndReason) {
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
        self.queue(&key).holders.remove(&slot);
        if cause == Cause::Expired {
            self.count("expired leases");
        }
    }

    /// Ends all grants of a server that has stopped.
    fn end_all(&mut self, at: Duration, shard: usize) {
        let plan = self.plan;
        let is_on_shard = |key: &str| plan.key(key).shard == shard;
        for grant in self
            .grants
            .values_mut()
            .filter(|grant| grant.ended.is_none() && is_on_shard(&grant.key))
        {
            grant.ended = Some((at, Cause::Gone));
        }
        self.queues.retain(|key, _| !is_on_shard(key));
    }

    fn failed(&mut self, at: Duration, client: usize, operation: &str, why: &'static str) {
        self.count(why);
        if why == "closed" && self.close_starts.contains_key(&client) {
            return;
        }
        if matches!(
            why,
            "protocol" | "config" | "limit mismatch" | "closed" | "other"
        ) {
            self.report_violation(at, &format!("{operation} failed: {why}"));
        } else if self.is_calm()
            && !matches!(why, "timeout" | "overdue")
            && !(matches!(operation, SHORT_ACQUIRE | ACQUIRE_ALL) && why == "connect timeout")
        {
            self.report_violation(at, &format!("{operation} failed without a fault: {why}"));
        }
    }

    /// Returns the intervals in which the times of this fault are kept.
    fn intervals_mut(&mut self, fault: &Fault) -> Option<&mut Intervals> {
        match *fault {
            Fault::Freeze { shard } => Some(&mut self.freezes[shard]),
            Fault::DelayReplies { shard, .. } => Some(&mut self.delays[shard]),
            Fault::Disconnect { key } => Some(&mut self.disconnects[self.plan.keys[key].shard]),
            Fault::DisconnectAll { shard } => Some(&mut self.disconnects[shard]),
            Fault::Busy { .. } => Some(&mut self.pauses),
            _ => None,
        }
    }

    fn queue(&mut self, key: &Arc<str>) -> &mut Queue {
        self.queues.entry(Arc::clone(key)).or_default()
    }

    fn grant_mut(&mut self, slot: GrantId) -> &mut Grant {
        self.grants
            .get_mut(&slot)
            .expect("the server's grant is recorded first")
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.events.entry(what).or_default() += 1;
    }
}

pub(super) fn format_violation(at: Duration, what: &str) -> String {
    format!("at {:.3} s: {what}", at.as_secs_f64())
}
