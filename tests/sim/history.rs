//! What the server did and what clients believed, in order.

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

/// A grant, by its number in the history.
pub(super) type Slot = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A server started that knows of nothing.
    Started {
        shard: usize,
        server: usize,
    },
    /// The server is gone.
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
    /// A user has a slot.
    Had {
        client: usize,
        key: Arc<str>,
        slot: Slot,
        lease: Duration,
        asked: Asked,
        /// Whether only the body of a `with_slot` has it.
        in_body: bool,
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
    /// The body of a `run` came to its end.
    Worked {
        slot: Slot,
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
    Fault(Fault),
    Healed(Fault),
    /// The time jumped to here.
    Jumped {
        from: Duration,
    },
    /// Something that must not be was seen.
    Wrong(String),
}

/// Who is asked at each event what he believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The user, whether or not his client runs.
    Outside,
    /// A body, when its client runs.
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
    /// Something happened.
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

    /// Notes what happened, and what all who hold believe now.
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

    /// The number of a grant.
    pub(super) fn slot(&self, token: &Token) -> Slot {
        let slots = &mut self.log.lock().unwrap().slots;
        let next = slots.len();
        *slots.entry(*token).or_insert(next)
    }

    /// A new server of this shard is there: its number, and what it tells its events.
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

    /// A user has a slot, and will be asked what he believes.
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

    /// Resolves at each event; `None` where nobody asks what anybody believes.
    pub(super) fn news(&self) -> Option<watch::Receiver<()>> {
        self.watched.then(|| self.news.subscribe())
    }

    pub(super) fn take_entries(&self) -> Vec<Entry> {
        std::mem::take(&mut self.log.lock().unwrap().entries)
    }
}
