//! Reports of a client process, one per line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::span::Span;

/// A report of a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// An event of a slot. The name of the slot is unique in this client.
    Slot {
        name: String,
        at: Duration,
        what: What,
    },
    /// A time in which the executor did not run.
    Away(Away),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A slot of this key was granted.
    Held { key: usize },
    /// A check that began at `at` succeeded. A loss is final, so the slot was held at `at`, too.
    /// `ends` is the latest end of the hold without another reply of the server.
    Sure { ends: Option<Duration> },
    /// The loss was reported.
    Lost,
    /// The client is about to give the slot up.
    Given,
}

/// A time in which an executor did not run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Away {
    /// Whether the parent asked for it. Otherwise the operating system caused it.
    pub(crate) on_purpose: bool,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Away {
    pub(crate) fn span(self) -> Span {
        Span {
            from: self.from,
            to: self.to,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot { name, at, what } => {
                let at = at.as_nanos();
                match what {
                    What::Held { key } => write!(f, "held {name} {at} {key}"),
                    What::Sure { ends: None } => write!(f, "sure {name} {at}"),
                    What::Sure { ends: Some(ends) } => {
                        write!(f, "sure {name} {at} {}", ends.as_nanos())
                    }
                    What::Lost => write!(f, "lost {name} {at}"),
                    What::Given => write!(f, "given {name} {at}"),
                }
            }
            Self::Away(Away {
                on_purpose,
                from,
                to,
            }) => {
                let kind = if *on_purpose { "busy" } else { "starved" };
                write!(f, "{kind} {} {}", from.as_nanos(), to.as_nanos())
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
    let kind = words.next()?;
    let event = if let "busy" | "starved" = kind {
        Event::Away(Away {
            on_purpose: kind == "busy",
            from: time(words.next()?)?,
            to: time(words.next()?)?,
        })
    } else {
        let (name, at) = (words.next()?.to_owned(), time(words.next()?)?);
        let what = match kind {
            "held" => What::Held {
                key: words.next()?.parse().ok()?,
            },
            "sure" => What::Sure {
                ends: words
                    .next()
                    .map(time)
                    .map_or(Some(None), |ends| ends.map(Some))?,
            },
            "lost" => What::Lost,
            "given" => What::Given,
            _ => return None,
        };
        Event::Slot { name, at, what }
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
    fn every_event_is_read_as_it_was_written() {
        let at = Duration::from_nanos(12_345_678_901);
        for what in [
            What::Held { key: 2 },
            What::Sure { ends: None },
            What::Sure { ends: Some(at * 3) },
            What::Lost,
            What::Given,
        ] {
            let event = Event::Slot {
                name: "ab".into(),
                at,
                what,
            };
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        for on_purpose in [true, false] {
            let event = Event::Away(Away {
                on_purpose,
                from: at,
                to: at * 2,
            });
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        assert!("sure".parse::<Event>().is_err());
        assert!("sure a 1 b".parse::<Event>().is_err());
        assert!("given a 1 2".parse::<Event>().is_err());
    }
}
