//! What the server did and what clients believed, in order.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use dflock::server::{Ending, Event};
use dflock::{Held, LostReason, Semaphore, Token};
use tokio::time::Instant;

/// A grant, by its number in the history.
pub(super) type Slot = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A server started that knows of nothing.
    Started,
    /// The server is gone.
    Stopped,
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
        why: Ending,
    },
    Silent {
        connection: u64,
    },
    /// A user has a slot.
    Had {
        client: usize,
        key: Arc<str>,
        slot: Slot,
        lease: Duration,
        sampled: bool,
    },
    /// A user believed so long: a look at it failed for the first time.
    Doubted {
        slot: Slot,
    },
    /// A look at it succeeded after one that failed.
    Unlost {
        slot: Slot,
    },
    /// `on_lost` was called.
    OnLost {
        slot: Slot,
        reason: LostReason,
    },
    /// Who waited for the loss since then was told.
    Told {
        slot: Slot,
        since: Duration,
    },
    /// The user let go of it.
    Gone {
        slot: Slot,
        how: How,
        believed: bool,
    },
    /// `release` came back.
    Released {
        slot: Slot,
        outcome: Result<(), &'static str>,
    },
    Failed {
        client: usize,
        what: &'static str,
        why: &'static str,
    },
    /// Something took longer than it may.
    Slow {
        client: usize,
        what: &'static str,
        took: Duration,
        allowed: Duration,
    },
    Cut {
        client: usize,
    },
    Fault(String),
    Healed(String),
    /// The time jumped to here.
    Jumped {
        from: Duration,
    },
    /// Something that must not be was seen.
    Wrong(String),
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
    held: Weak<Semaphore<Held>>,
    doubted: bool,
}

impl History {
    pub(super) fn new(begun: Instant, watched: bool) -> Arc<Self> {
        Arc::new(Self { begun, watched, log: Mutex::default() })
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Notes what happened, and what all who hold believe now.
    pub(super) fn note(&self, what: What) {
        let at = self.begun.elapsed();
        let log = &mut *self.log.lock().unwrap();
        log.entries.push(Entry { at, what });
        if !self.watched {
            return;
        }
        let Log { entries, believers, .. } = log;
        believers.retain_mut(|believer| {
            let Some(held) = believer.held.upgrade() else { return false };
            let lost = held.is_lost();
            if lost != believer.doubted {
                let slot = believer.slot;
                believer.doubted = lost;
                entries.push(Entry { at, what: if lost { What::Doubted { slot } } else { What::Unlost { slot } } });
            }
            true
        });
    }

    /// The number of a grant.
    pub(super) fn slot(&self, token: &Token) -> Slot {
        let slots = &mut self.log.lock().unwrap().slots;
        let next = slots.len();
        *slots.entry(*token).or_insert(next)
    }

    /// A new server is there: its number, and what it tells its events.
    pub(super) fn start_server(self: &Arc<Self>) -> (usize, impl Fn(Event) + Send + Sync + 'static) {
        let server = {
            let mut log = self.log.lock().unwrap();
            log.servers += 1;
            log.servers
        };
        self.note(What::Started);
        let history = Arc::clone(self);
        (server, move |event| history.note(history.read(server, event)))
    }

    fn read(&self, server: usize, event: Event) -> What {
        match event {
            Event::Joined { key, waiter, .. } => What::Joined { key, waiter },
            Event::Left { key, waiter } => What::Left { key, waiter },
            Event::Granted { key, token, connection, waiter } => What::Granted { key, slot: self.slot(&token), server, connection, waiter },
            Event::Renewed { token } => What::Renewed { slot: self.slot(&token) },
            Event::Ended { token, why, .. } => What::Ended { slot: self.slot(&token), why },
            Event::Silent { connection } => What::Silent { connection },
        }
    }

    /// A user has a slot, and will be asked what he believes.
    pub(super) fn had(&self, client: usize, held: &Arc<Semaphore<Held>>) -> Slot {
        let slot = self.slot(held.token());
        if self.watched {
            self.log.lock().unwrap().believers.push(Believer { slot, held: Arc::downgrade(held), doubted: false });
        }
        self.note(What::Had { client, key: held.key().into(), slot, lease: held.lease(), sampled: self.watched });
        slot
    }

    pub(super) fn take_entries(&self) -> Vec<Entry> {
        std::mem::take(&mut self.log.lock().unwrap().entries)
    }
}
