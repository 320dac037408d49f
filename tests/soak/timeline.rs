//! Merged reports of all processes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event::{Event, EventKind, Stall};
use crate::fault::{Fault, FaultKind};
use crate::interval::Interval;

/// A hold as its holder reported it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hold {
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) from: Duration,
    /// First and last time at which the slot was confirmed. A loss is final, so the slot was held
    /// in between.
    pub(crate) confirmed: Option<Interval>,
    /// Latest end of the hold, as the client last computed it.
    pub(crate) ends: Option<Duration>,
    /// Time of the first report of the loss.
    pub(crate) lost: Option<Duration>,
    /// Time at which the client gave the slot up.
    pub(crate) given_up: Option<Duration>,
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
pub(crate) struct SharedTimeline(Arc<Mutex<Timeline>>);

impl SharedTimeline {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Timeline> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timeline {
    holds: HashMap<(usize, String), Hold>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) faults: Vec<Fault>,
    /// Times in which an executor did not run; `None` is the executor of the proxies.
    pub(crate) stalls: Vec<(Option<usize>, Stall)>,
    /// Times of all reports of the clients. The client ran at each of them.
    pub(crate) report_times: Vec<(usize, Duration)>,
    /// Number of successful checks of a slot.
    pub(crate) checks: u64,
    /// Reports that contradict each other, and other unexpected events.
    pub(crate) errors: Vec<String>,
}

impl Timeline {
    pub(crate) fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// Returns the holds with the names of their slots.
    pub(crate) fn named_holds(&self) -> impl Iterator<Item = (&str, &Hold)> {
        let holds = self.holds.iter();
        holds.map(|((_, name), hold)| (name.as_str(), hold))
    }

    /// Returns the stalls that the operating system caused.
    pub(crate) fn system_stalls(&self) -> impl Iterator<Item = Stall> {
        self.stalls
            .iter()
            .filter(|&&(client, stall)| !stall.intentional && !self.is_injected(client, stall))
            .map(|&(_, stall)| stall)
    }

    /// Returns whether an injected fault suspended `client` during this stall.
    fn is_injected(&self, client: Option<usize>, stall: Stall) -> bool {
        let stopped = |fault: &&Fault| {
            matches!(fault.kind, FaultKind::ClientStopped | FaultKind::ClientBusy)
                && fault.client == client
        };
        self.faults
            .iter()
            .filter(stopped)
            .any(|fault| fault.from < stall.to && stall.from < fault.to)
    }

    /// Returns an error for each client that reported something while it was stopped. Then the
    /// fault was not effective, and the results are worthless.
    pub(crate) fn ran_while_stopped(&self) -> Vec<String> {
        let stops = self
            .faults
            .iter()
            .filter(|fault| fault.kind == FaultKind::ClientStopped);
        let ran = stops.filter_map(|stop| {
            let ran = |&&(client, at): &&(usize, Duration)| {
                stop.affects(client) && stop.from < at && at < stop.to
            };
            let last = self
                .report_times
                .iter()
                .filter(ran)
                .max_by_key(|(_, at)| *at);
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
    pub(crate) fn add(&mut self, client: usize, event: Event) {
        let (name, at, kind) = match event {
            Event::Slot { name, at, kind } => (name, at, kind),
            Event::Stall(stall) => {
                self.report_times
                    .extend([(client, stall.from), (client, stall.to)]);
                return self.stalls.push((Some(client), stall));
            }
        };
        self.report_times.push((client, at));
        if let EventKind::Held { key } = kind {
            let hold = Hold {
                client,
                key,
                from: at,
                confirmed: None,
                ends: None,
                lost: None,
                given_up: None,
            };
            if self.holds.insert((client, name), hold).is_some() {
                self.errors
                    .push(format!("client {client} received a slot twice"));
            }
            return;
        }
        let Some(hold) = self.holds.get_mut(&(client, name)) else {
            return self.errors.push(format!(
                "client {client} reported {kind:?} of an unknown slot"
            ));
        };
        match kind {
            EventKind::Confirmed { ends } => {
                self.checks += 1;
                hold.ends = hold.ends.max(ends);
                let Interval { from, to } = hold.confirmed.unwrap_or(Interval { from: at, to: at });
                hold.confirmed = Some(Interval {
                    from: from.min(at),
                    to: to.max(at),
                });
            }
            EventKind::Lost => hold.lost = Some(hold.lost.map_or(at, |lost| lost.min(at))),
            EventKind::GivenUp => hold.given_up = Some(at),
            EventKind::Held { .. } => {}
        }
    }
}

impl Hold {
    /// Returns the time of the last report.
    pub(crate) fn end(&self) -> Duration {
        let confirmed = self.confirmed.map(|confirmed| confirmed.to);
        [self.lost, self.given_up, confirmed]
            .into_iter()
            .flatten()
            .fold(self.from, Duration::max)
    }

    /// Returns whether the slot was confirmed after its loss had been reported.
    pub(crate) fn held_after_loss(&self) -> bool {
        self.lost
            .zip(self.confirmed)
            .is_some_and(|(lost, confirmed)| lost < confirmed.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_a_stopped_client_are_an_error() {
        let ms = Duration::from_millis;
        let mut timeline = Timeline::default();
        for (kind, client, from, to) in [
            (FaultKind::ClientStopped, Some(0), 1000, 2000),
            (FaultKind::ClientStopped, Some(1), 3000, 4000),
            (FaultKind::ServerStopped, None, 1000, 4000),
        ] {
            timeline.faults.push(Fault {
                kind,
                client,
                from: ms(from),
                to: ms(to),
            });
        }
        let mut ran = |client, at| {
            timeline.add(
                client,
                Event::Stall(Stall {
                    intentional: false,
                    from: ms(at),
                    to: ms(at),
                }),
            );
            timeline.ran_while_stopped()
        };
        for (client, at) in [(0, 1000), (0, 2000), (0, 3500), (1, 1500)] {
            assert_eq!(ran(client, at), [""; 0]);
        }
        assert_eq!(ran(1, 3250), ["client 1 ran 250.0ms after it was stopped"]);
    }
}
