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
#[cfg(feature = "etcd")]
pub(crate) mod etcd;

use std::any::Any;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Id;

use crate::Holder;
use crate::clock::Instant;
use crate::error::{ConfigError, Error, ErrorContext, LostReason, Operation};
use crate::telemetry::Labels;
use crate::wire::{Grant, KeyBuf, Kind, LeaseSeconds, Primitive, Token};
pub(crate) use dflockd::Backoff;
use dflockd::Dflockd;
#[cfg(feature = "etcd")]
use dispatch::Dispatch;
#[cfg(feature = "etcd")]
use etcd::Etcd;

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
    /// Its address, `host:port`, or the name of its cluster.
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

/// The entry of one wait and the hold that follows it. Dropping it gives up the place in the queue
/// or the slot.
#[derive(Debug)]
pub(crate) enum Entry {
    Dflockd(dflockd::Entry),
    #[cfg(feature = "etcd")]
    Etcd(Box<etcd::Entry>),
}

/// Reason for which an entry has no slot, or no longer has it.
#[derive(Debug)]
pub(crate) enum EntryError {
    Dflockd(dflockd::EntryError),
    #[cfg(feature = "etcd")]
    Etcd(etcd::EntryError),
}

/// The renewals of a slot.
#[derive(Clone, Debug, Default)]
pub(crate) enum Renewals {
    /// The keep-alive task of the lease sends them.
    #[default]
    ByTask,
    /// The engine sends them by itself. The task also requests one after `renew_ratio` or
    /// `heartbeat`, if the engine has sent none until then.
    #[cfg(feature = "etcd")]
    ByEngine(Arc<etcd::EntryLease>),
}

impl Renewals {
    /// Returns a time before the last renewal by the engine was sent; the reason if the engine has
    /// found that the slot is lost. `None` if the engine does not renew.
    pub(crate) fn last(&self) -> Option<Result<Instant, LostReason>> {
        match self {
            Self::ByTask => None,
            #[cfg(feature = "etcd")]
            Self::ByEngine(lease) => Some(lease.renewed_at().ok_or(LostReason::Revoked)),
        }
    }
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

    /// Completes when the slots that were dropped are free. No slot is held.
    #[cfg_attr(
        not(feature = "etcd"),
        expect(clippy::unused_async, reason = "a drop has sent its release")
    )]
    pub(crate) async fn flush(&self) {
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

impl Entry {
    /// Starts the wait for the grant, without a time limit.
    pub(crate) fn start_wait(&mut self, slot: &SlotSpec) {
        match self {
            Self::Dflockd(entry) => entry.start_wait(slot),
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => {}
        }
    }

    /// Reads the grant that the entry waits for.
    pub(crate) fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<Result<Grant, EntryError>> {
        match self {
            Self::Dflockd(entry) => entry.poll_grant(cx).map_err(EntryError::Dflockd),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.poll_grant(cx).map_err(EntryError::Etcd),
        }
    }

    /// Returns the grant if it has been received but not read. For use in `Drop`.
    pub(crate) fn try_grant(&mut self) -> Option<Grant> {
        match self {
            Self::Dflockd(entry) => entry.try_grant(),
            // Dropping the entry gives up the slot as well.
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => None,
        }
    }

    /// Returns the number of permits of the hold.
    pub(crate) fn permits(&self) -> u32 {
        match self {
            Self::Dflockd(entry) => entry.permits(),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.permits(),
        }
    }

    /// Returns the tokens of the permits after the first one. `None` if the hold has one token.
    pub(crate) fn further_tokens(&self) -> Option<Box<[Token]>> {
        match self {
            Self::Dflockd(entry) => entry.further_tokens(),
            #[cfg(feature = "etcd")]
            // All permits are one entry.
            Self::Etcd(_) => None,
        }
    }

    /// Returns the renewals of the slot, which was granted.
    pub(crate) fn renewals(&self) -> Renewals {
        match self {
            Self::Dflockd(_) => Renewals::ByTask,
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry
                .lease()
                .cloned()
                .map_or(Renewals::ByTask, Renewals::ByEngine),
        }
    }

    /// Returns how many slots must be released before the entry holds; 0 if it does. `None` if the
    /// engine does not know it.
    pub(crate) fn position(&self) -> Option<u64> {
        match self {
            Self::Dflockd(_) => None,
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => Some(entry.position()),
        }
    }

    /// Sends a renewal of the slot of `token` that requests `lease`, or the default of the server.
    /// It is `now`. An engine that renews by itself keeps the lease of the grant.
    #[cfg_attr(not(feature = "etcd"), expect(unused_variables))]
    pub(crate) fn start_renewal(
        &mut self,
        slot: &SlotSpec,
        token: Token,
        lease: Option<LeaseSeconds>,
        now: Instant,
    ) {
        match self {
            Self::Dflockd(entry) => entry.start_renewal(slot, token, lease),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.start_renewal(now),
        }
    }

    /// Reads the lease after the renewal of `grant` that requested a lease. `None` if no time of it
    /// is left.
    pub(crate) fn poll_renewal(
        &mut self,
        cx: &mut Context<'_>,
        requested: Option<LeaseSeconds>,
        grant: &Grant,
    ) -> Poll<Result<Option<LeaseSeconds>, EntryError>> {
        match self {
            Self::Dflockd(entry) => entry
                .poll_renewal(cx, requested, grant)
                .map_err(EntryError::Dflockd),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.poll_renewal(cx).map_err(EntryError::Etcd),
        }
    }

    /// Gives up the slot at `end`, even if its owner does not run then. Only an engine that renews
    /// by itself has to.
    #[cfg_attr(not(feature = "etcd"), expect(unused_variables))]
    pub(crate) fn set_latest_end(&self, end: Instant) {
        match self {
            Self::Dflockd(_) => {}
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.set_latest_end(end),
        }
    }

    /// Completes with the reason when the entry has ended.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<LostReason> {
        match self {
            Self::Dflockd(entry) => entry.poll_closed(cx).map(|()| LostReason::Disconnected),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.poll_closed(cx),
        }
    }

    /// Completes within `delay`, which counts from the last request of a caller, or from now.
    pub(crate) fn poll_delay(&mut self, cx: &mut Context<'_>, delay: Duration) -> Poll<()> {
        match self {
            Self::Dflockd(entry) => entry.poll_delay(cx, delay),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.poll_delay(cx, delay),
        }
    }

    /// Frees the timer of [`poll_delay`](Self::poll_delay). The owner uses another timer.
    pub(crate) fn free_timer(&mut self) {
        match self {
            Self::Dflockd(entry) => entry.free_timer(),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.free_timer(),
        }
    }

    /// Gives up the slot of `token` without waiting for a reply. Needs no runtime.
    pub(crate) fn abandon(self, slot: &SlotSpec, token: Token) {
        match self {
            Self::Dflockd(entry) => entry.abandon(slot, token),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => drop(entry),
        }
    }

    /// Returns the value that the owner stored with the entry, if it is a `T`. With dflockd it stays
    /// with the connection when another entry reuses that.
    pub(crate) fn extension<T: Any>(&mut self) -> Option<&mut T> {
        match self {
            Self::Dflockd(entry) => entry.extension(),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.extension(),
        }
    }

    /// Stores `value` with the entry, in place of the previous one.
    pub(crate) fn set_extension<T: Any + Send>(&mut self, value: T) {
        match self {
            Self::Dflockd(entry) => entry.set_extension(value),
            #[cfg(feature = "etcd")]
            Self::Etcd(entry) => entry.set_extension(value),
        }
    }
}

impl EntryError {
    /// Returns the reason of the loss of a hold that ends with this error.
    pub(crate) fn lost_reason(&self) -> LostReason {
        match self {
            Self::Dflockd(error) => error.lost_reason(),
            #[cfg(feature = "etcd")]
            Self::Etcd(error) => error.lost_reason(),
        }
    }

    /// Returns the error of an operation on `slot`.
    pub(crate) fn into_error(self, operation: Operation, slot: &SlotSpec) -> Error {
        let context = slot.context(operation);
        match self {
            Self::Dflockd(error) => error.into_error(context),
            #[cfg(feature = "etcd")]
            Self::Etcd(error) => error.into_error(context, slot),
        }
    }
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
