//! Context of a late loss, from which a reader can tell what caused it.

use std::fmt;
use std::time::Duration;

use crate::analysis::Deadline;
use crate::event::Stall;
use crate::fault::Fault;
use crate::key::KEYS;
use crate::timeline::{Hold, Timeline};

/// Events up to this long before a late loss are usually part of its context.
pub(crate) const CONTEXT_TIME: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LateLoss {
    hold: Hold,
    /// `None` if the client itself reported the contradiction.
    deadline: Option<Deadline>,
    /// All faults of this client at that time.
    faults: Vec<Fault>,
    /// Times in which its executor or that of the proxies did not run.
    stalls: Vec<(Option<usize>, Stall)>,
    /// Times of reports of the client: the last before the fault, the first and the last during it,
    /// and the first after it.
    reports: [Option<Duration>; 4],
}

impl LateLoss {
    /// The context begins `context` before the loss.
    pub(crate) fn new(
        timeline: &Timeline,
        hold: &Hold,
        deadline: Option<Deadline>,
        context: Duration,
    ) -> Self {
        let client = hold.client;
        let (from, to) = deadline.map_or((hold.end(), hold.end()), |deadline| {
            (deadline.fault.from, deadline.fault.to)
        });
        let (first, last) = (from.saturating_sub(context), to.max(hold.end()));
        let faults = timeline
            .faults
            .iter()
            .filter(|fault| fault.affects(client) && fault.from <= last && fault.to >= first);
        let stalls = timeline.stalls.iter().filter(|(stall, interval)| {
            stall.is_none_or(|stall| stall == client)
                && interval.from <= last
                && interval.to >= first
        });
        let reports = || {
            timeline
                .report_times
                .iter()
                .filter(|report| report.0 == client)
                .map(|report| report.1)
        };
        let during = || reports().filter(|report| (from..=to).contains(report));
        Self {
            hold: hold.clone(),
            deadline,
            faults: faults.copied().collect(),
            stalls: stalls.copied().collect(),
            reports: [
                reports().filter(|report| *report < from).max(),
                during().min(),
                during().max(),
                reports().filter(|report| *report > to).min(),
            ],
        }
    }

    /// Returns the origin of all printed times.
    fn origin(&self) -> Duration {
        self.deadline
            .map_or(self.hold.from, |deadline| deadline.fault.from)
    }
}

impl fmt::Display for LateLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |at: Duration| RelativeTime(Some(at), self.origin());
        let optional = |at: Option<Duration>| RelativeTime(at, self.origin());
        let Self {
            hold:
                Hold {
                    client,
                    key,
                    from,
                    confirmed,
                    ends,
                    lost,
                    given_up,
                },
            deadline,
            faults,
            stalls,
            reports,
        } = self;
        let (first, last) = (
            optional(confirmed.map(|confirmed| confirmed.from)),
            optional(confirmed.map(|confirmed| confirmed.to)),
        );
        write!(
            f,
            "    seconds from {:.4?}, client {client}, key {:?}: held {}, \
             confirmed from {first} to {last}",
            self.origin(),
            KEYS[*key].name,
            at(*from)
        )?;
        write!(
            f,
            ", computed end {}, lost {}, given up {}",
            optional(*ends),
            optional(*lost),
            optional(*given_up)
        )?;
        if let Some(Deadline {
            fault,
            free_from,
            due,
            latest,
            ..
        }) = deadline
        {
            write!(
                f,
                "\n    {} from {} to {}: free {}, noticeable {}, ",
                fault.kind.name(),
                at(fault.from),
                at(fault.to),
                at(*free_from),
                at(*due)
            )?;
            write!(f, "deadline {}", at(*latest))?;
        }
        for fault in faults {
            write!(
                f,
                "\n    fault: {} from {} to {}",
                fault.kind.name(),
                at(fault.from),
                at(fault.to)
            )?;
        }
        for (stall, interval) in stalls {
            let executor = if stall.is_some() {
                "the client"
            } else {
                "the proxies"
            };
            write!(
                f,
                "\n    {executor} did not run from {} to {}",
                at(interval.from),
                at(interval.to)
            )?;
        }
        let [before, first, last, after] = reports.map(optional);
        write!(
            f,
            "\n    reports of the client: last before the fault {before}, \
             first during it {first}, last during it {last}, first after it {after}"
        )
    }
}

/// A time to print, if there was one, and the origin.
struct RelativeTime(Option<Duration>, Duration);

impl fmt::Display for RelativeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(Some(at), origin) => write!(f, "{:+.4}", at.as_secs_f64() - origin.as_secs_f64()),
            Self(None, _) => write!(f, "never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Analysis;
    use crate::event::{Event, EventKind};
    use crate::fault::FaultKind;

    #[test]
    fn a_late_loss_prints_its_context() {
        let ms = Duration::from_millis;
        let mut timeline = Timeline::default();
        for (at, kind) in [
            (1000, EventKind::Held { key: 0 }),
            (1000, EventKind::Confirmed { ends: None }),
            (
                3200,
                EventKind::Confirmed {
                    ends: Some(ms(3990)),
                },
            ),
            (3300, EventKind::Lost),
        ] {
            timeline.add(
                4,
                Event::Slot {
                    name: "it".into(),
                    at: ms(at),
                    kind,
                },
            );
        }
        for (kind, client, from, to) in [
            (FaultKind::ClientStopped, Some(4), 2000, 3250),
            (FaultKind::Closed, Some(5), 2100, 2100),
            (FaultKind::ServerStopped, None, 2500, 2600),
        ] {
            timeline.faults.push(Fault {
                kind,
                client,
                from: ms(from),
                to: ms(to),
            });
        }
        timeline.stalls.push((
            None,
            Stall {
                intentional: false,
                from: ms(2700),
                to: ms(2800),
            },
        ));
        let late = Analysis::new(&timeline, Duration::from_secs(3))
            .violations()
            .remove(0)
            .to_string();
        let lines: Vec<_> = late.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "Late of 200.0ms on \"narrow\" at 3.000s, last fault: client SIGSTOP, SIGCONT",
                "seconds from 2.0000s, client 4, key \"narrow\": held -1.0000, \
                 confirmed from -1.0000 to +1.2000, \
                 computed end +1.9900, lost +1.3000, given up never",
                "client SIGSTOP, SIGCONT from +0.0000 to +1.2500: \
                 free +1.0000, noticeable +1.0000, deadline +1.0000",
                "fault: client SIGSTOP, SIGCONT from +0.0000 to +1.2500",
                "fault: server SIGSTOP, SIGCONT from +0.5000 to +0.6000",
                "the proxies did not run from +0.7000 to +0.8000",
                "reports of the client: last before the fault -1.0000, \
                 first during it +1.2000, last during it +1.2000, first after it +1.3000",
            ]
        );
    }
}
