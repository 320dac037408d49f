//! The leases of a session, each with a task that renews it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::Limits;
use super::error::CallError;
use super::keys::{EntryName, QueueName};
use super::lease::{Renewal, SessionLease};
use super::session_state::{RETRY_PAUSE, SessionState};
use crate::telemetry;
use crate::wire::Kind;

/// The time after which a lease without entries is revoked.
const UNUSED_LEASE: Duration = Duration::from_mins(1);

/// The largest part of a renewal interval by which a renewal is sent early.
const JITTER: f64 = 0.1;

/// The time for the release of all slots when the client is dropped.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// The leases that take entries, and those that still have some.
pub(super) struct Leases {
    state: Rc<SessionState>,
    all: RefCell<Vec<Rc<SessionLease>>>,
    /// Locked while a lease is requested, so that concurrent entries share one.
    granting: Mutex<()>,
    /// The client is closed, so that no entry joins any more.
    is_closed: Cell<bool>,
}

impl Leases {
    pub(super) fn new(state: Rc<SessionState>) -> Rc<Self> {
        Rc::new(Self {
            state,
            all: RefCell::default(),
            granting: Mutex::new(()),
            is_closed: Cell::new(false),
        })
    }

    /// Returns a lease of `ttl` with room for another entry of so many `permits`. `None` if the
    /// client is closed.
    pub(super) async fn lease(
        self: &Rc<Self>,
        ttl: Duration,
        permits: u32,
    ) -> Result<Option<Rc<SessionLease>>, CallError> {
        loop {
            let lease = if let Some(lease) = self.existing_lease(ttl, permits) {
                lease
            } else {
                let _granting = self.granting.lock().await;
                if self.is_closed.get() {
                    return Ok(None);
                }
                match self.existing_lease(ttl, permits) {
                    Some(lease) => lease,
                    None => self.grant_lease(ttl).await?,
                }
            };
            if self.is_closed.get() {
                // It may have been granted meanwhile.
                self.state.spawn(self.clone().end_all());
                return Ok(None);
            }
            // A slot on a lease that is over for this client could not be held.
            if self.is_current(&lease) {
                return Ok(Some(lease));
            }
            lease.request_renewal();
            sleep(RETRY_PAUSE).await;
        }
    }

    fn existing_lease(&self, ttl: Duration, permits: u32) -> Option<Rc<SessionLease>> {
        let leases = self.all.borrow();
        let mut leases = leases.iter();
        leases
            .find(|lease| lease.requested == ttl && lease.has_room(permits))
            .cloned()
    }

    async fn grant_lease(self: &Rc<Self>, ttl: Duration) -> Result<Rc<SessionLease>, CallError> {
        let limits = self.state.request_limits();
        let lease =
            SessionLease::grant(&self.state.cluster, &self.state.clock, ttl, limits).await?;
        let lease = Rc::new(lease);
        self.all.borrow_mut().push(lease.clone());
        self.state.spawn(self.clone().keep_alive(lease.clone()));
        Ok(lease)
    }

    /// Ends all leases for good, and with them the entries that are being released. No entry joins
    /// from here on.
    pub(super) async fn end_all(self: Rc<Self>) {
        self.is_closed.set(true);
        let leases = self.all.borrow().clone();
        // All end for this client before the first request.
        for lease in &leases {
            lease.end();
        }
        let mut revocations = JoinSet::new();
        for lease in leases {
            let leases = self.clone();
            revocations.spawn_local(async move {
                let limits = leases.state.limits(SHUTDOWN_LIMIT);
                // It stays in the list for another call if the cluster does not answer.
                if lease.revoke(&leases.state.cluster, limits).await.is_ok() {
                    leases.remove(&lease);
                }
            });
        }
        while revocations.join_next().await.is_some() {}
    }

    /// Returns whether the lease lasts by the clock of this client.
    pub(super) fn is_current(&self, lease: &SessionLease) -> bool {
        self.state.clock.now() < lease.expires_at(self.state.clock_drift)
    }

    /// Renews a lease until it ends.
    async fn keep_alive(self: Rc<Self>, lease: Rc<SessionLease>) {
        let mut unused_since = Instant::now();
        let mut renewals = 0_u64;
        let mut failed = false;
        loop {
            let interval = lease.deadline.ttl.as_duration() / 3;
            let delay = if failed {
                RETRY_PAUSE
            } else {
                interval.mul_f64(1.0 - JITTER * self.state.jitter(lease.id(), renewals))
            };
            let due = if lease.is_unused() {
                (Instant::now() + delay).min(unused_since + UNUSED_LEASE)
            } else {
                Instant::now() + delay
            };
            let is_over =
                || lease.deadline.has_ended() || (lease.is_retired() && lease.is_unused());
            while Instant::now() < due && !lease.take_request() && !is_over() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = lease.wait_for_change() => {}
                }
            }
            if lease.deadline.has_ended() {
                return;
            }
            if !lease.is_unused() {
                unused_since = Instant::now();
            } else if lease.is_retired() || unused_since.elapsed() >= UNUSED_LEASE {
                // No entry can be added meanwhile: the lease has left the list.
                self.remove(&lease);
                lease.deadline.end();
                drop(
                    lease
                        .revoke(&self.state.cluster, self.state.request_limits())
                        .await,
                );
                return;
            }
            renewals += 1;
            let (probe, limits) = (self.probe(), self.renewal_limits(&lease));
            match lease
                .renew(&self.state.cluster, &self.state.clock, &probe, limits)
                .await
            {
                Ok(Renewal::Renewed(appeared)) => {
                    failed = false;
                    for entry in appeared {
                        self.spawn_delete(&lease, entry, None);
                    }
                }
                Ok(Renewal::Ended) => return self.end(&lease),
                Ok(Renewal::TermChanged) => failed = true,
                Err(error) => {
                    telemetry::session_renewal_failed(&error);
                    failed = true;
                }
            }
        }
    }

    /// Returns the limits of a renewal. An attempt takes so short that all members can be tried
    /// while the lease lasts.
    fn renewal_limits(&self, lease: &SessionLease) -> Limits {
        let expires_at = lease.expires_at(self.state.clock_drift);
        let left = expires_at.duration_since(self.state.clock.now());
        let members = u32::try_from(self.state.cluster.members().len()).unwrap_or(u32::MAX);
        let max_attempt = left / (members + 1);
        let max_attempt = max_attempt.clamp(Duration::from_millis(200), Duration::from_secs(1));
        Limits::new(left.max(max_attempt), max_attempt)
    }

    /// Removes a lease that has ended.
    fn remove(&self, lease: &Rc<SessionLease>) {
        self.all
            .borrow_mut()
            .retain(|known| !Rc::ptr_eq(known, lease));
    }

    /// Returns a queue whose keys a lease without entries reads.
    fn probe(&self) -> QueueName {
        self.state.layout.queue(Kind::Lock, "")
    }

    /// Records that the cluster knows no such lease any more.
    fn end(&self, lease: &Rc<SessionLease>) {
        self.remove(lease);
        lease.end();
    }

    /// Deletes an entry as [`delete`](Self::delete) does, without a caller that waits.
    pub(super) fn spawn_delete(
        self: &Rc<Self>,
        lease: &Rc<SessionLease>,
        entry: EntryName,
        revision: Option<i64>,
    ) {
        let (leases, lease) = (self.clone(), lease.clone());
        self.state
            .spawn(async move { leases.delete(&lease, &entry, revision).await });
    }

    /// Deletes an entry; tries until the cluster answers or the lease has ended. If the cluster
    /// refuses it, for example because the user has lost a permission, then the entry ends with its
    /// lease, which is kept only for the others on it.
    pub(super) async fn delete(
        &self,
        lease: &SessionLease,
        entry: &EntryName,
        revision: Option<i64>,
    ) {
        while let Err(error) = self.state.delete_entry(entry, revision).await
            && !lease.deadline.has_ended()
        {
            if error.is_final() {
                telemetry::warn_release_refused(&error);
                return lease.retire();
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}
