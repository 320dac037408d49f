//! The life of one wait for a slot and of the hold that follows it.
//!
//! A [`Lease`] is shared by its owner, which has a [`LeaseHandle`], and the keep-alive task, which
//! waits for the grant, renews the lease and watches the entry at the engine. The first of them to
//! see an end records it; every end is final.
//!
//! Two locks:
//!
//! 1. `entry` is held only during one poll, so that the owner can take the entry at any time, also
//!    on an executor that does not run. The entry is there at least as long as the phase is
//!    `Queued`, `Unverified` or `Held`. After the deadline has passed, the keep-alive task or the
//!    drop of the handle takes it, whichever comes first.
//! 2. `state` is locked after `entry` where both are held, and never while a stream is polled, so
//!    that `check` does not wait for one.
//!
//! Under `state` nothing is woken, no clock is read and no telemetry is emitted: all of that may run
//! code of the user that calls `check`.

mod handle;
mod hold_limits;
mod hold_registry;
mod keep_alive;
mod lingering;
mod state;
mod timing;

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task;
use tokio::time::{Sleep, sleep};
use tracing::Span;

use crate::clock::Instant;
use crate::driver;
use crate::engine::{Engine, Entry, RenewalPolicy, SlotSpec};
use crate::error::{Error, Lost, LostReason, Operation};
use crate::mutex::Mutex;
use crate::telemetry;
use crate::wire::{Grant, Token};

pub(crate) use handle::LeaseHandle;
pub(crate) use hold_limits::HoldLimits;
use hold_registry::Registration;
pub(crate) use hold_registry::{HoldRegistry, KeyHash};
use state::{End, Phase, State};
use timing::{Deadlines, jitter};
pub(crate) use timing::{LeaseTiming, MAX_RENEW_FRACTION};

/// The callback of the user for lost slots.
pub(crate) type OnLost = Arc<dyn Fn(&Lost) + Send + Sync>;

/// The configuration that all leases of a semaphore share.
#[derive(Clone)]
pub(crate) struct LeaseConfig {
    pub(crate) slot: SlotSpec,
    pub(crate) engine: Arc<Engine>,
    pub(crate) timing: Arc<LeaseTiming>,
    /// The holds of the client.
    pub(crate) holds: Arc<HoldRegistry>,
    pub(crate) key_hash: KeyHash,
    /// The part of a lease after which it is renewed.
    pub(crate) renew_ratio: f64,
    pub(crate) hold_limits: HoldLimits,
    /// The servers' tokens carry a fence.
    pub(crate) fencing: bool,
    pub(crate) on_lost: Option<OnLost>,
}

impl LeaseConfig {
    /// Returns the deadlines of `grant` after so many `renewals`. The request for the grant, or
    /// for the last renewal, was sent at `sent_at`.
    fn deadlines(&self, sent_at: Instant, grant: &Grant, renewals: u64) -> Deadlines {
        let lease = grant.lease.as_duration();
        self.timing.deadlines(
            self.renew_ratio,
            sent_at,
            lease,
            jitter(&grant.token, renewals),
        )
    }

    /// Reports a loss that the server told only when the slot of `token` was released.
    pub(crate) fn report_lost(&self, token: Token, reason: LostReason) -> Lost {
        let lost = self.lost(token, reason);
        self.call_on_lost(&lost);
        lost
    }

    fn lost(&self, token: Token, reason: LostReason) -> Lost {
        let SlotSpec { key, server, .. } = &self.slot;
        let (key, server) = (key.as_shared().clone(), server.name.clone());
        Lost {
            key,
            token,
            server,
            reason,
        }
    }

    fn call_on_lost(&self, lost: &Lost) {
        if let Some(on_lost) = &self.on_lost
            && catch_unwind(AssertUnwindSafe(|| on_lost(lost))).is_err()
        {
            telemetry::record_on_lost_panic(lost);
        }
    }

    /// Registers a place in the queue, or the hold of `task` with so many `slots`, with the client,
    /// whose close then waits for its end. Returns `None` if the client is closed.
    fn register(&self, task: Option<task::Id>, slots: u32) -> Option<Registration> {
        self.holds.register(self.key_hash, task, slots)
    }

    /// Returns the error of an operation on a closed client.
    pub(crate) fn closed(&self, operation: Operation) -> Error {
        let context = self.slot.context(operation);
        Error::Closed { context }
    }

    fn disconnected(&self) -> Error {
        Error::Disconnected {
            context: self.slot.context(Operation::Wait),
            source: None,
        }
    }
}

impl RenewalPolicy for LeaseConfig {
    fn renew_at(&self, sent_at: Instant, grant: &Grant, renewals: u64) -> Instant {
        self.deadlines(sent_at, grant, renewals).renew_at
    }
}

impl fmt::Debug for LeaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseConfig")
            .field("slot", &self.slot)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// The state that the owner of a hold and the keep-alive task share.
struct Lease {
    config: Arc<LeaseConfig>,
    /// The number of permits of the hold.
    permits: u32,
    /// The tokens of the hold's permits after the first one. `None` if the hold has one token.
    further_tokens: Option<Box<[Token]>>,
    entry: Mutex<Option<Entry>>,
    state: Mutex<State>,
    /// Notified after every change of the state that a task may wait for.
    changed: Notify,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("slot", &self.config.slot)
            .field("phase", &self.lock_state().phase)
            .finish_non_exhaustive()
    }
}

impl Lease {
    fn new(config: Arc<LeaseConfig>, entry: Entry, state: State) -> Arc<Self> {
        Arc::new(Self {
            config,
            permits: entry.permits(),
            further_tokens: entry.further_tokens(),
            entry: Mutex::new(Some(entry)),
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    fn now(&self) -> Instant {
        self.config.timing.clock.now()
    }

    /// Locks the state as of now: a hold whose deadline has passed is lost.
    fn lock_state(&self) -> MutexGuard<'_, State> {
        let now = self.now();
        let mut state = self.state.lock();
        if state.expire(&self.config, now) {
            drop(state);
            self.changed.notify_waiters();
            // A loss is final, so the state is as current as before.
            state = self.state.lock();
        }
        state
    }

    /// Waits until `check` returns a value. The deadline of the lease counts as a change.
    ///
    /// On a runtime without timers, and outside of tokio, only the keep-alive task wakes the
    /// caller: it has a timer on the runtime of the lease.
    async fn wait_until<T>(&self, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut has_timers = true;
        loop {
            // Created before the check: it is woken by every change from here on.
            let changed = self.changed.notified();
            let expires_at = {
                let mut state = self.lock_state();
                if let Some(value) = check(&mut state) {
                    return value;
                }
                state.expires_at()
            };
            let expires_at = expires_at.filter(|_| has_timers);
            // Pinned where it is made: a timer is most of this future, and select! would move it.
            let mut sleep = pin!(expires_at.and_then(|expires_at| {
                driver::try_sleep(self.sleep_duration(expires_at, self.now())).ok()
            }));
            // Tried once: at each try the panic hook prints a panic.
            has_timers &= sleep.is_some() == expires_at.is_some();
            let slept = poll_fn(|cx| match sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.poll(cx),
                None => Poll::Pending,
            });
            tokio::select! {
                biased;
                () = changed => {}
                () = slept => {}
            }
        }
    }

    /// Sleeps until `end`, but may wake early.
    fn sleep_until(&self, end: Instant) -> Sleep {
        sleep(self.sleep_duration(end, self.now()))
    }

    fn sleep_duration(&self, end: Instant, now: Instant) -> Duration {
        end.duration_since(now).min(self.config.timing.max_sleep)
    }

    /// Ends the wait or the hold, unless it has ended before, and gives up the entry.
    ///
    /// Every end goes through here. What the server may still count as held is released without
    /// waiting for the reply, except for [`End::Closed`], which sends nothing. [`End::ClientClosed`]
    /// ends only what the user has not had yet.
    fn end(&self, end: End) {
        let sends_release = !matches!(end, End::Closed);
        let now = self.now();
        let mut entry_guard = self.entry.lock();
        let mut state = self.state.lock();
        if matches!(end, End::ClientClosed) && !state.ends_with_client() {
            return;
        }
        let entry = entry_guard.take();
        state.expire(&self.config, now);
        let was_queued = matches!(state.phase, Phase::Queued);
        let mut token = state.token_on_server();
        let telemetry = state.end(&self.config, end);
        let registration = state.registration.take();
        drop(state);
        drop(entry_guard);
        if let Some(mut entry) = entry
            && sends_release
        {
            if was_queued && let Some(grant) = entry.try_grant() {
                token = Some(grant.token);
            }
            if let Some(token) = token {
                entry.abandon(&self.config.slot, token);
            }
        }
        self.changed.notify_waiters();
        drop(telemetry);
        // Last: a program may exit when its client has no hold left.
        drop(registration);
    }

    /// Returns the span of the wait or the hold while it lasts. The telemetry is taken out of the
    /// state meanwhile: to clone a span runs code of the subscriber.
    fn span(&self) -> Span {
        let Some(telemetry) = self.state.lock().telemetry.take() else {
            return Span::none();
        };
        let span = telemetry.span();
        let ended = self.state.lock().restore_telemetry(telemetry);
        drop(ended);
        span
    }
}
