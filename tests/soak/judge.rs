//! Analysis of the timeline.

use std::time::Duration;

use crate::client::TASKS;
use crate::evidence::Evidence;
use crate::fault::{Fault, Kind};
use crate::key::KEYS;
use crate::span::{Span, crowded, joined, steps};
use crate::timeline::{Hold, Timeline};
use crate::violation::{Violation, Wrong};

/// Time in which a client must notice the end of a connection, if its executor runs.
pub(crate) const TOLD: Duration = Duration::from_millis(50);

/// Longest time for which a slot may be free while a client waits for it. It is shorter than any
/// lease, so that a slot that is only freed by the end of a lease is detected.
pub(crate) const IDLE: Duration = Duration::from_millis(500);

/// Time for which a fault can have effects after its end.
const TRACE: Duration = Duration::from_millis(500);

/// Deadline for noticing a loss that a fault caused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) fault: Fault,
    /// Time from which the slot may be granted to another client.
    pub(crate) gone: Duration,
    /// Time at which the holder could notice the loss.
    pub(crate) due: Duration,
    /// Deadline, which includes the permitted delay.
    pub(crate) latest: Duration,
    /// Time of the last confirmation.
    pub(crate) last: Duration,
}

pub(crate) struct Judge<'a> {
    timeline: &'a Timeline,
    read_timeout: Duration,
    /// Times in which a client, or every client for `None`, could not notice the end of a
    /// connection.
    deaf: Vec<(Option<usize>, Span)>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(timeline: &'a Timeline, read_timeout: Duration) -> Self {
        let faults = timeline
            .faults
            .iter()
            .filter(|fault| fault.kind.deafens())
            .map(|fault| (fault.client, fault.span()));
        let aways = timeline
            .aways
            .iter()
            .map(|&(client, away)| (client, away.span()));
        Self {
            timeline,
            read_timeout,
            deaf: faults.chain(aways).collect(),
        }
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut all = [self.overlaps(), self.late(), self.leaks()].concat();
        all.sort_by_key(|violation| violation.at);
        all
    }

    /// Returns the times in which more clients confirmed a slot than the limit, whether or not they
    /// could know better.
    pub(crate) fn crowds(&self) -> Vec<(Option<Kind>, Duration)> {
        let crowds = |key: usize| {
            let crowded = crowded(
                self.holds(key).filter_map(|hold| hold.sure),
                KEYS[key].limit,
            )
            .into_iter();
            crowded.map(move |span| (self.fault_that_led_to(key, span.from), span.length()))
        };
        (0..KEYS.len()).flat_map(crowds).collect()
    }

    /// Returns the deadline of each hold and each fault that had to end it.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = (&Hold, Bound)> {
        self.timeline
            .holds()
            .flat_map(|hold| self.bounds_of(hold).map(move |bound| (hold, bound)))
    }

    fn overlaps(&self) -> Vec<Violation> {
        let overlaps = (0..KEYS.len()).flat_map(|key| {
            let believed = self.holds(key).filter_map(|hold| self.believed(hold));
            crowded(believed, KEYS[key].limit)
                .into_iter()
                .map(move |span| (key, span))
        });
        let violation = |(key, span): (usize, Span)| {
            let (at, length) = (span.from, span.length());
            Violation {
                what: Wrong::Overlap,
                fault: self.fault_that_led_to(key, at),
                key,
                at,
                length,
                evidence: None,
            }
        };
        overlaps.map(violation).collect()
    }

    fn late(&self) -> Vec<Violation> {
        let late = self.bounds().filter(|(_, bound)| bound.last > bound.latest);
        let violation = |(hold, bound): (&Hold, Bound)| {
            let (fault, length) = (
                Some(bound.fault.kind),
                bound.last.saturating_sub(bound.latest),
            );
            Violation {
                what: Wrong::Late,
                fault,
                key: hold.key,
                at: bound.latest,
                length,
                evidence: Some(self.evidence(hold, Some(bound))),
            }
        };
        let undead = self
            .timeline
            .holds()
            .filter(|hold| hold.is_undead())
            .map(|hold| {
                let (fault, at) = (self.fault_before(hold.end()), hold.end());
                Violation {
                    what: Wrong::Late,
                    fault,
                    key: hold.key,
                    at,
                    length: Duration::ZERO,
                    evidence: Some(self.evidence(hold, None)),
                }
            });
        late.map(violation).chain(undead).collect()
    }

    fn evidence(&self, hold: &Hold, bound: Option<Bound>) -> Evidence {
        Evidence::of(self.timeline, hold, bound)
    }

    fn leaks(&self) -> Vec<Violation> {
        let mut leaks = Vec::new();
        for (key, about) in KEYS.iter().enumerate() {
            let slots = i64::from(about.limit);
            let holds = self.holds(key).map(|hold| {
                (
                    Span {
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
                    Span {
                        to: fault.to + TRACE,
                        ..fault.span()
                    },
                    unknown(fault.client),
                )
            });
            let aways = self
                .timeline
                .aways
                .iter()
                .map(|&(client, away)| (away.span(), unknown(client)));
            let taken = steps(holds.chain(faults).chain(aways));
            let idle = taken
                .windows(2)
                .filter(|pair| pair[0].1 < slots)
                .map(|pair| Span {
                    from: pair[0].0,
                    to: pair[1].0,
                });
            for idle in joined(idle) {
                for wait in self.timeline.waits.iter().filter(|wait| wait.key == key) {
                    let idle = Span {
                        from: idle.from.max(wait.from),
                        to: idle.to.min(wait.to),
                    };
                    let (at, length) = (idle.from, idle.length());
                    if length > IDLE {
                        leaks.push(Violation {
                            what: Wrong::Leak,
                            fault: self.fault_before(at),
                            key,
                            at,
                            length,
                            evidence: None,
                        });
                    }
                }
            }
        }
        leaks
    }

    /// Returns the interval in which the client considered the slot held, without the time in which
    /// it could not know better.
    fn believed(&self, hold: &Hold) -> Option<Span> {
        let Span {
            from: first,
            to: last,
        } = hold.sure?;
        let mut end = last;
        for fault in self.severing(hold) {
            let latest = self.heard(hold.client, fault.from) + TOLD;
            if first < fault.from && last <= latest {
                end = end.min(fault.from);
            } else if (fault.from..=latest).contains(&first) && last <= latest {
                // The slot was granted on a connection that had already ended.
                return None;
            }
        }
        Some(Span {
            from: first,
            to: end,
        })
    }

    fn bounds_of(&self, hold: &Hold) -> impl Iterator<Item = Bound> {
        let term = KEYS[hold.key].term(self.read_timeout);
        let severed = self
            .severing(hold)
            .map(|fault| (fault, fault.from, self.heard(hold.client, fault.from), TOLD));
        let silenced = self
            .timeline
            .faults
            .iter()
            .filter(move |fault| fault.kind.silences() && fault.concerns(hold.client));
        let silenced = silenced
            .map(move |fault| (fault, fault.from + term, fault.from + term, Duration::ZERO));
        let silenced = silenced.filter(|(fault, gone, ..)| fault.to > *gone);
        severed
            .chain(silenced)
            .filter_map(|(fault, gone, due, margin)| {
                let Span {
                    from: first,
                    to: last,
                } = hold.sure?;
                let had = first < fault.from && hold.end() >= fault.from;
                had.then_some(Bound {
                    fault: *fault,
                    gone,
                    due,
                    latest: due + margin,
                    last,
                })
            })
    }

    fn severing(&self, hold: &Hold) -> impl Iterator<Item = &Fault> {
        let client = hold.client;
        self.timeline
            .faults
            .iter()
            .filter(move |fault| fault.kind.severs() && fault.concerns(client))
    }

    /// Returns the latest time at which `client` can notice an event at `at`.
    fn heard(&self, client: usize, at: Duration) -> Duration {
        let mut heard = at;
        let hinders = |span: Span, heard| span.from <= heard + TOLD && heard < span.to;
        let deaf = || {
            self.deaf
                .iter()
                .filter(|(deaf, _)| deaf.is_none_or(|deaf| deaf == client))
                .map(|&(_, span)| span)
        };
        // The end of one obstacle may be within the next.
        while let Some(span) = deaf().find(|&span| hinders(span, heard)) {
            heard = span.to;
        }
        heard
    }

    fn holds(&self, key: usize) -> impl Iterator<Item = &Hold> {
        self.timeline.holds().filter(move |hold| hold.key == key)
    }

    /// Returns the fault that ended a hold which was confirmed at `at`; otherwise the last fault
    /// before `at`.
    fn fault_that_led_to(&self, key: usize, at: Duration) -> Option<Kind> {
        let sure = self.holds(key).filter(|hold| {
            hold.sure
                .is_some_and(|sure| (sure.from..=sure.to).contains(&at))
        });
        let faults = sure
            .flat_map(|hold| self.bounds_of(hold))
            .filter(|bound| bound.gone <= at);
        faults
            .max_by_key(|bound| bound.gone)
            .map(|bound| bound.fault.kind)
            .or_else(|| self.fault_before(at))
    }

    fn fault_before(&self, at: Duration) -> Option<Kind> {
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
    use crate::event::{Away, Event, What};
    use crate::timeline::Wait;

    const NARROW: usize = 0;
    const READ_TIMEOUT: Duration = Duration::from_secs(3);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Adds a hold of the key with one slot, confirmed from `from` to `to`.
    fn hold(timeline: &mut Timeline, client: usize, from: u64, to: u64) {
        let name = from.to_string();
        for (at, what) in [
            (from, What::Held { key: NARROW }),
            (from, What::Sure { ends: None }),
            (to, What::Sure { ends: None }),
            (to, What::Given),
        ] {
            timeline.note(
                client,
                Event::Slot {
                    name: name.clone(),
                    at: ms(at),
                    what,
                },
            );
        }
    }

    fn fault(timeline: &mut Timeline, kind: Kind, client: Option<usize>, from: u64, to: u64) {
        timeline.faults.push(Fault {
            kind,
            client,
            from: ms(from),
            to: ms(to),
        });
    }

    fn violations(timeline: &Timeline) -> Vec<(Wrong, Option<Kind>, Duration)> {
        let violations = Judge::new(timeline, READ_TIMEOUT).violations();
        violations
            .into_iter()
            .map(|violation| (violation.what, violation.fault, violation.length))
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
            [(Wrong::Overlap, None, Duration::from_nanos(1))]
        );
    }

    #[test]
    fn who_is_cut_off_knows_soon() {
        for (last, late) in [(2040, None), (2060, Some(ms(10)))] {
            let mut timeline = Timeline::default();
            hold(&mut timeline, 0, 1000, last);
            hold(&mut timeline, 1, 2005, 2500);
            fault(&mut timeline, Kind::Cut, Some(0), 2000, 2000);
            let found = violations(&timeline);
            assert_eq!(
                found
                    .iter()
                    .find(|found| found.0 == Wrong::Late)
                    .map(|found| found.2),
                late
            );
            assert_eq!(
                found.iter().any(|found| found.0 == Wrong::Overlap),
                late.is_some()
            );
        }
    }

    #[test]
    fn who_did_not_run_knows_soon_after_it_runs_again() {
        let mut timeline = Timeline::default();
        hold(&mut timeline, 0, 1000, 2340);
        fault(&mut timeline, Kind::Cut, Some(0), 2000, 2000);
        timeline.aways.push((
            Some(0),
            Away {
                on_purpose: false,
                from: ms(2010),
                to: ms(2300),
            },
        ));
        assert_eq!(violations(&timeline), []);
        timeline.aways.clear();
        assert_eq!(
            violations(&timeline),
            [(Wrong::Late, Some(Kind::Cut), ms(290))]
        );
    }

    #[test]
    fn nobody_believes_longer_than_a_lease_without_an_answer() {
        for kind in [Kind::ClientStopped, Kind::ServerStopped, Kind::Stalled] {
            let mut timeline = Timeline::default();
            hold(&mut timeline, 0, 1000, 3001);
            // The fault ended in time, so the lease may have been renewed since.
            fault(&mut timeline, kind, None, 2000, 3000);
            assert_eq!(violations(&timeline), []);
            fault(&mut timeline, kind, None, 2000, 3500);
            assert_eq!(violations(&timeline), [(Wrong::Late, Some(kind), ms(1))]);
        }
    }

    #[test]
    fn a_slot_that_is_nobodys_while_somebody_waits_is_a_leak() {
        let mut timeline = Timeline::default();
        hold(&mut timeline, 0, 1000, 2000);
        hold(&mut timeline, 1, 2900, 3000);
        timeline.waits.push(Wait {
            key: NARROW,
            from: ms(1500),
            to: ms(3000),
        });
        assert_eq!(violations(&timeline), [(Wrong::Leak, None, ms(900))]);
        // The affected client may have the slot.
        fault(&mut timeline, Kind::Delayed, Some(2), 2000, 2300);
        assert_eq!(violations(&timeline), []);
    }
}
