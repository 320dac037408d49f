//! The entry of one wait and the hold that follows it, on either engine.

use std::any::Any;
#[cfg(feature = "etcd")]
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::dflockd;
#[cfg(feature = "etcd")]
use super::etcd;
use super::slot_spec::SlotSpec;
use crate::clock::Instant;
use crate::error::{Error, LostReason, Operation};
use crate::wire::{Grant, LeaseSeconds, Token};

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
