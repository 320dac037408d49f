//! The seam between leases and the servers: what a lease and a client ask of an engine.
//!
//! The lease logic above it (deadlines, verification, loss, drop) names no command and no status of
//! a server. An engine offers:
//!
//! | operation | by |
//! |---|---|
//! | join the queue of a key, with a bounded wait or without one | [`Engine::acquire`], [`Engine::enqueue`] |
//! | wait for the grant of an entry | [`Entry::start_wait`], [`Entry::poll_grant`] |
//! | renew | [`Entry::start_renewal`], [`Entry::poll_renewal`] |
//! | notice the end of an entry | [`Entry::poll_closed`] |
//! | release, and wait for the reply | [`Engine::release`] |
//! | give up without a runtime | [`Entry::abandon`], or the drop of the entry |
//!
//! dflockd is the only engine. A second one turns [`Engine`] and [`Entry`] into enums.

pub(crate) mod dflockd;
#[cfg(feature = "etcd")]
pub(crate) mod etcd;

use std::sync::Arc;

pub(crate) use dflockd::{Dflockd as Engine, Entry, EntryError};

use crate::clock::Instant;
use crate::error::{ErrorContext, Operation};
use crate::telemetry::Labels;
use crate::wire::{Capacity, Grant, KeyBuf, Kind, LeaseSeconds};
use std::time::Duration;

/// The slot that a semaphore asks for.
#[derive(Debug)]
pub(crate) struct SlotSpec {
    pub(crate) key: KeyBuf,
    pub(crate) capacity: Capacity,
    /// The lease to request. `None` is the server's default.
    pub(crate) lease: Option<LeaseSeconds>,
    pub(crate) server: ServerId,
}

/// The server on which a key lives.
#[derive(Clone, Debug)]
pub(crate) struct ServerId {
    pub(crate) index: usize,
    /// Its address, `host:port`.
    pub(crate) name: Arc<str>,
}

/// A slot that was granted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) entry: Entry,
    pub(crate) grant: Grant,
    /// A time before the request was sent.
    pub(crate) sent_at: Instant,
    /// A time after the grant was received.
    pub(crate) received_at: Instant,
    /// The time for the reply to a renewal that verifies the grant.
    pub(crate) verify_timeout: Duration,
}

/// The result of an enqueue.
#[derive(Debug)]
pub(crate) enum EnqueueOutcome {
    Granted(Granted),
    Queued(Entry),
}

/// The reply to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReleaseOutcome {
    Released,
    /// The server knows of no such hold: the slot had been lost.
    NotHeld,
}

impl SlotSpec {
    pub(crate) fn kind(&self) -> Kind {
        self.capacity.kind()
    }

    pub(crate) fn labels(&self) -> Labels<'_> {
        Labels {
            key: self.key.as_str(),
            server: &self.server.name,
        }
    }

    /// Returns the context of an error. It clones names that all threads share, so it is called for
    /// an error only.
    pub(crate) fn context(&self, operation: Operation) -> ErrorContext {
        let key = Some(self.key.as_shared().clone());
        ErrorContext {
            operation,
            key,
            server: self.server.name.clone(),
        }
    }
}
