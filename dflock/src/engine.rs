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
//! | renew | [`Entry::start_renewal`], [`Entry::poll_renewal`]; or the engine by itself, [`Renewals`] |
//! | notice the end of an entry | [`Entry::poll_closed`] |
//! | release, and wait for the reply | [`Engine::release`] |
//! | give up without a runtime | [`Entry::abandon`], or the drop of the entry |
//! | holders, position, revocation | on etcd; [`Error::Unsupported`] on dflockd |
//!
//! There are two engines: servers of dflockd, and a cluster of etcd (feature `etcd`).

pub(crate) mod dflockd;
#[cfg(feature = "etcd")]
mod dispatch;
mod entry;
#[cfg(feature = "etcd")]
pub(crate) mod etcd;
mod slot_spec;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Id;

use crate::Holder;
use crate::clock::Instant;
use crate::error::{ConfigError, Error, ErrorContext, LostReason, Operation};
use crate::wire::{Grant, Token};
pub(crate) use dflockd::Backoff;
use dflockd::Dflockd;
#[cfg(feature = "etcd")]
use dispatch::Dispatch;
pub(crate) use entry::{Entry, Renewals};
#[cfg(feature = "etcd")]
use etcd::Etcd;
pub(crate) use slot_spec::{ServerId, SlotSpec};

/// The servers behind a client.
#[derive(Debug)]
pub(crate) enum Engine {
    Dflockd(Dflockd),
    #[cfg(feature = "etcd")]
    Etcd(Etcd),
}

/// Abilities of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    /// The name of the engine, for errors.
    pub(crate) engine: &'static str,
    /// Every grant has a fence.
    pub(crate) fence: bool,
    /// The position in a queue is known.
    pub(crate) position: bool,
    /// The shortest lease.
    pub(crate) shortest_lease: Duration,
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
    /// ended since, or the engine has verified it.
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
    NotHeld(LostReason),
}

impl Engine {
    pub(crate) fn capabilities(&self) -> Capabilities {
        match self {
            Self::Dflockd(_) => Capabilities {
                engine: "dflockd",
                fence: false,
                position: false,
                shortest_lease: Duration::from_secs(1),
            },
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => Capabilities {
                engine: "etcd",
                fence: true,
                position: true,
                shortest_lease: etcd::SHORTEST_LEASE,
            },
        }
    }

    /// Returns the addresses of the servers as they were configured.
    pub(crate) fn servers(&self) -> Vec<&Arc<str>> {
        match self {
            Self::Dflockd(dflockd) => dflockd.servers().collect(),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.members().collect(),
        }
    }

    /// Returns the name of the cluster, if the servers are the members of one.
    pub(crate) fn cluster(&self) -> Option<Arc<str>> {
        match self {
            Self::Dflockd(_) => None,
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => Some(etcd.server().name),
        }
    }

    /// Returns the server on which `key` lives.
    pub(crate) fn server_for(&self, key: &str) -> Result<ServerId, ConfigError> {
        match self {
            Self::Dflockd(dflockd) => dflockd.server_for(key),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => Ok(etcd.server()),
        }
    }

    /// Waits in the queue for at most `wait`. An acquire whose place in the queue is lost joins the
    /// queue again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives up a slot that was granted in the meantime.
    #[cfg(feature = "etcd")]
    pub(crate) fn acquire<'a>(
        &'a self,
        slot: &'a SlotSpec,
        wait: Duration,
    ) -> impl Future<Output = Result<Granted, Error>> + Send + 'a {
        match self {
            Self::Dflockd(dflockd) => Dispatch::Dflockd {
                call: dflockd.acquire(slot, wait),
            },
            Self::Etcd(etcd) => Dispatch::Etcd {
                call: Box::pin(etcd.acquire(slot, wait)),
            },
        }
    }

    #[cfg(not(feature = "etcd"))]
    pub(crate) fn acquire<'a>(
        &'a self,
        slot: &'a SlotSpec,
        wait: Duration,
    ) -> impl Future<Output = Result<Granted, Error>> + Send + 'a {
        let Self::Dflockd(dflockd) = self;
        dflockd.acquire(slot, wait)
    }

    /// Checks that so many `permits` of `slot` can be requested.
    pub(crate) fn validate_permits(
        &self,
        slot: &SlotSpec,
        permits: NonZeroU32,
    ) -> Result<(), ConfigError> {
        match self {
            Self::Dflockd(dflockd) => dflockd.validate_permits(slot, permits),
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => etcd::validate_permits(permits),
        }
    }

    /// Waits for so many `permits` of `slot`, for at most `wait`. Without a wait it takes them only
    /// if all are free. Leases of permits that are held meanwhile are renewed by `policy`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the permits that were granted, and leaves the queue.
    pub(crate) async fn acquire_many(
        &self,
        slot: &SlotSpec,
        permits: NonZeroU32,
        wait: Duration,
        policy: &dyn RenewalPolicy,
    ) -> Result<Granted, Error> {
        match self {
            Self::Dflockd(dflockd) => dflockd.acquire_many(slot, permits, wait, policy).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.acquire_many(slot, permits, wait).await,
        }
    }

    /// Joins the queue, or takes a slot that is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives up a slot that was granted in the meantime.
    pub(crate) async fn enqueue(&self, slot: &SlotSpec) -> Result<EnqueueOutcome, Error> {
        match self {
            Self::Dflockd(dflockd) => dflockd.enqueue(slot).await,
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => Box::pin(etcd.enqueue(slot)).await,
        }
    }

    /// Releases the slot of `token`. The caller is on `runtime`, and `sent_at` is now.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the slot.
    #[cfg(feature = "etcd")]
    pub(crate) fn release<'a>(
        &'a self,
        entry: Entry,
        slot: &'a SlotSpec,
        token: Token,
        call: (Id, Instant),
    ) -> impl Future<Output = Result<ReleaseOutcome, Error>> + Send + 'a {
        match (self, entry) {
            (Self::Dflockd(dflockd), Entry::Dflockd(entry)) => Dispatch::Dflockd {
                call: dflockd.release(entry, slot, token, call),
            },
            (Self::Etcd(etcd), Entry::Etcd(entry)) => Dispatch::Etcd {
                call: Box::pin(etcd.release(*entry, slot)),
            },
            _ => unreachable!("an entry is released by the engine that made it"),
        }
    }

    #[cfg(not(feature = "etcd"))]
    pub(crate) fn release<'a>(
        &'a self,
        entry: Entry,
        slot: &'a SlotSpec,
        token: Token,
        call: (Id, Instant),
    ) -> impl Future<Output = Result<ReleaseOutcome, Error>> + Send + 'a {
        let (Self::Dflockd(dflockd), Entry::Dflockd(entry)) = (self, entry);
        dflockd.release(entry, slot, token, call)
    }

    /// Notes that the server of `slot` had not replied to a renewal that was sent at `sent_at` when
    /// the lease expired.
    pub(crate) fn note_unreachable(&self, slot: &SlotSpec, sent_at: Instant) {
        match self {
            Self::Dflockd(dflockd) => dflockd.note_unreachable(slot, sent_at),
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => {}
        }
    }

    /// Closes the idle connections, and keeps none from here on.
    pub(crate) fn close_idle(&self) {
        match self {
            Self::Dflockd(dflockd) => dflockd.close_idle(),
            // It has one connection, for the slots that are held.
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => {}
        }
    }

    /// Ends the engine of a client that is closed and holds no slot. Completes when the slots that
    /// were dropped are free, on etcd after 5 s at most. No entry can be made from here on.
    #[cfg_attr(
        not(feature = "etcd"),
        expect(clippy::unused_async, reason = "a drop has sent its release")
    )]
    pub(crate) async fn shut_down(&self) {
        match self {
            Self::Dflockd(_) => {}
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.end_leases().await,
        }
    }

    /// Sends a request to every server, or a read to the cluster. Any reply will do.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        match self {
            Self::Dflockd(dflockd) => dflockd.ping().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.ping().await,
        }
    }

    /// Returns the stats of every server, in the order of the configuration; one for a cluster.
    #[cfg(feature = "stats")]
    pub(crate) async fn stats(&self) -> Result<Vec<crate::Stats>, Error> {
        match self {
            Self::Dflockd(dflockd) => dflockd.stats().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => Ok(vec![etcd.stats().await?]),
        }
    }

    /// Returns the holders of `key`, in the order of their grants.
    #[cfg_attr(
        not(feature = "etcd"),
        expect(clippy::unused_async, reason = "no engine lists them")
    )]
    pub(crate) async fn holders(&self, key: Arc<str>) -> Result<Vec<Holder>, Error> {
        match self {
            Self::Dflockd(_) => Err(self.unsupported(Operation::Holders, key)),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.holders(key).await,
        }
    }

    /// Takes the slot or the place of `token` away. Returns whether there was one.
    #[cfg_attr(
        not(feature = "etcd"),
        expect(clippy::unused_async, unused_variables, reason = "no engine revokes")
    )]
    pub(crate) async fn revoke(&self, key: Arc<str>, token: Token) -> Result<bool, Error> {
        match self {
            Self::Dflockd(_) => Err(self.unsupported(Operation::Revoke, key)),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.revoke(key, token).await,
        }
    }

    /// Returns the error of a call that the engine cannot serve.
    pub(crate) fn unsupported(&self, operation: Operation, key: Arc<str>) -> Error {
        let server = match self.server_for(&key) {
            Ok(server) => server.name,
            Err(error) => return error.into(),
        };
        Error::Unsupported {
            context: ErrorContext {
                operation,
                key: Some(key),
                server,
            },
            engine: self.capabilities().engine,
        }
    }

    /// Returns the pauses between requests for `slot`, each at most `max_bound`.
    pub(crate) fn backoff(&self, slot: &SlotSpec, max_bound: Duration) -> Backoff {
        match self {
            Self::Dflockd(dflockd) => dflockd.backoff(slot, max_bound),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.backoff(max_bound),
        }
    }

    /// Returns the time on the clock of the leases.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Dflockd(dflockd) => dflockd.now(),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.now(),
        }
    }
}
