//! Analysis of the timeline.

use std::time::Duration;

use crate::client::TASKS;
use crate::fault::{Fault, FaultKind};
use crate::interval::{Interval, excess, merge, weights};
use crate::key::KEYS;
use crate::late_loss::{CONTEXT_TIME, LateLoss};
use crate::timeline::{Hold, Timeline};
use crate::violation::{Violation, ViolationKind};

/// Time in which a client must notice the end of a connection, if its executor runs.
pub(crate) const MAX_NOTICE_DELAY: Duration = Duration::from_millis(50);

/// Longest time for which a slot may be free while a client waits for it. It is shorter than any
/// lease, so that a slot that is only freed by the end of a lease is detected.
pub(crate) const MAX_FREE: Duration = Duration::from_millis(500);

/// Time for which a fault can have effects after its end.
const AFTER_EFFECT: Duration = Duration::from_millis(500);

/// Deadline for noticing a loss that a fault caused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Deadline {
    pub(crate) fault: Fault,
    /// Time from which the slot may be granted to another client.
    pub(crate) free_from: Duration,
    /// Time at which the holder could notice the loss.
    pub(crate) due: Duration,
    /// Deadline, which includes the permitted delay.
    pub(crate) latest: Duration,
    /// Time of the last confirmation.
    pub(crate) last: Duration,
}

pub(crate) struct Analysis<'a> {
    timeline: &'a Timeline,
    read_timeout: Duration,
    /// Times in which a client, or every client for `None`, could not notice the end of a
    /// connection.
    obstacles: Vec<(Option<usize>, Interval)>,
}

impl<'a> Analysis<'a> {
    pub(crate) fn new(timeline: &'a Timeline, read_timeout: Duration) -> Self {
        let faults = timeline
            .faults
            .iter()
            .filter(|fault| fault.kind.delays_disconnect())
            .map(|fault| (fault.client, fault.interval()));
        let stalls = timeline
            .stalls
            .iter()
            .map(|&(client, stall)| (client, stall.interval()));
        Self {
            timeline,
            read_timeout,
            obstacles: faults.chain(stalls).collect(),
        }
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut all = [self.overlaps(), self.late_losses(), self.leaks()].concat();
        all.sort_by_key(|violation| violation.at);
        all
    }

    /// Returns the times in which more clients confirmed a slot than the limit, whether or not they
    /// could know better.
    pub(crate) fn overlapping(&self) -> Vec<(Option<FaultKind>, Duration)> {
        let overlapping = |key: usize| {
            let excess = excess(
                self.holds(key).filter_map(|hold| hold.confirmed),
                KEYS[key].limit,
            )
            .into_iter();
            excess.map(move |interval| (self.cause_of(key, interval.from), interval.length()))
        };
        (0..KEYS.len()).flat_map(overlapping).collect()
    }

    /// Returns the deadline of each hold and each fault that had to end it.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (&Hold, Deadline)> {
        self.timeline.holds().flat_map(|hold| {
            self.deadlines_of(hold)
                .map(move |deadline| (hold, deadline))
        })
    }

    fn overlaps(&self) -> Vec<Violation> {
        let overlaps = (0..KEYS.len()).flat_map(|key| {
            let held = self
                .holds(key)
                .filter_map(|hold| self.considered_held(hold));
            excess(held, KEYS[key].limit)
                .into_iter()
                .map(move |interval| (key, interval))
        });
        let violation = |(key, interval): (usize, Interval)| {
            let (at, length) = (interval.from, interval.length());
            Violation {
                kind: ViolationKind::Overlap,
                fault: self.cause_of(key, at),
                key,
                at,
                length,
                process: None,
                late_loss: None,
            }
        };
        overlaps.map(violation).collect()
    }

    fn late_losses(&self) -> Vec<Violation> {
        let late = self
            .deadlines()
            .filter(|(_, deadline)| deadline.last > deadline.latest);
        let violation = |(hold, deadline): (&Hold, Deadline)| {
            let (fault, length) = (
                Some(deadline.fault.kind),
                deadline.last.saturating_sub(deadline.latest),
            );
            Violation {
                kind: ViolationKind::Late,
                fault,
                key: hold.key,
                at: deadline.latest,
                length,
                process: None,
                late_loss: Some(self.late_loss(hold, Some(deadline))),
            }
        };
        let contradictions = self
            .timeline
            .holds()
            .filter(|hold| hold.held_after_loss())
            .map(|hold| {
                let (fault, at) = (self.fault_before(hold.end()), hold.end());
                Violation {
                    kind: ViolationKind::Late,
                    fault,
                    key: hold.key,
                    at,
                    length: Duration::ZERO,
                    process: None,
                    late_loss: Some(self.late_loss(hold, None)),
                }
            });
        late.map(violation).chain(contradictions).collect()
    }

    fn late_loss(&self, hold: &Hold, deadline: Option<Deadline>) -> LateLoss {
        LateLoss::new(self.timeline, hold, deadline, CONTEXT_TIME)
    }

    fn leaks(&self) -> Vec<Violation> {
        let mut leaks = Vec::new();
        for (key, settings) in KEYS.iter().enumerate() {
            let slots = i64::from(settings.limit);
            let holds = self.holds(key).map(|hold| {
                (
                    Interval {
                        from: hold.from,
                        to: hold.end(),
                    },
                    1,
                )
            });
            // A client that a fault affects may have slots that it does not know of.
            let unknown = |client: Option<usize>| client.map_or(slots, |_| i64::from(TASKS));
            let faults = self.timeline.faults.iter().map(|fault| {
                (
                    Interval {
                        to: fault.to + AFTER_EFFECT,
                        ..fault.interval()
                    },
                    unknown(fault.client),
                )
            });
            let stalls = self
                .timeline
                .stalls
                .iter()
                .map(|&(client, stall)| (stall.interval(), unknown(client)));
            let taken = weights(holds.chain(faults).chain(stalls));
            let free = taken
                .windows(2)
                .filter(|pair| pair[0].1 < slots)
                .map(|pair| Interval {
                    from: pair[0].0,
                    to: pair[1].0,
                });
            for free in merge(free) {
                for wait in self.timeline.waits.iter().filter(|wait| wait.key == key) {
                    let interval = Interval {
                        from: free.from.max(wait.from),
                        to: free.to.min(wait.to),
                    };
                    let (at, length) = (interval.from, interval.length());
                    if length > MAX_FREE {
                        leaks.push(Violation {
                            kind: ViolationKind::Leak,
                            fault: self.fault_before(at),
                            key,
                            at,
                            length,
                            process: None,
                            late_loss: None,
                        });
                    }
                }
            }
        }
        leaks
    }

    /// Returns the interval in which the client considered the slot held, without the time in which
    /// it could not know better.
    fn considered_held(&self, hold: &Hold) -> Option<Interval> {
        let Interval {
            from: first,
            to: last,
        } = hold.confirmed?;
        let mut end = last;
        for fault in self.disconnects(hold) {
            let latest = self.notice_time(hold.client, fault.from) + MAX_NOTICE_DELAY;
            if first < fault.from && last <= latest {
                end = end.min(fault.from);
            } else if (fault.from..=latest).contains(&first) && last <= latest {
                // The slot was granted on a connection that had already ended.
                return None;
            }
        }
        Some(Interval {
            from: first,
            to: end,
        })
    }

    fn deadlines_of(&self, hold: &Hold) -> impl Iterator<Item = Deadline> {
        let min_hold = KEYS[hold.key].min_hold(self.read_timeout);
        let disconnected = self.disconnects(hold).map(|fault| {
            (
                fault,
                fault.from,
                self.notice_time(hold.client, fault.from),
                MAX_NOTICE_DELAY,
            )
        });
        let unanswered = self
            .timeline
            .faults
            .iter()
            .filter(move |fault| fault.kind.blocks_replies() && fault.affects(hold.client));
        let unanswered = unanswered.map(move |fault| {
            (
                fault,
                fault.from + min_hold,
                fault.from + min_hold,
                Duration::ZERO,
            )
        });
        let unanswered = unanswered.filter(|(fault, free_from, ..)| fault.to > *free_from);
        disconnected
            .chain(unanswered)
            .filter_map(|(fault, free_from, due, margin)| {
                let Interval {
                    from: first,
                    to: last,
                } = hold.confirmed?;
                let is_affected = first < fault.from && hold.end() >= fault.from;
                is_affected.then_some(Deadline {
                    fault: *fault,
                    free_from,
                    due,
                    latest: due + margin,
                    last,
                })
            })
    }

    fn disconnects(&self, hold: &Hold) -> impl Iterator<Item = &Fault> {
        let client = hold.client;
        self.timeline
            .faults
            .iter()
            .filter(move |fault| fault.kind.ends_connections() && fault.affects(client))
    }

    /// Returns the latest time at which `client` can notice an event at `at`.
    fn notice_time(&self, client: usize, at: Duration) -> Duration {
        let mut time = at;
        let is_delayed = |interval: Interval, time| {
            interval.from <= time + MAX_NOTICE_DELAY && time < interval.to
        };
        let obstacles = || {
            self.obstacles
                .iter()
                .filter(|(affected, _)| affected.is_none_or(|affected| affected == client))
                .map(|&(_, interval)| interval)
        };
        // The end of one obstacle may be within the next.
        while let Some(interval) = obstacles().find(|&interval| is_delayed(interval, time)) {
            time = interval.to;
        }
        time
    }

    fn holds(&self, key: usize) -> impl Iterator<Item = &Hold> {
        self.timeline.holds().filter(move |hold| hold.key == key)
    }

    /// Returns the fault that ended a hold which was confirmed at `at`; otherwise the last fault
    /// before `at`.
    fn cause_of(&self, key: usize, at: Duration) -> Option<FaultKind> {
        let confirmed = self.holds(key).filter(|hold| {
            hold.confirmed
                .is_some_and(|confirmed| (confirmed.from..=confirmed.to).contains(&at))
        });
        let faults = confirmed
            .flat_map(|hold| self.deadlines_of(hold))
            .filter(|deadline| deadline.free_from <= at);
        faults
            .max_by_key(|deadline| deadline.free_from)
            .map(|deadline| deadline.fault.kind)
            .or_else(|| self.fault_before(at))
    }

    fn fault_before(&self, at: Duration) -> Option<FaultKind> {
        self.timeline
            .faults
            .iter()
            .filter(|fault| fault.from <= at)
            .max_by_key(|fault| fault.from)
            .map(|fault| fault.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventKind, Stall};
    use crate::timeline::Wait;

    const NARROW: usize = 0;
    const READ_TIMEOUT: Duration = Duration::from_secs(3);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Adds a hold of the key with one slot, confirmed from `from` to `to`.
    fn hold(timeline: &mut Timeline, client: usize, from: u64, to: u64) {
        let name = from.to_string();
        for (at, kind) in [
            (from, EventKind::Held { key: NARROW }),
            (from, EventKind::Confirmed { ends: None }),
            (to, EventKind::Confirmed { ends: None }),
            (to, EventKind::GivenUp),
        ] {
            timeline.add(
                client,
                Event::Slot {
                    name: name.clone(),
                    at: ms(at),
                    kind,
                },
            );
        }
    }

    fn fault(timeline: &mut Timeline, kind: FaultKind, client: Option<usize>, from: u64, to: u64) {
        timeline.faults.push(Fault {
            kind,
            client,
            from: ms(from),
            to: ms(to),
        });
    }

    fn violations(timeline: &Timeline) -> Vec<(ViolationKind, Option<FaultKind>, Duration)> {
        let violations = Analysis::new(timeline, READ_TIMEOUT).violations();
        violations
            .into_iter()
            .map(|violation| (violation.kind, violation.fault, violation.length))
            .collect()
    }

    #[test]
    fn two_holders_of_one_slot_are_an_overlap_however_short() {
        let mut timeline = Timeline::default();
        hold(&mut timeline, 0, 1000, 1500);
        hold(&mut timeline, 1, 1501, 2000);
        assert_eq!(violations(&timeline), []);
        hold(&mut timeline, 2, 2000, 2100);
        assert_eq!(
            violations(&timeline),
            [(ViolationKind::Overlap, None, Duration::from_nanos(1))]
        );
    }

    #[test]
    fn a_disconnected_client_has_50_ms_to_notice() {
        for (last, late) in [(2040, None), (2060, Some(ms(10)))] {
            let mut timeline = Timeline::default();
            hold(&mut timeline, 0, 1000, last);
            hold(&mut timeline, 1, 2005, 2500);
            fault(&mut timeline, FaultKind::Closed, Some(0), 2000, 2000);
            let found = violations(&timeline);
            assert_eq!(
                found
                    .iter()
                    .find(|found| found.0 == ViolationKind::Late)
                    .map(|found| found.2),
                late
            );
            assert_eq!(
                found.iter().any(|found| found.0 == ViolationKind::Overlap),
                late.is_some()
            );
        }
    }

    #[test]
    fn a_stalled_client_has_50_ms_after_its_stall_to_notice() {
        let mut timeline = Timeline::default();
        hold(&mut timeline, 0, 1000, 2340);
        fault(&mut timeline, FaultKind::Closed, Some(0), 2000, 2000);
        timeline.stalls.push((
            Some(0),
            Stall {
                intentional: false,
                from: ms(2010),
                to: ms(2300),
            },
        ));
        assert_eq!(violations(&timeline), []);
        timeline.stalls.clear();
        assert_eq!(
            violations(&timeline),
            [(ViolationKind::Late, Some(FaultKind::Closed), ms(290))]
        );
    }

    #[test]
    fn a_hold_ends_when_its_lease_passes_without_a_reply() {
        for kind in [
            FaultKind::ClientStopped,
            FaultKind::ServerStopped,
            FaultKind::Stalled,
        ] {
            let mut timeline = Timeline::default();
            hold(&mut timeline, 0, 1000, 3001);
            // The fault ended in time, so the lease may have been renewed since.
            fault(&mut timeline, kind, None, 2000, 3000);
            assert_eq!(violations(&timeline), []);
            fault(&mut timeline, kind, None, 2000, 3500);
            assert_eq!(
                violations(&timeline),
                [(ViolationKind::Late, Some(kind), ms(1))]
            );
        }
    }

    #[test]
    fn a_free_slot_with_a_waiter_is_a_leak() {
        let mut timeline = Timeline::default();
        hold(&mut timeline, 0, 1000, 2000);
        hold(&mut timeline, 1, 2900, 3000);
        timeline.waits.push(Wait {
            key: NARROW,
            from: ms(1500),
            to: ms(3000),
        });
        assert_eq!(
            violations(&timeline),
            [(ViolationKind::Leak, None, ms(900))]
        );
        // The affected client may have the slot.
        fault(&mut timeline, FaultKind::Delayed, Some(2), 2000, 2300);
        assert_eq!(violations(&timeline), []);
    }
}
