//! Merged reports of all processes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event::{Away, Event, What};
use crate::fault::{Fault, Kind};
use crate::span::Span;

/// A hold as its holder reported it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hold {
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) from: Duration,
    /// First and last time at which the slot was confirmed. A loss is final, so the slot was held
    /// in between.
    pub(crate) sure: Option<Span>,
    /// Latest end of the hold, as the client last computed it.
    pub(crate) ends: Option<Duration>,
    /// Time of the first report of the loss.
    pub(crate) lost: Option<Duration>,
    /// Time at which the client gave the slot up.
    pub(crate) given: Option<Duration>,
}

/// A wait in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) key: usize,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// Timeline that the tasks of the parent share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book(Arc<Mutex<Timeline>>);

impl Book {
    pub(crate) fn open(&self) -> MutexGuard<'_, Timeline> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timeline {
    holds: HashMap<(usize, String), Hold>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) faults: Vec<Fault>,
    /// Times in which an executor did not run; `None` is the executor of the proxies.
    pub(crate) aways: Vec<(Option<usize>, Away)>,
    /// Times of all reports of the clients. The client ran at each of them.
    pub(crate) signs: Vec<(usize, Duration)>,
    /// Number of successful checks of a slot.
    pub(crate) checks: u64,
    /// Reports that contradict each other, and other unexpected events.
    pub(crate) complaints: Vec<String>,
}

impl Timeline {
    pub(crate) fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// Returns the stalls that the operating system caused.
    pub(crate) fn starved(&self) -> impl Iterator<Item = Away> {
        self.aways
            .iter()
            .filter(|&&(client, away)| !away.on_purpose && !self.is_ours(client, away))
            .map(|&(_, away)| away)
    }

    /// Returns whether an injected fault suspended `client` during this stall.
    fn is_ours(&self, client: Option<usize>, away: Away) -> bool {
        let stopped = |fault: &&Fault| {
            matches!(fault.kind, Kind::ClientStopped | Kind::ClientBusy) && fault.client == client
        };
        self.faults
            .iter()
            .filter(stopped)
            .any(|fault| fault.from < away.to && away.from < fault.to)
    }

    /// Returns an error for each client that reported something while it was stopped. Then the
    /// fault was not effective, and the results are worthless.
    pub(crate) fn unstopped(&self) -> Vec<String> {
        let stops = self
            .faults
            .iter()
            .filter(|fault| fault.kind == Kind::ClientStopped);
        let ran = stops.filter_map(|stop| {
            let ran = |&&(client, at): &&(usize, Duration)| {
                stop.concerns(client) && stop.from < at && at < stop.to
            };
            let last = self.signs.iter().filter(ran).max_by_key(|(_, at)| *at);
            last.map(|(client, at)| {
                format!(
                    "client {client} ran {:.1?} after it was stopped",
                    at.saturating_sub(stop.from)
                )
            })
        });
        ran.collect()
    }

    /// Adds a report of `client`.
    pub(crate) fn note(&mut self, client: usize, event: Event) {
        let (name, at, what) = match event {
            Event::Slot { name, at, what } => (name, at, what),
            Event::Away(away) => {
                self.signs.extend([(client, away.from), (client, away.to)]);
                return self.aways.push((Some(client), away));
            }
        };
        self.signs.push((client, at));
        if let What::Held { key } = what {
            let hold = Hold {
                client,
                key,
                from: at,
                sure: None,
                ends: None,
                lost: None,
                given: None,
            };
            if self.holds.insert((client, name), hold).is_some() {
                self.complaints
                    .push(format!("client {client} received a slot twice"));
            }
            return;
        }
        let Some(hold) = self.holds.get_mut(&(client, name)) else {
            return self.complaints.push(format!(
                "client {client} reported {what:?} of an unknown slot"
            ));
        };
        match what {
            What::Sure { ends } => {
                self.checks += 1;
                hold.ends = hold.ends.max(ends);
                let Span { from, to } = hold.sure.unwrap_or(Span { from: at, to: at });
                hold.sure = Some(Span {
                    from: from.min(at),
                    to: to.max(at),
                });
            }
            What::Lost => hold.lost = Some(hold.lost.map_or(at, |lost| lost.min(at))),
            What::Given => hold.given = Some(at),
            What::Held { .. } => {}
        }
    }
}

impl Hold {
    /// Returns the time of the last report.
    pub(crate) fn end(&self) -> Duration {
        let sure = self.sure.map(|sure| sure.to);
        [self.lost, self.given, sure]
            .into_iter()
            .flatten()
            .fold(self.from, Duration::max)
    }

    /// Returns whether the slot was confirmed after its loss had been reported.
    pub(crate) fn is_undead(&self) -> bool {
        self.lost
            .zip(self.sure)
            .is_some_and(|(lost, sure)| lost < sure.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_ran_while_it_was_stopped_was_not() {
        let ms = Duration::from_millis;
        let mut timeline = Timeline::default();
        for (kind, client, from, to) in [
            (Kind::ClientStopped, Some(0), 1000, 2000),
            (Kind::ClientStopped, Some(1), 3000, 4000),
            (Kind::ServerStopped, None, 1000, 4000),
        ] {
            timeline.faults.push(Fault {
                kind,
                client,
                from: ms(from),
                to: ms(to),
            });
        }
        let mut ran = |client, at| {
            timeline.note(
                client,
                Event::Away(Away {
                    on_purpose: false,
                    from: ms(at),
                    to: ms(at),
                }),
            );
            timeline.unstopped()
        };
        for (client, at) in [(0, 1000), (0, 2000), (0, 3500), (1, 1500)] {
            assert_eq!(ran(client, at), [""; 0]);
        }
        assert_eq!(ran(1, 3250), ["client 1 ran 250.0ms after it was stopped"]);
    }
}
