//! The keep-alive task: it waits for the grant, renews the lease, and watches the connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::state::{End, Phase, State};
use super::{Lease, LeaseConfig};
use crate::clock::Instant;
use crate::engine::Entry;
use crate::error::{Error, LostReason, Operation};
use crate::mutex::Mutex;
use crate::telemetry;
use crate::wire::{Grant, LeaseSeconds};

/// A renewal for which the server gave no time is retried after this part of the time that is left.
const RETRY_DIVISOR: u32 = 4;

/// The keep-alive task of a connection, which stops when this is dropped.
///
/// There is one for each connection and not one for each hold: the task of a connection that is
/// used again sleeps, and a hold that ends before its first renewal does not wake it. That saves
/// two system calls and a third of the user instructions of a cycle.
#[derive(Debug)]
pub(super) struct KeepAlive {
    inbox: Arc<Inbox>,
    task: AbortHandle,
}

/// The lease that the task has to keep next.
#[derive(Debug, Default)]
struct Inbox(Mutex<InboxState>);

#[derive(Debug, Default)]
struct InboxState {
    lease: Option<Arc<Lease>>,
    /// Wakes the task. `None` before it has slept once.
    waker: Option<Waker>,
    /// The task has stopped, for example with its runtime.
    stopped: bool,
}

/// The keep-alive task has stopped.
struct Stopped;

impl KeepAlive {
    /// Spawns the task on the current runtime.
    fn spawn() -> Self {
        let inbox = Arc::<Inbox>::default();
        let task = tokio::spawn(Worker(inbox.clone()).run()).abort_handle();
        Self { inbox, task }
    }

    /// Spawns a task that waits for the grant of `lease` and then keeps it.
    pub(super) fn spawn_queued(lease: &Arc<Lease>) {
        tokio::spawn(Running(lease.clone()).run_queued());
    }

    /// Assigns `lease` to the task. Returns the waker of the task if it sleeps: the caller then
    /// registers it with the connection. A task that does not sleep finds the lease by itself.
    fn assign(&self, lease: Arc<Lease>) -> Result<Option<Waker>, Stopped> {
        let mut inbox = self.inbox.0.lock();
        if inbox.stopped {
            return Err(Stopped);
        }
        inbox.lease = Some(lease);
        Ok(inbox.waker.clone())
    }

    /// Takes the lease back from the task of `entry`. Returns whether the task had not begun
    /// with it.
    pub(super) fn take_back(entry: &mut Entry) -> bool {
        entry.extension::<Self>().is_some_and(|keep_alive| {
            let lease = keep_alive.inbox.0.lock().lease.take();
            lease.is_some()
        })
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The body of the task of a connection.
struct Worker(Arc<Inbox>);

impl Worker {
    async fn run(self) {
        loop {
            let lease = poll_fn(|cx| self.0.poll_lease(cx)).await;
            Running(lease).run().await;
        }
    }
}

impl Inbox {
    fn poll_lease(&self, cx: &mut Context<'_>) -> Poll<Arc<Lease>> {
        let mut inbox = self.0.lock();
        if let Some(lease) = inbox.lease.take() {
            return Poll::Ready(lease);
        }
        if !inbox
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            inbox.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut inbox = self.0.0.lock();
        inbox.stopped = true;
        let lease = inbox.lease.take();
        drop(inbox);
        drop(lease.map(Running));
    }
}

/// A lease that a task keeps. When the task stops, even before its first poll, the lease ends with
/// it, so that no connection stays open and no caller waits without a task.
struct Running(Arc<Lease>);

impl Running {
    /// Waits for the grant and keeps the lease. The close of the client ends it, unless the user
    /// has the slot.
    async fn run_queued(self) {
        let mut kept = pin!(self.keep_queued());
        tokio::select! {
            biased;
            () = &mut kept => return,
            () = self.0.config.holds.closed() => self.0.end(End::ClientClosed),
        }
        // Ends at once, unless the user has the slot.
        kept.await;
    }

    async fn keep_queued(&self) {
        let granted = match self.0.wait_for_grant().await {
            Ok(grant) => self.0.accept_grant(grant).await,
            Err(error) => Err(error),
        };
        match granted {
            Ok(()) => self.0.keep_alive().await,
            Err(error) => self.0.end(End::Failed(error)),
        }
    }

    async fn run(self) {
        self.0.keep_alive().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let lease = &self.0;
        // Before `on_lost` is called: a check on another thread must see the loss.
        lease.end(End::TaskStopped);
        let state = lease.lock_state();
        let lost = state.lost().filter(|_| state.owned_by_user);
        drop(state);
        if let Some(lost) = lost {
            lease.config.call_on_lost(&lost);
        }
    }
}

impl Lease {
    /// Leaves the lease to the keep-alive task of its connection, from `now` on, with a renewal at
    /// `renew_at`. A hold that ends before that does not wake the task.
    pub(super) fn start_keep_alive(self: &Arc<Self>, renew_at: Instant, now: Instant) {
        let mut entry_guard = self.entry.lock();
        let assigned = match entry_guard.as_mut() {
            Some(entry) => self.assign_keep_alive(entry, renew_at, now),
            None => Err(Stopped),
        };
        drop(entry_guard);
        match assigned {
            Ok(Some(waker)) => waker.wake(),
            Ok(None) => {}
            Err(Stopped) => drop(Running(self.clone())),
        }
    }

    /// Assigns the lease to the keep-alive task of `entry`, and registers the task with the
    /// connection. Returns the waker of the task if there is something to do already.
    fn assign_keep_alive(
        self: &Arc<Self>,
        entry: &mut Entry,
        renew_at: Instant,
        now: Instant,
    ) -> Result<Option<Waker>, Stopped> {
        let assigned = match entry.extension::<KeepAlive>() {
            Some(keep_alive) => keep_alive.assign(self.clone()),
            None => Err(Stopped),
        };
        let assigned = if let Ok(assigned) = assigned {
            assigned
        } else {
            // The first hold of the connection, or the task has panicked in code of the user.
            let keep_alive = KeepAlive::spawn();
            let assigned = keep_alive.assign(self.clone())?;
            entry.set_extension(keep_alive);
            assigned
        };
        let Some(waker) = assigned else {
            return Ok(None);
        };
        let mut cx = Context::from_waker(&waker);
        let delay = self.sleep_duration(renew_at, now);
        let is_ready =
            entry.poll_closed(&mut cx).is_ready() || entry.poll_delay(&mut cx, delay).is_ready();
        Ok(is_ready.then_some(waker))
    }

    /// Wakes the task to which the lease was left.
    pub(super) fn wake_keep_alive(&self) {
        let mut entry_guard = self.entry.lock();
        let waker = entry_guard.as_mut().and_then(|entry| {
            let keep_alive = entry.extension::<KeepAlive>()?;
            keep_alive.inbox.0.lock().waker.clone()
        });
        drop(entry_guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Marks a slot that was granted to a place in the queue as held. A grant that the engine has
    /// not verified is renewed first.
    async fn accept_grant(&self, grant: Grant) -> Result<(), Error> {
        let renewed = self.state.lock().renewals.last();
        match renewed {
            None => {
                let limit = self.config.timing.socket_timeout;
                return self.verify_grant(grant, limit).await;
            }
            Some(Ok(renewed_at)) => self.activate(self.now(), renewed_at, grant),
            // Lost between the grant and now.
            Some(Err(_)) => {}
        }
        self.check_activated()
    }

    /// Renews the slot that the server says it granted, and marks it as held if the server agrees
    /// within `limit`.
    pub(super) async fn verify_grant(&self, grant: Grant, limit: Duration) -> Result<(), Error> {
        let slot = &self.config.slot;
        let context = || slot.context(Operation::Renew);
        let sent_at = self.now();
        self.with_entry(|entry| entry.start_renewal(slot, grant.token, slot.lease, sent_at));
        let renewed = self.poll_until_ended(|entry, cx| entry.poll_renewal(cx, slot.lease, &grant));
        match timeout(limit, renewed).await {
            Ok(Some(Ok(Some(lease)))) => self.activate(sent_at, sent_at, Grant { lease, ..grant }),
            Ok(Some(Ok(None))) => return Err(Error::LeaseExpired { context: context() }),
            Ok(Some(Err(error))) => return Err(error.into_error(Operation::Renew, slot)),
            // The owner has given up: no task receives this error.
            Ok(None) => {
                return Err(Error::Disconnected {
                    context: context(),
                    source: None,
                });
            }
            Err(_) => {
                return Err(Error::Unresponsive {
                    context: context(),
                    limit,
                });
            }
        }
        self.check_activated()
    }

    /// Returns an error if the slot is not held, because its lease has expired.
    fn check_activated(&self) -> Result<(), Error> {
        if self.lock_state().expires_at().is_some() {
            Ok(())
        } else {
            let context = self.config.slot.context(Operation::Renew);
            Err(Error::LeaseExpired { context })
        }
    }

    /// Waits in the queue until the slot is granted. The grant is not verified.
    async fn wait_for_grant(&self) -> Result<Grant, Error> {
        let slot = &self.config.slot;
        self.with_entry(|entry| entry.start_wait(slot));
        let granted = self.poll_until_ended(|entry, cx| {
            let granted = entry.poll_grant(cx);
            if let Poll::Ready(Ok(grant)) = &granted {
                // Under the lock of the entry, so that an owner that gives up now releases this
                // slot.
                let mut state = self.state.lock();
                state.phase = Phase::Unverified(*grant);
                state.renewals = entry.renewals();
            }
            granted
        });
        match granted.await {
            Some(granted) => granted.map_err(|error| error.into_error(Operation::Wait, slot)),
            None => Err(self.config.disconnected()),
        }
    }

    /// Renews the lease until the hold ends.
    async fn keep_alive(&self) {
        self.with_entry(Entry::free_timer);
        loop {
            let changed = self.changed.notified();
            let (renew_at, release_at) = {
                let state = self.lock_state();
                (state.renew_at(), state.release_at())
            };
            let Some(renew_at) = renew_at else {
                return self.end(End::Expired);
            };
            if release_at.is_some_and(|release_at| self.now() >= release_at) {
                // Boxed: the future is large, and rarely used.
                return Box::pin(self.release_lingering()).await;
            }
            let wake_at = release_at.map_or(renew_at, |release_at| renew_at.min(release_at));
            // A renewal that was requested while another was in flight is due at once.
            if !self.is_renewal_due() {
                tokio::select! {
                    biased;
                    closed = self.poll_entry(Entry::poll_closed) => {
                        if let Some(reason) = closed {
                            self.end(End::Lost(reason));
                        }
                        return;
                    }
                    () = changed => {}
                    () = self.sleep_until(wake_at) => {}
                }
            }
            if self.is_renewal_due() && !self.renew().await {
                return;
            }
        }
    }

    /// Sends one renewal and waits for its reply until the lease expires. Returns whether the slot
    /// is still held.
    async fn renew(&self) -> bool {
        let slot = &self.config.slot;
        let sent_at = self.now();
        let Some((grant, expires_at, requested)) = self.start_renewal(sent_at) else {
            self.end(End::Expired);
            return false;
        };
        self.with_entry(|entry| entry.start_renewal(slot, grant.token, requested, sent_at));
        let renewed = loop {
            let changed = self.changed.notified();
            if self.lock_state().expires_at().is_none() {
                self.note_unreachable(sent_at);
                self.end(End::Expired);
                return false;
            }
            tokio::select! {
                biased;
                renewed = self.poll_entry(|entry, cx| entry.poll_renewal(cx, requested, &grant)) => {
                    match renewed {
                        Some(renewed) => break renewed,
                        None => return false,
                    }
                }
                () = changed => {}
                () = self.sleep_until(expires_at) => {}
            }
        };
        match renewed {
            Ok(Some(lease)) => {
                let (had, margin) = (
                    expires_at.duration_since(sent_at),
                    expires_at.duration_since(self.now()),
                );
                telemetry::record_renewal(&self.span(), slot.labels(), &grant.token, had, margin);
                self.extend(&mut self.lock_state(), sent_at, Grant { lease, ..grant });
            }
            Ok(None) => self.schedule_retry(),
            Err(error) => {
                self.end(End::Lost(error.lost_reason()));
                return false;
            }
        }
        self.changed.notify_waiters();
        true
    }

    /// Tells the engine that the server had not replied to the renewal that was sent at `sent_at`
    /// when the lease expired.
    fn note_unreachable(&self, sent_at: Instant) {
        let lost = self.lock_state().lost();
        if lost.is_some_and(|lost| lost.reason == LostReason::Unreachable) {
            self.config
                .engine
                .note_unreachable(&self.config.slot, sent_at);
        }
    }

    /// Returns whether a renewal is due or was requested. Also true if the slot is not held.
    fn is_renewal_due(&self) -> bool {
        let now = self.now();
        let state = self.lock_state();
        match state.phase {
            Phase::Held { deadlines, .. } | Phase::Lingering { deadlines, .. } => {
                let is_requested = state.renewals_requested > state.renewals_started;
                is_requested || now >= deadlines.renew_at
            }
            _ => true,
        }
    }

    /// Marks a renewal that is sent at `sent_at` as in flight. Returns the grant, its expiry, and
    /// the lease to request.
    fn start_renewal(&self, sent_at: Instant) -> Option<(Grant, Instant, Option<LeaseSeconds>)> {
        let mut state = self.lock_state();
        state.renewals_started = state.renewals_requested;
        state.renewals_sent += 1;
        let LeaseConfig { slot, timing, .. } = &*self.config;
        let requested = state.bounds.lease(slot.lease, sent_at, timing.clock_drift);
        match &mut state.phase {
            Phase::Held {
                grant,
                deadlines,
                renewing,
            }
            | Phase::Lingering {
                grant,
                deadlines,
                renewing,
            } => {
                *renewing = true;
                Some((*grant, deadlines.expires_at, requested))
            }
            _ => None,
        }
    }

    /// Marks a verified grant as held. The hold began after `started_at`, and the lease was renewed
    /// after `renewed_at`. Telemetry runs code of the user, so it is emitted outside
    /// of the lock, and before there is a hold that its owner could end.
    fn activate(&self, started_at: Instant, renewed_at: Instant, grant: Grant) {
        // The renewal itself may have taken longer than the lease: then the slot was never held.
        let received_at = self.now();
        if received_at >= self.config.deadlines(renewed_at, &grant, 0).expires_at {
            return;
        }
        let telemetry = self.state.lock().telemetry.take();
        let telemetry = telemetry.map(|telemetry| {
            telemetry.record_grant(self.config.slot.labels(), &grant.token, self.permits)
        });
        let bounds = self
            .config
            .hold_limits
            .start(started_at, received_at, grant.lease);
        if let Some(end) = bounds.latest_end() {
            self.with_entry(|entry| entry.set_latest_end(end));
        }
        let mut state = self.lock_state();
        state.bounds = bounds;
        self.extend(&mut state, renewed_at, grant);
        // The owner may have given up in the meantime.
        let ended = telemetry.and_then(|telemetry| state.restore_telemetry(telemetry));
        drop(state);
        self.changed.notify_waiters();
        drop(ended);
    }

    /// Sets the deadlines of a grant or renewal whose request was sent at `sent_at`. A lease that
    /// has ended in the meantime stays ended.
    fn extend(&self, state: &mut State, sent_at: Instant, grant: Grant) {
        let deadlines = self.config.deadlines(sent_at, &grant, state.renewals_sent);
        let deadlines = state.bounds.cap(deadlines);
        let renewing = false;
        state.phase = match state.phase {
            Phase::Unverified(_) | Phase::Held { .. } => Phase::Held {
                grant,
                deadlines,
                renewing,
            },
            Phase::Lingering { .. } => Phase::Lingering {
                grant,
                deadlines,
                renewing,
            },
            _ => return,
        };
        state.renewals_completed = state.renewals_started;
    }

    /// Schedules another renewal after one for which the server gave no more time. The expiry
    /// stays, and requested renewals are still pending.
    fn schedule_retry(&self) {
        let now = self.now();
        let mut state = self.lock_state();
        if let Phase::Held {
            deadlines,
            renewing,
            ..
        }
        | Phase::Lingering {
            deadlines,
            renewing,
            ..
        } = &mut state.phase
        {
            let delay = deadlines.expires_at.duration_since(now) / RETRY_DIVISOR;
            deadlines.renew_at = now.saturating_add(delay.max(Duration::from_millis(1)));
            *renewing = false;
        }
    }

    /// Calls `f` with the entry, unless the owner has taken it.
    fn with_entry(&self, f: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entry.lock().as_mut() {
            f(entry);
        }
    }

    /// Polls the entry until `poll` is ready. `None` if the owner has taken the entry; that alone
    /// wakes no task.
    async fn poll_entry<T>(
        &self,
        mut poll: impl FnMut(&mut Entry, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        poll_fn(|cx| match self.entry.lock().as_mut() {
            Some(entry) => poll(entry, cx).map(Some),
            None => Poll::Ready(None),
        })
        .await
    }

    /// Polls the entry until `poll` is ready or the lease has ended (`None`).
    async fn poll_until_ended<T>(
        &self,
        mut poll: impl FnMut(&mut Entry, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            tokio::select! {
                biased;
                outcome = self.poll_entry(&mut poll) => return outcome,
                () = changed => {}
            }
        }
    }
}
