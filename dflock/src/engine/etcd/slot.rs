//! The owner's entry, as a lease uses it.

use std::any::Any;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant as TokioInstant;

use super::entry::{End, EntryHandle, EntryLease, Held, Phase};
use crate::clock::Instant;
use crate::engine::dflockd::LazyTimer;
use crate::engine::{self, Granted, SlotSpec};
use crate::error::{Error, ErrorContext, LostReason};
use crate::wire::{Grant, LeaseSeconds};

/// The entry of one wait and the hold that follows it.
///
/// Dropping it gives up the place in the queue or the slot.
#[derive(Debug)]
pub(crate) struct Entry {
    handle: EntryHandle,
    permits: NonZeroU32,
    /// The lease of the slot, once it was granted. An entry that has ended keeps it.
    lease: Option<Arc<EntryLease>>,
    timer: LazyTimer,
    /// The time of the renewal that was requested last.
    renewal_requested_at: Option<Instant>,
    extension: Option<Box<dyn Any + Send>>,
}

/// Reason for which an entry has no slot, or no longer has it.
#[derive(Debug)]
pub(crate) struct EntryError(End);

impl Entry {
    pub(super) fn new(handle: EntryHandle, permits: NonZeroU32) -> Self {
        Self {
            handle,
            permits,
            lease: None,
            timer: LazyTimer::default(),
            renewal_requested_at: None,
            extension: None,
        }
    }

    /// Returns the slot that the entry holds since `now` at the latest.
    pub(super) fn into_granted(mut self, held: &Held, now: Instant) -> Granted {
        self.lease = Some(held.lease.clone());
        Granted {
            grant: grant(held),
            sent_at: now,
            received_at: now,
            // The session grants by a linearizable read.
            verify_timeout: None,
            entry: engine::Entry::Etcd(Box::new(self)),
        }
    }

    pub(crate) fn permits(&self) -> u32 {
        self.permits.get()
    }

    /// Returns how many slots must be released before the entry holds; 0 if it does.
    pub(crate) fn position(&self) -> u64 {
        match self.handle.phase() {
            Phase::Queued { position } => position,
            Phase::Joining | Phase::Held(_) | Phase::Ended(_) => 0,
        }
    }

    /// Reads the grant that the entry waits for.
    pub(crate) fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<Result<Grant, EntryError>> {
        let lease = &mut self.lease;
        self.handle.poll_phase(cx, |phase| match phase {
            Phase::Held(held) => {
                *lease = Some(held.lease.clone());
                Some(Ok(grant(held)))
            }
            Phase::Ended(end) => Some(Err(EntryError(end.clone()))),
            Phase::Joining | Phase::Queued { .. } => None,
        })
    }

    /// Returns the lease of the slot, once it was granted.
    pub(crate) fn lease(&self) -> Option<&Arc<EntryLease>> {
        self.lease.as_ref()
    }

    /// Asks for a renewal that is sent after `now`.
    pub(crate) fn start_renewal(&mut self, now: Instant) {
        self.renewal_requested_at = Some(now);
        self.handle.request_renewal();
    }

    /// Reads the lease after the renewal.
    pub(crate) fn poll_renewal(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<LeaseSeconds>, EntryError>> {
        let requested_at = self.renewal_requested_at;
        self.handle.poll_phase(cx, |phase| match phase {
            Phase::Held(held) => match held.lease.renewed_at() {
                Some(renewed_at) => {
                    let is_renewed = Some(renewed_at) >= requested_at;
                    is_renewed.then(|| Ok(Some(held.lease.ttl())))
                }
                // The renewal has found that the entry was deleted.
                None => Some(Err(EntryError(End::Revoked))),
            },
            Phase::Ended(end) => Some(Err(EntryError(end.clone()))),
            Phase::Joining | Phase::Queued { .. } => None,
        })
    }

    /// Completes with the reason when the entry has ended.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<LostReason> {
        self.handle.poll_phase(cx, |phase| match phase {
            Phase::Ended(end) => Some(end.lost_reason()),
            Phase::Joining | Phase::Queued { .. } | Phase::Held(_) => None,
        })
    }

    /// Completes within `delay`.
    pub(crate) fn poll_delay(&mut self, cx: &mut Context<'_>, delay: Duration) -> Poll<()> {
        self.timer.poll_elapsed(cx, TokioInstant::now() + delay)
    }

    /// Frees the timer of [`poll_delay`](Self::poll_delay).
    pub(crate) fn free_timer(&mut self) {
        self.timer = LazyTimer::default();
    }

    /// Sets the time at which the session gives up the slot, even if its owner does not run then.
    pub(crate) fn set_latest_end(&self, end: Instant) {
        self.handle.set_latest_end(end);
    }

    /// Gives up the slot and waits for the reply.
    pub(super) async fn release(self) -> End {
        self.handle.give_up();
        poll_fn(|cx| {
            self.handle.poll_phase(cx, |phase| match phase {
                Phase::Ended(end) => Some(end.clone()),
                Phase::Joining | Phase::Queued { .. } | Phase::Held(_) => None,
            })
        })
        .await
    }

    pub(crate) fn extension<T: Any>(&mut self) -> Option<&mut T> {
        self.extension.as_mut()?.downcast_mut()
    }

    pub(crate) fn set_extension<T: Any + Send>(&mut self, value: T) {
        self.extension = Some(Box::new(value));
    }
}

impl EntryError {
    pub(crate) fn lost_reason(&self) -> LostReason {
        self.0.lost_reason()
    }

    pub(crate) fn into_error(self, context: ErrorContext, slot: &SlotSpec) -> Error {
        self.0.into_error(context, slot)
    }
}

impl End {
    /// Returns the reason of the loss of a hold that ends so.
    pub(super) fn lost_reason(&self) -> LostReason {
        match self {
            Self::SessionEnded => LostReason::Disconnected,
            Self::Overdue => LostReason::Overdue,
            _ => LostReason::Revoked,
        }
    }

    /// Returns the error of an operation that ends so.
    pub(super) fn into_error(self, context: ErrorContext, slot: &SlotSpec) -> Error {
        match self {
            Self::Failed(error) => error.into_error(context),
            Self::LimitMismatch { theirs } => Error::LimitMismatch {
                context,
                ours: slot.primitive.limit().get(),
                theirs: Some(theirs),
            },
            Self::ForeignValue(key) => Error::ForeignValue { context, key },
            Self::Revoked => Error::Revoked { context },
            // Nothing else ends an operation that is still waited for.
            Self::SessionEnded | Self::Released | Self::TimedOut | Self::Overdue => {
                Error::Disconnected {
                    context,
                    source: None,
                }
            }
        }
    }
}

/// Returns the grant of a slot. The fence is the create revision of its entry.
fn grant(held: &Held) -> Grant {
    Grant {
        token: held.token,
        lease: held.lease.ttl(),
        fence: Some(held.token.fence()),
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::etcd::entry::{EntrySession, LeaseDeadline, entry, token};
    use crate::engine::etcd::keys::EntryId;

    fn held() -> (Entry, EntrySession, Held) {
        let (handle, session) = entry();
        let ttl = LeaseSeconds::new(Duration::from_secs(10)).unwrap();
        let deadline = Arc::new(LeaseDeadline::new(ttl, Clock::Boottime.now()));
        let held = Held {
            token: token(1, EntryId(1)),
            lease: Arc::new(EntryLease::new(deadline)),
        };
        session.set_phase(Phase::Held(held.clone()));
        (Entry::new(handle, NonZeroU32::MIN), session, held)
    }

    // The owner may look between the renewal and the end of the entry.
    #[test]
    fn a_renewal_that_found_the_entry_deleted_renews_nothing() {
        let (mut entry, _session, held) = held();
        let now = Clock::Boottime.now();
        entry.start_renewal(now);
        held.lease.set_deleted();
        held.lease.deadline.renew(now);
        let renewed = entry.poll_renewal(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Err(error)) = renewed else {
            panic!("{renewed:?}");
        };
        assert_eq!(error.lost_reason(), LostReason::Revoked);
    }

    #[test]
    fn an_entry_that_ends_before_its_owner_looks_passes_no_check() {
        let (entry, session, held) = held();
        held.lease.set_deleted();
        session.set_phase(Phase::Ended(End::Revoked));
        let granted = entry.into_granted(&held, Clock::Boottime.now());
        assert_eq!(
            granted.entry.renewals().last(),
            Some(Err(LostReason::Revoked))
        );
    }
}
