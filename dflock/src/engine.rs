//! The seam between leases and the servers: what a lease and a client ask of an engine.
//!
//! The lease logic above it (deadlines, verification, loss, drop) names no command and no status of
//! a server. An engine offers:
//!
//! | operation | by |
//! |---|---|
//! | join the queue of a key, with a bounded wait or without one | [`Engine::acquire`], [`Engine::enqueue`] |
//! | join it for several permits, all or nothing | [`Engine::acquire_many`], [`Entry::further_tokens`] |
//! | wait for the grant of an entry | [`Entry::start_wait`], [`Entry::poll_grant`] |
//! | renew | [`Entry::start_renewal`], [`Entry::poll_renewal`] |
//! | notice the end of an entry | [`Entry::poll_closed`] |
//! | release, and wait for the reply | [`Engine::release`] |
//! | give up without a runtime | [`Entry::abandon`], or the drop of the entry |
//!
//! dflockd is the only engine. A second one turns [`Engine`] and [`Entry`] into enums.

pub(crate) mod dflockd;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use dflockd::{Backoff, Dflockd as Engine, Entry, EntryError};

use crate::clock::Instant;
use crate::error::{ErrorContext, Operation};
use crate::telemetry::Labels;
use crate::wire::{Grant, KeyBuf, Kind, LeaseSeconds, Primitive};

/// The slot that a semaphore asks for.
#[derive(Clone, Debug)]
pub(crate) struct SlotSpec {
    pub(crate) key: KeyBuf,
    pub(crate) primitive: Primitive,
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
    /// The time for the reply to a renewal that verifies the grant. `None` if no lease can have
    /// ended since.
    pub(crate) verify_timeout: Option<Duration>,
}

/// The times at which an engine renews the permits that it has while it waits for others.
pub(crate) trait RenewalPolicy: Sync {
    /// Returns the time of the next renewal of `grant` after so many `renewals`. The request for
    /// the grant, or for the last renewal, was sent at `sent_at`.
    fn renew_at(&self, sent_at: Instant, grant: &Grant, renewals: u64) -> Instant;
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
        self.primitive.kind()
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
