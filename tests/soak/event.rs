//! What a client says about a slot of it, a line each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Something that a holder knows of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Which hold it is about.
    pub(crate) token: String,
    pub(crate) at: Duration,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// The slot of this key came, with this fence.
    Held { key: usize, fence: Option<u64> },
    /// `check()` was called after `at`, and said that the slot is held. As no loss is undone, it was held at `at`, too.
    Sure,
    /// The loss was told.
    Lost { reason: String },
    /// The slot was given up on its holder's wish.
    Given,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, at, what } = self;
        let at = at.as_nanos();
        match what {
            What::Held { key, fence: Some(fence) } => write!(f, "held {token} {at} {key} {fence}"),
            What::Held { key, fence: None } => write!(f, "held {token} {at} {key}"),
            What::Sure => write!(f, "sure {token} {at}"),
            What::Lost { reason } => write!(f, "lost {token} {at} {reason}"),
            What::Given => write!(f, "given {token} {at}"),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        parse(line).ok_or_else(|| format!("a client said {line:?}"))
    }
}

fn parse(line: &str) -> Option<Event> {
    let mut words = line.split(' ');
    let (kind, token, at) = (words.next()?, words.next()?.to_owned(), Duration::from_nanos(words.next()?.parse().ok()?));
    let what = match kind {
        "held" => What::Held { key: words.next()?.parse().ok()?, fence: words.next().map(str::parse).transpose().ok()? },
        "sure" => What::Sure,
        "lost" => What::Lost { reason: words.next()?.to_owned() },
        "given" => What::Given,
        _ => return None,
    };
    words.next().is_none().then_some(Event { token, at, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let reason = "Expired".to_owned();
        for what in [What::Held { key: 2, fence: Some(7) }, What::Held { key: 0, fence: None }, What::Sure, What::Lost { reason }, What::Given] {
            let event = Event { token: "ab".into(), at: Duration::from_nanos(12_345_678_901), what };
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        assert!("sure".parse::<Event>().is_err());
        assert!("given a 1 2".parse::<Event>().is_err());
    }
}
