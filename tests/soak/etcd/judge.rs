//! Judge of a run on etcd.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::record::{Process, Record, Sample};
use crate::analysis::Deadline;
use crate::fault::{Fault, FaultKind};
use crate::interval::{Interval, excess, merge, weights};
use crate::key::ETCD_KEYS;
use crate::late_loss::LateLoss;
use crate::timeline::Hold;
use crate::violation::{Violation, ViolationKind};

/// Longest time for which the cluster may list a holder that holds nothing.
pub(crate) const MAX_STALE: Duration = Duration::from_millis(500);

/// Time in which the cluster has a leader again, and the clients have found it.
const ELECTION: Duration = Duration::from_secs(4);

/// Time for which a fault can have effects after its end.
const AFTER_EFFECT: Duration = Duration::from_secs(1);

/// Time after the end of its lease in which the entry of a dead client must be gone. etcd looks for
/// expired leases twice a second, and a busy machine delays their revocation.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5);

pub(crate) struct Judge<'a> {
    record: &'a Record,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(record: &'a Record) -> Self {
        Self { record }
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut all = [
            self.overlaps(),
            self.late_losses(),
            self.live_losses(),
            self.leaks(),
            self.unlisted_holds(),
            self.grants_out_of_order(),
        ]
        .concat();
        all.sort_by_key(|violation| violation.at);
        all
    }

    /// Returns the holds that a fault had to end: those of a client that could not renew for a lease.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (&'a Hold, Deadline)> {
        self.holds().flat_map(|hold| {
            let blocking = self
                .faults()
                .filter(move |fault| fault.affects(hold.client) && prevents_renewal(fault.kind));
            blocking.filter_map(move |fault| {
                // The last renewal was sent before the fault.
                let latest = fault.from + lease(hold.key);
                let confirmed = hold.confirmed?;
                let is_affected =
                    confirmed.from < fault.from && hold.end() >= fault.from && fault.to > latest;
                let deadline = Deadline {
                    fault: *fault,
                    free_from: latest,
                    due: latest,
                    latest,
                    last: confirmed.to,
                };
                is_affected.then_some((hold, deadline))
            })
        })
    }

    /// Returns the holds that began before a fault of this kind and ended after its start.
    pub(crate) fn holds_during(&self, kind: FaultKind) -> usize {
        let faults = self.faults().filter(|fault| fault.kind == kind);
        faults
            .map(|fault| {
                let holds = self.holds().filter(|hold| fault.affects(hold.client));
                holds
                    .filter(|hold| hold.from < fault.from && hold.end() > fault.from)
                    .count()
            })
            .sum()
    }

    /// Returns the number of losses of clients that were cut off or stopped.
    pub(crate) fn excused_losses(&self) -> usize {
        let lost = self.holds().filter_map(|hold| Some((hold, hold.lost?)));
        lost.filter(|(hold, at)| self.is_excused(hold, *at)).count()
    }

    /// Any overlap of confirmed holds is one too many: a client gives a slot up before its lease can
    /// end in the cluster.
    fn overlaps(&self) -> Vec<Violation> {
        let of_key = |key: usize| {
            let holds = self.holds().filter(move |hold| hold.key == key);
            excess(
                holds.filter_map(|hold| hold.confirmed),
                ETCD_KEYS[key].limit,
            )
        };
        let found = (0..ETCD_KEYS.len()).flat_map(|key| {
            let intervals = of_key(key).into_iter();
            intervals.map(move |interval| (key, interval))
        });
        found
            .map(|(key, interval)| self.violation(ViolationKind::Overlap, key, interval))
            .collect()
    }

    fn late_losses(&self) -> Vec<Violation> {
        let late = self
            .deadlines()
            .filter(|(_, deadline)| deadline.last > deadline.latest)
            .map(|(hold, deadline)| Violation {
                fault: Some(deadline.fault.kind),
                late_loss: Some(LateLoss::new(
                    &self.record.timeline,
                    hold,
                    Some(deadline),
                    AFTER_EFFECT,
                )),
                ..self.violation(
                    ViolationKind::Late,
                    hold.key,
                    Interval {
                        from: deadline.latest,
                        to: deadline.last,
                    },
                )
            });
        let contradictions = self
            .holds()
            .filter(|hold| hold.held_after_loss())
            .map(|hold| Violation {
                late_loss: Some(LateLoss::new(
                    &self.record.timeline,
                    hold,
                    None,
                    AFTER_EFFECT,
                )),
                ..self.violation(ViolationKind::Late, hold.key, instant(hold.end()))
            });
        late.chain(contradictions).collect()
    }

    /// A client that reaches a majority keeps its slots, whatever happens to one member.
    fn live_losses(&self) -> Vec<Violation> {
        self.holds()
            .filter_map(|hold| Some((hold, hold.lost?)))
            .filter(|(hold, at)| !self.is_excused(hold, *at))
            .map(|(hold, at)| Violation {
                late_loss: Some(LateLoss::new(
                    &self.record.timeline,
                    hold,
                    None,
                    lease(hold.key),
                )),
                ..self.violation(ViolationKind::LiveLoss, hold.key, instant(at))
            })
            .collect()
    }

    /// Returns whether the client of a hold that was lost at `at` could not renew for half of its
    /// lease, and this was not only because of the members. A renewal takes a third of the lease.
    fn is_excused(&self, hold: &Hold, at: Duration) -> bool {
        let began = at.saturating_sub(lease(hold.key) + AFTER_EFFECT);
        let own = || {
            let faults = self
                .faults()
                .filter(|fault| fault.client == Some(hold.client) && prevents_renewal(fault.kind));
            let stalls = self
                .record
                .timeline
                .stalls
                .iter()
                .filter(|(client, stall)| {
                    client.is_none_or(|client| client == hold.client)
                        && !stall.intentional
                        && stall.interval().length() > AFTER_EFFECT
                });
            let faults = faults.map(|fault| after(fault.interval(), AFTER_EFFECT));
            faults.chain(stalls.map(|(_, stall)| stall.interval()))
        };
        let members = self.faults().filter(|fault| fault.client.is_none());
        let members = members.map(|fault| after(fault.interval(), AFTER_EFFECT));
        let window = Interval {
            from: began,
            to: at,
        };
        covered(own(), window) > AFTER_EFFECT
            && covered(own().chain(members), window) >= lease(hold.key) / 2
    }

    /// The cluster lists a holder whose process has ended, or more holders of a process than it
    /// reports.
    fn leaks(&self) -> Vec<Violation> {
        let mut leaks = Vec::new();
        for key in 0..ETCD_KEYS.len() {
            for process in &self.record.processes {
                let stale = self.stale_intervals(key, process);
                for interval in stale {
                    let excused = self.unsettled(process, key);
                    let open = interval
                        .length()
                        .saturating_sub(covered(excused.into_iter(), interval));
                    if open > MAX_STALE {
                        leaks.push(Violation {
                            process: Some(*process),
                            ..self.violation(ViolationKind::Leak, key, interval)
                        });
                    }
                }
            }
        }
        leaks
    }

    /// Returns the times in which each sample lists more holders of a process than it reported.
    fn stale_intervals(&self, key: usize, process: &Process) -> Vec<Interval> {
        let own = self
            .holds()
            .filter(|hold| hold.key == key && hold.client == process.client);
        let own: Vec<&Hold> = own.collect();
        let mut stale = Vec::new();
        let mut began: Option<Interval> = None;
        for sample in self.samples(key) {
            let listed = sample.holders.iter().filter(|(_, pid)| *pid == process.pid);
            let reported = own
                .iter()
                .filter(|hold| hold.from <= sample.to && hold.end() >= sample.from);
            let has_ended = process.ended.is_some_and(|ended| ended < sample.from);
            let reported = if has_ended { 0 } else { reported.count() };
            if listed.count() > reported {
                let from = began.map_or(sample.to, |interval| interval.from);
                began = Some(Interval {
                    from,
                    to: sample.from.max(from),
                });
            } else {
                stale.extend(began.take());
            }
        }
        stale.extend(began);
        stale
    }

    /// Returns the times in which the cluster may list a slot of a process that holds none: during
    /// faults, and until the lease of a dead process has ended, which an election prolongs.
    fn unsettled(&self, process: &Process, key: usize) -> Vec<Interval> {
        let mut times: Vec<Interval> = Vec::new();
        for fault in self.faults() {
            if fault.client == Some(process.client) {
                times.push(after(fault.interval(), AFTER_EFFECT));
            } else if fault.client.is_none() {
                let settled = match fault.kind {
                    kind if is_leader_fault(kind) => ELECTION,
                    // A client of the member finds out with its next request: its next renewal.
                    FaultKind::FollowerStopped => lease(key) / 3 + AFTER_EFFECT,
                    _ => AFTER_EFFECT,
                };
                times.push(after(instant(fault.from), settled));
                times.push(after(instant(fault.to), AFTER_EFFECT));
            }
        }
        times.extend(
            self.record
                .timeline
                .stalls
                .iter()
                .filter_map(|(client, stall)| {
                    let is_own = client.is_none_or(|client| client == process.client);
                    is_own.then(|| after(stall.interval(), AFTER_EFFECT))
                }),
        );
        // A member without a leader lists nothing, and one that starts slowly is affected longer.
        let elections = self.record.elections.iter();
        times.extend(elections.map(|election| after(*election, AFTER_EFFECT)));
        if let Some(ended) = process.ended {
            let expiry = lease(key) + EXPIRY_MARGIN;
            times.push(after(instant(ended), expiry));
            // A new leader grants each lease its full time again.
            let elections = self.record.elections.iter();
            times.extend(elections.map(|election| after(*election, expiry)));
        }
        times
    }

    /// A client considered a slot held for the whole of a sample that does not list it.
    fn unlisted_holds(&self) -> Vec<Violation> {
        let mut unlisted = Vec::new();
        for key in 0..ETCD_KEYS.len() {
            let holds = self.record.timeline.named_holds();
            let holds: Vec<_> = holds
                .filter(|(name, hold)| hold.key == key && revision(name).is_some())
                .filter_map(|(name, hold)| Some((name, hold.confirmed?)))
                .collect();
            for sample in self.samples(key) {
                let listed = sample.holders.iter().map(|(token, _)| token.as_str());
                let listed: HashSet<&str> = listed.collect();
                for &(name, confirmed) in &holds {
                    let covers = confirmed.from < sample.from && confirmed.to > sample.to;
                    if covers && !listed.contains(name) {
                        unlisted.push(self.violation(
                            ViolationKind::Unlisted,
                            key,
                            Interval {
                                from: sample.from,
                                to: sample.to,
                            },
                        ));
                    }
                }
            }
        }
        unlisted
    }

    /// An entry became a holder after a newer one.
    fn grants_out_of_order(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for key in 0..ETCD_KEYS.len() {
            let mut newest = 0;
            let mut seen: HashMap<&str, Duration> = HashMap::new();
            for sample in self.samples(key) {
                let revisions = sample.holders.iter().map(|(token, _)| token.as_str());
                let revisions: Vec<_> = revisions.map(|token| (token, revision(token))).collect();
                for &(token, revision) in &revisions {
                    let is_new = seen.insert(token, sample.to).is_none();
                    if is_new && revision.is_none_or(|revision| revision < newest) {
                        let interval = Interval {
                            from: sample.from,
                            to: sample.to,
                        };
                        found.push(self.violation(ViolationKind::Order, key, interval));
                    }
                }
                newest = revisions
                    .into_iter()
                    .filter_map(|(_, revision)| revision)
                    .fold(newest, u64::max);
            }
        }
        found
    }

    fn violation(&self, kind: ViolationKind, key: usize, interval: Interval) -> Violation {
        let before = self.faults().filter(|fault| fault.from <= interval.from);
        let last = before.max_by_key(|fault| fault.from);
        Violation {
            kind,
            fault: last.map(|fault| fault.kind),
            key,
            at: interval.from,
            length: interval.length(),
            process: None,
            late_loss: None,
        }
    }

    fn holds(&self) -> impl Iterator<Item = &'a Hold> + use<'a> {
        self.record.timeline.holds()
    }

    fn faults(&self) -> impl Iterator<Item = &'a Fault> + use<'a> {
        self.record.timeline.faults.iter()
    }

    fn samples(&self, key: usize) -> impl Iterator<Item = &'a Sample> + use<'a> {
        let samples = self.record.samples.iter();
        samples.filter(move |sample| sample.key == key)
    }
}

/// Returns whether a client sends no renewal meanwhile, or receives no reply. A blocked executor does
/// not prevent it: the session has its own thread.
fn prevents_renewal(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::ClientStopped | FaultKind::CutOff)
}

/// Returns whether the members elect a leader because of it.
fn is_leader_fault(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::LeaderKilled | FaultKind::LeaderStopped | FaultKind::LeaderTerminated
    )
}

fn lease(key: usize) -> Duration {
    Duration::from_secs(ETCD_KEYS[key].lease)
}

/// Returns the create revision in a token, unless it is the name of a slot that was not collected.
fn revision(token: &str) -> Option<u64> {
    u64::from_str_radix(token.get(..16)?, 16).ok()
}

fn instant(at: Duration) -> Interval {
    Interval { from: at, to: at }
}

fn after(interval: Interval, time: Duration) -> Interval {
    Interval {
        to: interval.to + time,
        ..interval
    }
}

/// Returns the part of `window` that `intervals` cover together.
fn covered(intervals: impl Iterator<Item = Interval>, window: Interval) -> Duration {
    let inside = intervals.filter_map(|interval| {
        let (from, to) = (interval.from.max(window.from), interval.to.min(window.to));
        (from < to).then_some((Interval { from, to }, 1))
    });
    let weights = weights(inside);
    let covered = weights
        .windows(2)
        .filter(|pair| pair[0].1 > 0)
        .map(|pair| Interval {
            from: pair[0].0,
            to: pair[1].0,
        });
    merge(covered).into_iter().map(Interval::length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventKind};

    const NARROW: usize = 0;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn token(revision: u64) -> String {
        format!("{revision:016x}{revision:016x}")
    }

    /// Adds a hold of the key with one slot, from `from` to `to`.
    fn hold(record: &mut Record, client: usize, revision: u64, from: u64, to: u64, end: EventKind) {
        for (at, kind) in [
            (from, EventKind::Held { key: NARROW }),
            (from, EventKind::Confirmed { ends: None }),
            (to, EventKind::Confirmed { ends: None }),
            (to, end),
        ] {
            let name = token(revision);
            let event = Event::Slot {
                name,
                at: s(at),
                kind,
            };
            record.timeline.add(client, event);
        }
    }

    fn fault(record: &mut Record, kind: FaultKind, client: Option<usize>, from: u64, to: u64) {
        record.timeline.faults.push(Fault {
            kind,
            client,
            from: s(from),
            to: s(to),
        });
    }

    fn sample(record: &mut Record, at: u64, revisions: &[u64]) {
        let holders = revisions.iter().map(|&revision| (token(revision), 1));
        record.samples.push(Sample {
            key: NARROW,
            from: s(at),
            to: s(at),
            holders: holders.collect(),
        });
    }

    fn kinds(record: &Record) -> Vec<(ViolationKind, Option<FaultKind>)> {
        let violations = Judge::new(record).violations().into_iter();
        violations
            .map(|violation| (violation.kind, violation.fault))
            .collect()
    }

    #[test]
    fn two_holders_of_one_slot_are_an_overlap() {
        let mut record = Record::default();
        hold(&mut record, 0, 1, 1, 3, EventKind::GivenUp);
        hold(&mut record, 1, 2, 4, 5, EventKind::GivenUp);
        assert_eq!(kinds(&record), []);
        hold(&mut record, 2, 3, 5, 6, EventKind::GivenUp);
        assert_eq!(kinds(&record), [(ViolationKind::Overlap, None)]);
    }

    #[test]
    fn a_loss_without_a_cut_off_client_is_a_violation() {
        let mut record = Record::default();
        hold(&mut record, 0, 1, 1, 20, EventKind::Lost);
        fault(&mut record, FaultKind::LeaderKilled, None, 15, 18);
        let live_loss = (ViolationKind::LiveLoss, Some(FaultKind::LeaderKilled));
        assert_eq!(kinds(&record), [live_loss]);
        // Another client was cut off.
        fault(&mut record, FaultKind::CutOff, Some(1), 11, 22);
        assert_eq!(kinds(&record)[0].0, ViolationKind::LiveLoss);
        fault(&mut record, FaultKind::CutOff, Some(0), 11, 22);
        assert_eq!(kinds(&record), []);
    }

    #[test]
    fn a_client_that_is_cut_off_gives_its_slot_up_within_its_lease() {
        let lease = ETCD_KEYS[NARROW].lease;
        for (last, expected) in [(lease, 0), (lease + 1, 1)] {
            let mut record = Record::default();
            hold(&mut record, 0, 1, 1, 5 + last, EventKind::Lost);
            fault(&mut record, FaultKind::CutOff, Some(0), 5, 30);
            let late = kinds(&record).into_iter();
            let late = late.filter(|(kind, _)| *kind == ViolationKind::Late);
            assert_eq!(late.count(), expected, "{last}");
        }
    }

    #[test]
    fn a_holder_that_is_listed_and_not_reported_is_a_leak() {
        let mut record = Record::default();
        record.processes.push(Process {
            pid: 1,
            client: 0,
            ended: None,
        });
        hold(&mut record, 0, 1, 1, 5, EventKind::GivenUp);
        for at in [2, 4, 6] {
            sample(&mut record, at, &[1]);
        }
        assert_eq!(kinds(&record), []);
        sample(&mut record, 7, &[1]);
        assert_eq!(kinds(&record), [(ViolationKind::Leak, None)]);
        // The lease of a killed process ends later.
        record.processes[0].ended = Some(s(5));
        assert_eq!(kinds(&record), []);
        sample(&mut record, 7 + ETCD_KEYS[NARROW].lease + 5, &[1]);
        assert_eq!(kinds(&record), [(ViolationKind::Leak, None)]);
    }

    #[test]
    fn a_hold_that_the_cluster_does_not_list_is_a_violation() {
        let mut record = Record::default();
        hold(&mut record, 0, 1, 1, 5, EventKind::GivenUp);
        sample(&mut record, 3, &[]);
        assert_eq!(kinds(&record), [(ViolationKind::Unlisted, None)]);
    }

    #[test]
    fn an_older_entry_that_holds_after_a_newer_one_is_a_violation() {
        let mut record = Record::default();
        sample(&mut record, 1, &[5, 7]);
        sample(&mut record, 2, &[7, 8]);
        assert_eq!(kinds(&record), []);
        sample(&mut record, 3, &[6, 8]);
        assert_eq!(kinds(&record), [(ViolationKind::Order, None)]);
    }
}
