//! Ordered record of the server's actions and of the state that clients saw.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use dflock::server::{EndReason, Event};
use dflock::{Held, LostReason, Token};
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::Fault;
use super::pool::Pool;

/// Number of a grant in the history.
pub(super) type Slot = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
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
    },
    Left {
        key: Arc<str>,
        waiter: u64,
    },
    Granted {
        key: Arc<str>,
        slot: Slot,
        server: usize,
        connection: u64,
        waiter: Option<u64>,
    },
    Renewed {
        slot: Slot,
    },
    Ended {
        slot: Slot,
        why: EndReason,
    },
    Silent {
        server: usize,
        connection: u64,
    },
    /// A user received a slot.
    Had {
        client: usize,
        key: Arc<str>,
        slot: Slot,
        lease: Duration,
        asked: Asked,
        /// Whether only the body of a `with_slot` has access to it.
        in_body: bool,
    },
    /// `is_lost` returned true for the first time.
    Doubted {
        slot: Slot,
    },
    /// `is_lost` returned false after it had returned true.
    Unlost {
        slot: Slot,
    },
    /// `on_lost` was called.
    OnLost {
        slot: Slot,
        reason: LostReason,
    },
    /// A future that waited for the loss since then completed.
    Told {
        slot: Slot,
        since: Duration,
    },
    /// The body of a `run` ended.
    Worked {
        slot: Slot,
    },
    /// The user gave the slot up.
    Gone {
        slot: Slot,
        how: How,
        believed: bool,
    },
    /// `release` returned.
    Released {
        slot: Slot,
        outcome: Result<(), &'static str>,
    },
    Failed {
        client: usize,
        what: &'static str,
        why: &'static str,
    },
    /// An operation took longer than allowed.
    Slow {
        client: usize,
        what: &'static str,
        took: Duration,
        allowed: Duration,
    },
    Cut {
        client: usize,
    },
    Fault(Fault),
    Healed(Fault),
    /// Time jumped from `from` to this entry.
    Jumped {
        from: Duration,
    },
    /// An invariant was violated.
    Wrong(String),
}

/// Code that polls `is_lost` at each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The history, whether or not the client runs.
    Outside,
    /// The body, only when the client runs.
    Inside,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Release,
    Close,
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: Duration,
    pub(super) what: What,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10.3} s  {:?}", self.at.as_secs_f64(), self.what)
    }
}

pub(super) struct History {
    begun: Instant,
    watched: bool,
    /// Notified at each event.
    news: watch::Sender<()>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    slots: HashMap<Token, Slot>,
    believers: Vec<Believer>,
    servers: usize,
}

struct Believer {
    slot: Slot,
    held: Weak<Pool<Held>>,
    doubted: bool,
}

impl History {
    pub(super) fn new(begun: Instant, watched: bool) -> Arc<Self> {
        Arc::new(Self {
            begun,
            watched,
            news: watch::Sender::new(()),
            log: Mutex::default(),
        })
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Records an event, and each change of `is_lost` of the observed slots.
    pub(super) fn note(&self, what: What) {
        let at = self.begun.elapsed();
        let log = &mut *self.log.lock().unwrap();
        log.entries.push(Entry { at, what });
        if !self.watched {
            return;
        }
        self.news.send_replace(());
        let Log {
            entries, believers, ..
        } = log;
        believers.retain_mut(|believer| {
            let Some(held) = believer.held.upgrade() else {
                return false;
            };
            let lost = held.is_lost();
            if lost != believer.doubted {
                let slot = believer.slot;
                believer.doubted = lost;
                entries.push(Entry {
                    at,
                    what: if lost {
                        What::Doubted { slot }
                    } else {
                        What::Unlost { slot }
                    },
                });
            }
            true
        });
    }

    /// Returns the number of a grant.
    pub(super) fn slot(&self, token: &Token) -> Slot {
        let slots = &mut self.log.lock().unwrap().slots;
        let next = slots.len();
        *slots.entry(*token).or_insert(next)
    }

    /// Registers a new server of this shard. Returns its number and an observer for its events.
    pub(super) fn start_server(
        self: &Arc<Self>,
        shard: usize,
    ) -> (usize, impl Fn(Event) + Send + Sync + 'static) {
        let server = {
            let mut log = self.log.lock().unwrap();
            log.servers += 1;
            log.servers
        };
        self.note(What::Started { shard, server });
        let history = Arc::clone(self);
        (server, move |event| {
            history.note(history.read(server, event));
        })
    }

    fn read(&self, server: usize, event: Event) -> What {
        match event {
            Event::Joined { key, waiter, .. } => What::Joined { key, waiter },
            Event::Left { key, waiter } => What::Left { key, waiter },
            Event::Granted {
                key,
                token,
                connection,
                waiter,
            } => What::Granted {
                key,
                slot: self.slot(&token),
                server,
                connection,
                waiter,
            },
            Event::Renewed { token } => What::Renewed {
                slot: self.slot(&token),
            },
            Event::Ended { token, reason, .. } => What::Ended {
                slot: self.slot(&token),
                why: reason,
            },
            Event::ReadTimeout { connection } => What::Silent { server, connection },
        }
    }

    /// Records that a user received a slot, and observes the slot from now on.
    pub(super) fn had(&self, client: usize, held: &Arc<Pool<Held>>) -> Slot {
        let slot = self.slot(held.token());
        if self.watched {
            self.log.lock().unwrap().believers.push(Believer {
                slot,
                held: Arc::downgrade(held),
                doubted: false,
            });
        }
        let asked = if self.watched {
            Asked::Outside
        } else {
            Asked::Never
        };
        self.note(What::Had {
            client,
            key: held.key().into(),
            slot,
            lease: held.lease(),
            asked,
            in_body: false,
        });
        slot
    }

    /// Returns a receiver that is notified at each event, or `None` if the plan does not observe
    /// slots.
    pub(super) fn news(&self) -> Option<watch::Receiver<()>> {
        self.watched.then(|| self.news.subscribe())
    }

    pub(super) fn take_entries(&self) -> Vec<Entry> {
        std::mem::take(&mut self.log.lock().unwrap().entries)
    }
}
