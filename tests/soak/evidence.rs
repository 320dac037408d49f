//! Context of a late loss, from which a reader can tell what caused it.

use std::fmt;
use std::time::Duration;

use crate::event::Away;
use crate::fault::Fault;
use crate::judge::Bound;
use crate::key::KEYS;
use crate::timeline::{Hold, Timeline};

/// Events up to this long before a late loss are part of its context.
const BEFORE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evidence {
    hold: Hold,
    /// `None` if the client itself reported the contradiction.
    bound: Option<Bound>,
    /// All faults of this client at that time.
    faults: Vec<Fault>,
    /// Times in which its executor or that of the proxies did not run.
    aways: Vec<(Option<usize>, Away)>,
    /// Times of reports of the client: the last before the fault, the first and the last during it,
    /// and the first after it.
    signs: [Option<Duration>; 4],
}

impl Evidence {
    pub(crate) fn of(timeline: &Timeline, hold: &Hold, bound: Option<Bound>) -> Self {
        let client = hold.client;
        let (from, to) = bound.map_or((hold.end(), hold.end()), |bound| {
            (bound.fault.from, bound.fault.to)
        });
        let (first, last) = (from.saturating_sub(BEFORE), to.max(hold.end()));
        let faults = timeline
            .faults
            .iter()
            .filter(|fault| fault.concerns(client) && fault.from <= last && fault.to >= first);
        let aways = timeline.aways.iter().filter(|(away, span)| {
            away.is_none_or(|away| away == client) && span.from <= last && span.to >= first
        });
        let signs = || {
            timeline
                .signs
                .iter()
                .filter(|sign| sign.0 == client)
                .map(|sign| sign.1)
        };
        let during = || signs().filter(|sign| (from..=to).contains(sign));
        Self {
            hold: hold.clone(),
            bound,
            faults: faults.copied().collect(),
            aways: aways.copied().collect(),
            signs: [
                signs().filter(|sign| *sign < from).max(),
                during().min(),
                during().max(),
                signs().filter(|sign| *sign > to).min(),
            ],
        }
    }

    /// Returns the origin of all printed times.
    fn zero(&self) -> Duration {
        self.bound.map_or(self.hold.from, |bound| bound.fault.from)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |at: Duration| Moment(Some(at), self.zero());
        let maybe = |at: Option<Duration>| Moment(at, self.zero());
        let Self {
            hold:
                Hold {
                    client,
                    key,
                    from,
                    sure,
                    ends,
                    lost,
                    given,
                },
            bound,
            faults,
            aways,
            signs,
        } = self;
        let (first, last) = (
            maybe(sure.map(|sure| sure.from)),
            maybe(sure.map(|sure| sure.to)),
        );
        write!(
            f,
            "    seconds from {:.4?}, client {client}, key {:?}: held {}, confirmed from {first} to {last}",
            self.zero(),
            KEYS[*key].name,
            at(*from)
        )?;
        write!(
            f,
            ", computed end {}, lost {}, given up {}",
            maybe(*ends),
            maybe(*lost),
            maybe(*given)
        )?;
        if let Some(Bound {
            fault,
            gone,
            due,
            latest,
            ..
        }) = bound
        {
            write!(
                f,
                "\n    {} from {} to {}: free {}, noticeable {}, ",
                fault.kind.name(),
                at(fault.from),
                at(fault.to),
                at(*gone),
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
        for (away, span) in aways {
            let who = if away.is_some() {
                "the client"
            } else {
                "the proxies"
            };
            write!(
                f,
                "\n    {who} did not run from {} to {}",
                at(span.from),
                at(span.to)
            )?;
        }
        let [before, first, last, after] = signs.map(maybe);
        write!(
            f,
            "\n    reports of the client: last before the fault {before}, first during it {first}, last during it {last}, first after it {after}"
        )
    }
}

/// A time to print, if there was one, and the origin.
struct Moment(Option<Duration>, Duration);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(Some(at), zero) => write!(f, "{:+.4}", at.as_secs_f64() - zero.as_secs_f64()),
            Self(None, _) => write!(f, "never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, What};
    use crate::fault::Kind;
    use crate::judge::Judge;

    #[test]
    fn a_late_loss_explains_itself() {
        let ms = Duration::from_millis;
        let mut timeline = Timeline::default();
        for (at, what) in [
            (1000, What::Held { key: 0 }),
            (1000, What::Sure { ends: None }),
            (
                3200,
                What::Sure {
                    ends: Some(ms(3990)),
                },
            ),
            (3300, What::Lost),
        ] {
            timeline.note(
                4,
                Event::Slot {
                    name: "it".into(),
                    at: ms(at),
                    what,
                },
            );
        }
        for (kind, client, from, to) in [
            (Kind::ClientStopped, Some(4), 2000, 3250),
            (Kind::Cut, Some(5), 2100, 2100),
            (Kind::ServerStopped, None, 2500, 2600),
        ] {
            timeline.faults.push(Fault {
                kind,
                client,
                from: ms(from),
                to: ms(to),
            });
        }
        timeline.aways.push((
            None,
            Away {
                on_purpose: false,
                from: ms(2700),
                to: ms(2800),
            },
        ));
        let late = Judge::new(&timeline, Duration::from_secs(3))
            .violations()
            .remove(0)
            .to_string();
        let lines: Vec<_> = late.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "Late of 200.0ms on \"narrow\" at 3.000s, last fault: client SIGSTOP, SIGCONT",
                "seconds from 2.0000s, client 4, key \"narrow\": held -1.0000, confirmed from -1.0000 to +1.2000, \
                 computed end +1.9900, lost +1.3000, given up never",
                "client SIGSTOP, SIGCONT from +0.0000 to +1.2500: free +1.0000, noticeable +1.0000, deadline +1.0000",
                "fault: client SIGSTOP, SIGCONT from +0.0000 to +1.2500",
                "fault: server SIGSTOP, SIGCONT from +0.5000 to +0.6000",
                "the proxies did not run from +0.7000 to +0.8000",
                "reports of the client: last before the fault -1.0000, first during it +1.2000, last during it +1.2000, first after it +1.3000",
            ]
        );
    }
}
