//! Ordered record of the server's actions and of the state that clients saw.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use dflock::server::{EndReason, Event as ServerEvent};
use dflock::{Held, LostReason, Token};
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::Fault;
use super::resource::Resource;

/// Number of a grant in the history.
pub(super) type GrantId = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An empty server started.
    Started {
        shard: usize,
        server: usize,
    },
    /// The server stopped.
    Stopped {
        shard: usize,
    },
    Joined {
        key: Arc<str>,
        waiter: u64,
        server: usize,
        connection: u64,
    },
    Left {
        key: Arc<str>,
        waiter: u64,
    },
    Granted {
        key: Arc<str>,
        slot: GrantId,
        server: usize,
        connection: u64,
        waiter: Option<u64>,
    },
    Renewed {
        slot: GrantId,
    },
    Ended {
        slot: GrantId,
        why: EndReason,
    },
    ReadTimeout {
        server: usize,
        connection: u64,
    },
    /// A user received a slot.
    Acquired {
        client: usize,
        key: Arc<str>,
        slot: GrantId,
        lease: Duration,
        probe: Probe,
        /// True if only the body of a `with_slot` has access to it.
        in_body: bool,
        /// The further permits of the hold.
        further: Vec<GrantId>,
    },
    /// A user received slots of several keys, in the order in which it gave the keys.
    AcquiredAll {
        slots: Vec<GrantId>,
    },
    /// `is_lost` returned true for the first time.
    ReportedLost {
        slot: GrantId,
    },
    /// `is_lost` returned false after it had returned true.
    ReportedHeld {
        slot: GrantId,
    },
    /// `on_lost` was called.
    OnLost {
        slot: GrantId,
        reason: LostReason,
    },
    /// A future that waited for the loss since then completed.
    LossNotified {
        slot: GrantId,
        since: Duration,
    },
    /// The body of a `run` ended.
    RunEnded {
        slot: GrantId,
    },
    /// The user gave the slot up.
    GivenUp {
        slot: GrantId,
        kind: ReleaseKind,
        was_held: bool,
    },
    /// `release` returned.
    ReleaseReturned {
        slot: GrantId,
        outcome: Result<(), &'static str>,
    },
    Failed {
        client: usize,
        operation: &'static str,
        why: &'static str,
    },
    /// An operation took longer than allowed.
    Slow {
        client: usize,
        operation: &'static str,
        took: Duration,
        allowed: Duration,
    },
    Cancelled {
        client: usize,
    },
    /// The program begins to close the client.
    CloseStarted {
        client: usize,
    },
    /// The close of the client has completed.
    Closed {
        client: usize,
    },
    FaultStarted(Fault),
    FaultEnded(Fault),
    /// Time jumped from `from` to this entry.
    TimeJumped {
        from: Duration,
    },
    /// An invariant was violated.
    Violation(String),
}

impl Event {
    /// Returns the hold that the event is about, by its first permit.
    pub(super) fn hold(&mut self) -> Option<&mut GrantId> {
        match self {
            Self::Acquired { slot, .. }
            | Self::ReportedLost { slot }
            | Self::ReportedHeld { slot }
            | Self::OnLost { slot, .. }
            | Self::LossNotified { slot, .. }
            | Self::RunEnded { slot }
            | Self::GivenUp { slot, .. }
            | Self::ReleaseReturned { slot, .. } => Some(slot),
            _ => None,
        }
    }
}

/// Code that polls `is_lost` at each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The history, whether or not the client runs.
    History,
    /// The body, only when the client runs.
    Body,
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReleaseKind {
    Release,
    Close,
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: Duration,
    pub(super) event: Event,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10.3} s  {:?}", self.at.as_secs_f64(), self.event)
    }
}

pub(super) struct History {
    start: Instant,
    polls_is_lost: bool,
    /// Notified at each event.
    changes: watch::Sender<()>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    slots: HashMap<Token, GrantId>,
    observed: Vec<Observed>,
    servers: usize,
}

struct Observed {
    slot: GrantId,
    held: Weak<Resource<Held>>,
    was_lost: bool,
}

impl History {
    pub(super) fn new(start: Instant, polls_is_lost: bool) -> Arc<Self> {
        Arc::new(Self {
            start,
            polls_is_lost,
            changes: watch::Sender::new(()),
            log: Mutex::default(),
        })
    }

    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Records an event, and each change of `is_lost` of the observed slots.
    pub(super) fn record(&self, event: Event) {
        let at = self.start.elapsed();
        let log = &mut *self.log.lock().unwrap();
        log.entries.push(Entry { at, event });
        if !self.polls_is_lost {
            return;
        }
        self.changes.send_replace(());
        let Log {
            entries, observed, ..
        } = log;
        observed.retain_mut(|hold| {
            let Some(held) = hold.held.upgrade() else {
                return false;
            };
            let lost = held.is_lost();
            if lost != hold.was_lost {
                let slot = hold.slot;
                hold.was_lost = lost;
                entries.push(Entry {
                    at,
                    event: if lost {
                        Event::ReportedLost { slot }
                    } else {
                        Event::ReportedHeld { slot }
                    },
                });
            }
            true
        });
    }

    /// Returns the number of a grant.
    pub(super) fn grant_id(&self, token: &Token) -> GrantId {
        let slots = &mut self.log.lock().unwrap().slots;
        let next = slots.len();
        *slots.entry(*token).or_insert(next)
    }

    /// Registers a new server of this shard. Returns its number and an observer for its events.
    pub(super) fn start_server(
        self: &Arc<Self>,
        shard: usize,
    ) -> (usize, impl Fn(ServerEvent) + Send + Sync + 'static) {
        let server = {
            let mut log = self.log.lock().unwrap();
            log.servers += 1;
            log.servers
        };
        self.record(Event::Started { shard, server });
        let history = Arc::clone(self);
        (server, move |event| {
            history.record(history.convert(server, event));
        })
    }

    fn convert(&self, server: usize, event: ServerEvent) -> Event {
        match event {
            ServerEvent::Joined {
                key,
                waiter,
                connection,
            } => Event::Joined {
                key,
                waiter,
                server,
                connection,
            },
            ServerEvent::Left { key, waiter } => Event::Left { key, waiter },
            ServerEvent::Granted {
                key,
                token,
                connection,
                waiter,
            } => Event::Granted {
                key,
                slot: self.grant_id(&token),
                server,
                connection,
                waiter,
            },
            ServerEvent::Renewed { token } => Event::Renewed {
                slot: self.grant_id(&token),
            },
            ServerEvent::Ended { token, reason, .. } => Event::Ended {
                slot: self.grant_id(&token),
                why: reason,
            },
            ServerEvent::ReadTimeout { connection } => Event::ReadTimeout { server, connection },
        }
    }

    /// Records that a user received a slot, and observes the slot from now on.
    pub(super) fn record_acquired(&self, client: usize, held: &Arc<Resource<Held>>) -> GrantId {
        let slot = self.grant_id(held.token());
        let further = held.tokens().skip(1).map(|token| self.grant_id(token));
        let further = further.collect();
        if self.polls_is_lost {
            self.log.lock().unwrap().observed.push(Observed {
                slot,
                held: Arc::downgrade(held),
                was_lost: false,
            });
        }
        let probe = if self.polls_is_lost {
            Probe::History
        } else {
            Probe::Disabled
        };
        self.record(Event::Acquired {
            client,
            key: held.key().into(),
            slot,
            lease: held.lease(),
            probe,
            in_body: false,
            further,
        });
        slot
    }

    /// Returns a receiver that is notified at each event, or `None` if the plan does not observe
    /// slots.
    pub(super) fn changes(&self) -> Option<watch::Receiver<()>> {
        self.polls_is_lost.then(|| self.changes.subscribe())
    }

    pub(super) fn take_entries(&self) -> Vec<Entry> {
        std::mem::take(&mut self.log.lock().unwrap().entries)
    }
}
