//! An entry in the queue of a key, shared by its owner and the session.
//!
//! The owner is a task of the user, on any thread; the session runs on a separate thread. The
//! session sets the phase, and the owner sets its demand. Each wakes the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::error::CallError;
use super::keys::EntryId;
use crate::clock::Instant;
use crate::mutex::Mutex;
use crate::wire::{Kind, LeaseSeconds, Token};

/// The slot that an entry waits for.
#[derive(Clone, Debug)]
pub(super) struct EntrySpec {
    pub(super) kind: Kind,
    pub(super) key: Arc<str>,
    pub(super) limit: u32,
    /// The number of slots, from 1 to the limit.
    pub(super) permits: u32,
    /// The lease to request, in whole seconds.
    pub(super) ttl: Duration,
    pub(super) wait: Wait,
}

/// The time for which an entry waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Does not join a queue in which it would wait.
    Never,
    /// Leaves the queue after this time. An entry that is lost with its lease joins again.
    AtMost(Duration),
    /// Stays in the queue until the owner gives up.
    Forever,
}

/// The owner's side of an entry. Dropping it gives up the place in the queue or the slot, at once
/// and without a runtime.
#[derive(Debug)]
pub(super) struct EntryHandle(Arc<Shared>);

/// The session's side of an entry. Dropping it ends the entry, so that no owner waits for a session
/// that has ended.
#[derive(Debug)]
pub(super) struct EntrySession(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when the session has something to do for the entry.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    demand: Demand,
    /// The session gives up the slot at this time by itself.
    latest_end: Option<Instant>,
    waker: Option<Waker>,
}

/// The phase of an entry.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// The request to join is in flight.
    Joining,
    /// In the queue.
    Queued {
        /// The number of slots that must be released before this entry holds.
        position: u64,
    },
    Held(Held),
    Ended(End),
}

/// A slot that is held as long as its lease.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) lease: Arc<EntryLease>,
}

/// The reason for which an entry has ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The owner has released the slot.
    Released,
    /// The wait is over.
    TimedOut,
    /// The slot was held until its latest end.
    Overdue,
    /// The key is in use with another limit.
    LimitMismatch { theirs: u32 },
    /// A key below the prefix has a value of another program.
    ForeignValue(String),
    /// The entry was deleted, or its lease was revoked or has expired.
    Revoked,
    /// A request failed.
    Failed(CallError),
    /// The session has ended.
    SessionEnded,
}

/// Request of the owner of an entry to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Join, wait and hold.
    Hold,
    /// The same, and renew the lease now.
    Renew,
    /// Give up the place or the slot.
    GiveUp,
}

/// The time until which the slots of one lease are held.
#[derive(Debug)]
pub(super) struct LeaseDeadline {
    /// The lease that the cluster granted.
    pub(super) ttl: LeaseSeconds,
    /// A time before the last confirmed renewal was sent, in nanoseconds on the client's clock.
    renewed_at: AtomicU64,
    ended: AtomicBool,
}

impl LeaseDeadline {
    pub(super) fn new(ttl: LeaseSeconds, granted_at: Instant) -> Self {
        Self {
            ttl,
            renewed_at: AtomicU64::new(granted_at.as_nanos()),
            ended: AtomicBool::new(false),
        }
    }

    /// Returns a time before the last confirmed renewal was sent.
    pub(super) fn renewed_at(&self) -> Instant {
        Instant::from_nanos(self.renewed_at.load(Ordering::Acquire))
    }

    /// Records a renewal that was sent after `sent_at`.
    pub(super) fn renew(&self, sent_at: Instant) {
        self.renewed_at
            .fetch_max(sent_at.as_nanos(), Ordering::Release);
    }

    /// Returns the time at which the slots are lost unless the lease is renewed.
    pub(super) fn expires_at(&self, clock_drift: f64) -> Instant {
        let safe = self.ttl.as_duration().as_secs_f64() * (1.0 - clock_drift);
        self.renewed_at().saturating_add_secs_f64(safe)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The lease of one entry. The keep-alive task and a blocked owner read it without the session.
#[derive(Debug)]
pub(crate) struct EntryLease {
    /// The deadline of all entries on the lease.
    pub(super) deadline: Arc<LeaseDeadline>,
    /// A renewal has found that the entry was deleted.
    deleted: AtomicBool,
}

impl EntryLease {
    pub(super) fn new(deadline: Arc<LeaseDeadline>) -> Self {
        Self {
            deadline,
            deleted: AtomicBool::new(false),
        }
    }

    /// Returns the lease that the cluster granted.
    pub(super) fn ttl(&self) -> LeaseSeconds {
        self.deadline.ttl
    }

    /// Records that the entry was deleted. A renewal of the lease that found it calls this before
    /// it moves the deadline, so that it does not extend this entry.
    pub(super) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Returns a time before the last confirmed renewal of the entry was sent. `None` if the entry
    /// was deleted or its lease has ended.
    pub(crate) fn renewed_at(&self) -> Option<Instant> {
        // First: this load makes a deletion visible that was recorded before the deadline moved.
        let renewed_at = self.deadline.renewed_at();
        (!self.has_ended()).then_some(renewed_at)
    }

    /// Returns whether the entry was deleted or its lease has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.deleted.load(Ordering::Acquire) || self.deadline.has_ended()
    }
}

/// Returns both sides of a new entry.
pub(super) fn entry() -> (EntryHandle, EntrySession) {
    let state = State {
        phase: Phase::Joining,
        demand: Demand::Hold,
        latest_end: None,
        waker: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        changed: Notify::new(),
    });
    (EntryHandle(shared.clone()), EntrySession(shared))
}

/// Returns the token of an entry that was created at `revision`.
pub(super) fn token(revision: i64, id: EntryId) -> Token {
    // Revisions are positive.
    Token::new(revision.unsigned_abs(), id.0)
}

impl EntryHandle {
    /// Returns the phase.
    pub(super) fn phase(&self) -> Phase {
        self.0.state.lock().phase.clone()
    }

    /// Completes when `check` returns a value for the phase. Only the waker of the last call is
    /// registered.
    pub(super) fn poll_phase<T>(
        &self,
        cx: &mut Context<'_>,
        check: impl FnOnce(&Phase) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.0.state.lock();
        if let Some(value) = check(&state.phase) {
            return Poll::Ready(value);
        }
        if !state
            .waker
            .as_ref()
            .is_some_and(|w| w.will_wake(cx.waker()))
        {
            let old = state.waker.replace(cx.waker().clone());
            drop(state);
            drop(old);
        }
        Poll::Pending
    }

    /// Asks the session to renew the lease now.
    pub(super) fn request_renewal(&self) {
        self.demand(Demand::Renew);
    }

    /// Gives up the place or the slot. The phase becomes [`Phase::Ended`] when the cluster has
    /// answered.
    pub(super) fn give_up(&self) {
        self.demand(Demand::GiveUp);
    }

    /// Sets the time at which the session gives up the slot by itself.
    pub(super) fn set_latest_end(&self, end: Instant) {
        self.0.state.lock().latest_end = Some(end);
        self.0.changed.notify_one();
    }

    fn demand(&self, demand: Demand) {
        let mut state = self.0.state.lock();
        if state.demand != Demand::GiveUp {
            state.demand = demand;
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Drop for EntryHandle {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl EntrySession {
    /// Sets the phase and wakes the owner. An end stays an end.
    pub(super) fn set_phase(&self, phase: Phase) {
        let mut state = self.0.state.lock();
        if !matches!(state.phase, Phase::Ended(_)) {
            state.phase = phase;
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the owner, which reads the lease.
    pub(super) fn wake_owner(&self) {
        let waker = self.0.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns the demand of the owner. A demand to renew is returned once.
    pub(super) fn take_demand(&self) -> Demand {
        let mut state = self.0.state.lock();
        let demand = state.demand;
        if demand == Demand::Renew {
            state.demand = Demand::Hold;
        }
        demand
    }

    /// Returns the time at which the session gives up the slot.
    pub(super) fn latest_end(&self) -> Option<Instant> {
        self.0.state.lock().latest_end
    }

    /// Returns whether the owner does not know yet that it waits or holds.
    pub(super) fn is_joining(&self) -> bool {
        matches!(self.0.state.lock().phase, Phase::Joining)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.0.state.lock().demand == Demand::GiveUp
    }

    /// Wakes the task of the session that serves the entry.
    pub(super) fn notify(&self) {
        self.0.changed.notify_one();
    }

    /// Completes after the next notification.
    pub(super) async fn wait_for_notification(&self) {
        self.0.changed.notified().await;
    }
}

impl Drop for EntrySession {
    fn drop(&mut self) {
        self.set_phase(Phase::Ended(End::SessionEnded));
    }
}
