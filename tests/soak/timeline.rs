//! What all processes said, merged.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::{Event, What};

/// One slot as its holder knew it.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) fence: Option<u64>,
    /// The first and the last moment of which its holder was sure. A loss is final, so it was held in between.
    pub(crate) sure: Option<(Duration, Duration)>,
    /// When its loss was told first, and the reason.
    pub(crate) lost: Option<(Duration, String)>,
    /// When it was given up on its holder's wish.
    pub(crate) given: Option<Duration>,
}

/// Somebody who waited in line, and did nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) key: usize,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) holds: HashMap<String, Hold>,
    pub(crate) waits: Vec<Wait>,
    /// How many times a holder checked its slot and was sure of it.
    pub(crate) checks: u64,
    /// What should not have been said.
    pub(crate) complaints: Vec<String>,
}

impl Timeline {
    /// Takes down what `client` says.
    pub(crate) fn hear(&mut self, client: usize, line: &str) {
        match line.parse() {
            Ok(event) => self.note(client, event),
            Err(complaint) => self.complaints.push(complaint),
        }
    }

    pub(crate) fn note(&mut self, client: usize, event: Event) {
        let Event { token, at, what } = event;
        if let What::Held { key, fence } = what {
            let hold = Hold { client, key, fence, sure: None, lost: None, given: None };
            if self.holds.insert(token, hold).is_some() {
                self.complaints.push(format!("client {client} was given a slot twice"));
            }
            return;
        }
        // a slot may be lost before its holder had it in hand
        let Some(hold) = self.holds.get_mut(&token) else { return };
        match what {
            What::Sure => {
                self.checks += 1;
                if hold.lost.as_ref().is_some_and(|&(lost, _)| lost < at) {
                    self.complaints.push(format!("client {client} was sure of a slot of which it had been told that it is lost"));
                }
                let first = hold.sure.map_or(at, |(first, _)| first.min(at));
                hold.sure = Some((first, hold.sure.map_or(at, |(_, last)| last.max(at))));
            }
            What::Lost { reason } => {
                hold.lost.get_or_insert((at, reason));
            }
            What::Given => hold.given = Some(at),
            What::Held { .. } => {}
        }
    }
}
