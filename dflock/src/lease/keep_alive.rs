//! The keep-alive task: it waits for the grant, renews the lease, and watches the connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Lease;
use super::state::{End, Phase, State};
use crate::error::{Error, LostReason, Operation};
use crate::mutex::Mutex;
use crate::telemetry;
use crate::transport::{Connection, Fault, Instant};
use crate::wire::{Grant, LeaseSeconds, Reply, Request, Seconds, Status};

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

    /// Takes the lease back from the task of `connection`. Returns whether the task had not begun
    /// with it.
    pub(super) fn take_back(connection: &mut Connection) -> bool {
        connection.extension::<Self>().is_some_and(|keep_alive| {
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
    async fn run_queued(self) {
        let granted = match self.0.wait_for_grant().await {
            Ok(grant) => {
                let limit = self.0.config.timing.socket_timeout;
                self.0.verify_grant(grant, limit).await
            }
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
        let mut connection_guard = self.connection.lock();
        let assigned = match connection_guard.as_mut() {
            Some(connection) => self.assign_keep_alive(connection, renew_at, now),
            None => Err(Stopped),
        };
        drop(connection_guard);
        match assigned {
            Ok(Some(waker)) => waker.wake(),
            Ok(None) => {}
            Err(Stopped) => drop(Running(self.clone())),
        }
    }

    /// Assigns the lease to the keep-alive task of `connection`, and registers the task with the
    /// connection. Returns the waker of the task if there is something to do already.
    fn assign_keep_alive(
        self: &Arc<Self>,
        connection: &mut Connection,
        renew_at: Instant,
        now: Instant,
    ) -> Result<Option<Waker>, Stopped> {
        if connection.extension::<KeepAlive>().is_none() {
            connection.set_extension(KeepAlive::spawn());
        }
        let keep_alive = connection.extension::<KeepAlive>().ok_or(Stopped)?;
        let assigned = keep_alive.assign(self.clone())?;
        let Some(waker) = assigned else {
            return Ok(None);
        };
        let mut cx = Context::from_waker(&waker);
        let timer = tokio::time::Instant::now() + self.sleep_duration(renew_at, now);
        let is_ready = connection.poll_closed(&mut cx).is_ready()
            || connection.poll_timer(&mut cx, timer).is_ready();
        Ok(is_ready.then_some(waker))
    }

    /// Wakes the task to which the lease was left.
    pub(super) fn wake_keep_alive(&self) {
        let mut connection_guard = self.connection.lock();
        let waker = connection_guard.as_mut().and_then(|connection| {
            let keep_alive = connection.extension::<KeepAlive>()?;
            keep_alive.inbox.0.lock().waker.clone()
        });
        drop(connection_guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Renews the slot that the server says it granted, and marks it as held if the server agrees
    /// within `limit`.
    pub(super) async fn verify_grant(&self, grant: Grant, limit: Duration) -> Result<(), Error> {
        let context = || self.config.context(Operation::Renew);
        let sent_at = self.now();
        if cfg!(dflock_mutant = "no_verified_grant") {
            self.activate(sent_at, grant);
            return Ok(());
        }
        self.send(&self.config.renew(grant.token));
        let reply = match timeout(limit, self.poll_until_ended(Connection::poll_reply)).await {
            Ok(Some(Ok(reply))) => reply,
            Ok(Some(Err(fault))) => return Err(fault.into_error(context())),
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
        };
        match reply {
            Reply::Renewed(renewal) if !renewal.is_of(&grant) => {
                return Err(Error::unexpected(context(), &reply));
            }
            Reply::Ok | Reply::Renewed(_) => match self.renewed_lease(&reply, grant.lease) {
                Some(lease) => self.activate(sent_at, Grant { lease, ..grant }),
                None => return Err(Error::LeaseExpired { context: context() }),
            },
            Reply::Refused(Status::Error | Status::LeaseExpired) => {
                return Err(Error::LeaseExpired { context: context() });
            }
            other => return Err(Error::unexpected(context(), &other)),
        }
        let is_held = self.lock_state().expires_at().is_some();
        if is_held {
            Ok(())
        } else {
            Err(Error::LeaseExpired { context: context() })
        }
    }

    /// Waits in the queue for as long as the wire can express. The grant is not verified.
    async fn wait_for_grant(&self) -> Result<Grant, Error> {
        let context = || self.config.context(Operation::Wait);
        let (key, kind) = (self.config.key.as_key(), self.config.kind);
        self.send(&Request::Wait {
            key,
            kind,
            wait: Seconds::MAX,
        });
        let reply = self.poll_until_ended(|connection, cx| {
            let reply = ready!(connection.poll_reply(cx));
            if let Ok(Reply::Granted(grant)) = &reply {
                // Under the lock of the connection, so that an owner that gives up now releases
                // this slot.
                self.state.lock().phase = Phase::Unverified(*grant);
            }
            Poll::Ready(reply)
        });
        match reply.await {
            Some(Ok(Reply::Granted(grant))) => Ok(grant),
            Some(Ok(other)) => Err(Error::unexpected(context(), &other)),
            Some(Err(fault)) => Err(fault.into_error(context())),
            None => Err(Error::Disconnected {
                context: context(),
                source: None,
            }),
        }
    }

    /// Renews the lease until the hold ends.
    async fn keep_alive(&self) {
        loop {
            let changed = self.changed.notified();
            let Some(renew_at) = self.lock_state().renew_at() else {
                return self.end(End::Expired);
            };
            // A renewal that was requested while another was in flight is due at once.
            if !self.is_renewal_due() {
                tokio::select! {
                    biased;
                    closed = self.poll_connection(Connection::poll_closed) => {
                        if closed.is_some() {
                            self.end(End::Lost(LostReason::Disconnected));
                        }
                        return;
                    }
                    () = changed => {}
                    () = self.sleep_until(renew_at) => {}
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
        let keeps_waiting = cfg!(dflock_mutant = "late_renew_unloses");
        let sent_at = self.now();
        let Some((grant, expires_at)) = self.start_renewal() else {
            self.end(End::Expired);
            return false;
        };
        self.send(&self.config.renew(grant.token));
        let reply = loop {
            let changed = self.changed.notified();
            if self.lock_state().expires_at().is_none() && !keeps_waiting {
                self.close_idle_if_unreachable(sent_at);
                self.end(End::Expired);
                return false;
            }
            tokio::select! {
                biased;
                reply = self.poll_connection(Connection::poll_reply) => match reply {
                    Some(reply) => break reply,
                    None => return false,
                },
                () = changed => {}
                () = self.sleep_until(expires_at), if !keeps_waiting => {}
            }
        };
        let reason = match reply {
            // The reply names the fence of another slot.
            Ok(Reply::Renewed(renewal)) if !renewal.is_of(&grant) => LostReason::Rejected,
            Ok(reply @ (Reply::Ok | Reply::Renewed(_))) => {
                match self.renewed_lease(&reply, grant.lease) {
                    Some(lease) => {
                        let (had, margin) =
                            (expires_at.since(sent_at), expires_at.since(self.now()));
                        telemetry::renewed(
                            &self.span(),
                            self.config.labels(),
                            &grant.token,
                            had,
                            margin,
                        );
                        self.extend(&mut self.lock_state(), sent_at, Grant { lease, ..grant });
                    }
                    None => self.schedule_retry(),
                }
                self.changed.notify_waiters();
                return true;
            }
            Ok(_) | Err(Fault::Garbage(_) | Fault::StatsTooLarge(_)) => LostReason::Rejected,
            Err(Fault::Closed | Fault::Io(_) | Fault::Silence(_)) => LostReason::Disconnected,
        };
        self.end(End::Lost(reason));
        false
    }

    /// Closes the idle connections to the server that were used last before a renewal that was sent
    /// at `sent_at` and had no reply until the lease expired: they may be dead as well.
    fn close_idle_if_unreachable(&self, sent_at: Instant) {
        let lost = self.lock_state().lost();
        if lost.is_some_and(|lost| lost.reason == LostReason::Unreachable) {
            self.config.idle.close_unused_since(sent_at);
        }
    }

    /// Returns whether a renewal is due or was requested. Also true if the slot is not held.
    fn is_renewal_due(&self) -> bool {
        let state = self.lock_state();
        match state.phase {
            Phase::Held { deadlines, .. } => {
                let is_requested = state.renewals_requested > state.renewals_started;
                is_requested || self.now() >= deadlines.renew_at
            }
            _ => true,
        }
    }

    /// Marks a renewal as in flight. Returns the grant and its expiry.
    fn start_renewal(&self) -> Option<(Grant, Instant)> {
        let mut state = self.lock_state();
        state.renewals_started = state.renewals_requested;
        state.renewals_sent += 1;
        match &mut state.phase {
            Phase::Held {
                grant,
                deadlines,
                renewing,
            } => {
                *renewing = true;
                Some((*grant, deadlines.expires_at))
            }
            _ => None,
        }
    }

    /// Returns the lease after a renewal. `None` if no time is left of it.
    fn renewed_lease(&self, reply: &Reply, last: LeaseSeconds) -> Option<LeaseSeconds> {
        match reply {
            Reply::Renewed(renewal) => LeaseSeconds::from_seconds(renewal.remaining),
            // A bare `ok` means the lease that was requested.
            _ => Some(self.config.lease.unwrap_or(last)),
        }
    }

    /// Marks a verified grant as held. Telemetry runs code of the user, so it is emitted outside
    /// of the lock, and before there is a hold that its owner could end.
    fn activate(&self, sent_at: Instant, grant: Grant) {
        // The renewal itself may have taken longer than the lease: then the slot was never held.
        if self.now() >= self.config.deadlines(sent_at, &grant, 0).expires_at {
            return;
        }
        let telemetry = self.state.lock().telemetry.take();
        let telemetry =
            telemetry.map(|telemetry| telemetry.granted(self.config.labels(), &grant.token));
        let mut state = self.lock_state();
        self.extend(&mut state, sent_at, grant);
        // The owner may have given up in the meantime.
        let ended = telemetry.and_then(|telemetry| state.restore_telemetry(telemetry));
        drop(state);
        self.changed.notify_waiters();
        drop(ended);
    }

    /// Sets the deadlines of a grant or renewal whose request was sent at `sent_at`. A lease that
    /// has ended in the meantime stays ended.
    fn extend(&self, state: &mut State, sent_at: Instant, grant: Grant) {
        let mutant = cfg!(dflock_mutant = "late_renew_unloses");
        let is_revived = mutant && matches!(state.phase, Phase::Lost(_));
        if is_revived || matches!(state.phase, Phase::Unverified(_) | Phase::Held { .. }) {
            let deadlines = self.config.deadlines(sent_at, &grant, state.renewals_sent);
            state.phase = Phase::Held {
                grant,
                deadlines,
                renewing: false,
            };
            state.renewals_completed = state.renewals_started;
        }
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
        } = &mut state.phase
        {
            let delay = deadlines.expires_at.since(now) / RETRY_DIVISOR;
            deadlines.renew_at = now.plus(delay.max(Duration::from_millis(1)).as_secs_f64());
            *renewing = false;
        }
    }

    fn send(&self, request: &Request<'_>) {
        if let Some(connection) = self.connection.lock().as_mut() {
            connection.send(request);
        }
    }

    /// Polls the connection until `poll` is ready. `None` if the owner has taken the connection;
    /// that alone wakes no task.
    async fn poll_connection<T>(
        &self,
        mut poll: impl FnMut(&mut Connection, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        poll_fn(|cx| match self.connection.lock().as_mut() {
            Some(connection) => poll(connection, cx).map(Some),
            None => Poll::Ready(None),
        })
        .await
    }

    /// Polls the connection until `poll` is ready or the lease has ended (`None`).
    async fn poll_until_ended<T>(
        &self,
        mut poll: impl FnMut(&mut Connection, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            tokio::select! {
                biased;
                outcome = self.poll_connection(&mut poll) => return outcome,
                () = changed => {}
            }
        }
    }
}
