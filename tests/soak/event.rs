//! Reports of a client process, one per line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::interval::Interval;

/// A report of a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// An event of a slot. The name of the slot is unique in this client.
    Slot {
        name: String,
        at: Duration,
        kind: EventKind,
    },
    /// A time in which the executor did not run.
    Stall(Stall),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EventKind {
    /// A slot of this key was granted.
    Held { key: usize },
    /// A check that began at `at` succeeded. A loss is final, so the slot was held at `at`, too.
    /// `ends` is the latest end of the hold without another reply of the server.
    Confirmed { ends: Option<Duration> },
    /// The loss was reported.
    Lost,
    /// The client is about to give the slot up.
    GivenUp,
}

/// A time in which an executor did not run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stall {
    /// True if the parent asked for it. Otherwise the operating system caused it.
    pub(crate) intentional: bool,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Stall {
    pub(crate) fn interval(self) -> Interval {
        Interval {
            from: self.from,
            to: self.to,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot { name, at, kind } => {
                let at = at.as_nanos();
                match kind {
                    EventKind::Held { key } => write!(f, "held {name} {at} {key}"),
                    EventKind::Confirmed { ends: None } => write!(f, "confirmed {name} {at}"),
                    EventKind::Confirmed { ends: Some(ends) } => {
                        write!(f, "confirmed {name} {at} {}", ends.as_nanos())
                    }
                    EventKind::Lost => write!(f, "lost {name} {at}"),
                    EventKind::GivenUp => write!(f, "given_up {name} {at}"),
                }
            }
            Self::Stall(Stall {
                intentional,
                from,
                to,
            }) => {
                let word = if *intentional { "busy" } else { "stall" };
                write!(f, "{word} {} {}", from.as_nanos(), to.as_nanos())
            }
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        parse(line).ok_or_else(|| format!("invalid report {line:?}"))
    }
}

fn parse(line: &str) -> Option<Event> {
    let mut words = line.split(' ');
    let word = words.next()?;
    let event = if let "busy" | "stall" = word {
        Event::Stall(Stall {
            intentional: word == "busy",
            from: time(words.next()?)?,
            to: time(words.next()?)?,
        })
    } else {
        let (name, at) = (words.next()?.to_owned(), time(words.next()?)?);
        let kind = match word {
            "held" => EventKind::Held {
                key: words.next()?.parse().ok()?,
            },
            "confirmed" => EventKind::Confirmed {
                ends: words
                    .next()
                    .map(time)
                    .map_or(Some(None), |ends| ends.map(Some))?,
            },
            "lost" => EventKind::Lost,
            "given_up" => EventKind::GivenUp,
            _ => return None,
        };
        Event::Slot { name, at, kind }
    };
    words.next().is_none().then_some(event)
}

fn time(nanos: &str) -> Option<Duration> {
    nanos.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_round_trips() {
        let at = Duration::from_nanos(12_345_678_901);
        for kind in [
            EventKind::Held { key: 2 },
            EventKind::Confirmed { ends: None },
            EventKind::Confirmed { ends: Some(at * 3) },
            EventKind::Lost,
            EventKind::GivenUp,
        ] {
            let event = Event::Slot {
                name: "ab".into(),
                at,
                kind,
            };
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        for intentional in [true, false] {
            let event = Event::Stall(Stall {
                intentional,
                from: at,
                to: at * 2,
            });
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        assert!("confirmed".parse::<Event>().is_err());
        assert!("confirmed a 1 b".parse::<Event>().is_err());
        assert!("given_up a 1 2".parse::<Event>().is_err());
    }
}
