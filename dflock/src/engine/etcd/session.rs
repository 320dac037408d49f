//! The session of a client: its leases, its entries and its watches, on a separate thread.
//!
//! The thread does not wait for the executor of the user, so leases are renewed while that is
//! blocked, and slots are released when it has ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::pending;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{Instant as TokioInstant, sleep, timeout};

use super::cluster::{Cluster, Dialer, Limits};
use super::entry::{
    self, Demand, End, EntryHandle, EntryLease, EntrySession, EntrySpec, Held, Phase, Wait,
};
use super::error::{CallError, CallErrorKind};
use super::keys::{EntryId, Layout, QueueName};
use super::lease::{Abandoned, Renewal, SessionLease};
use super::queue::{Place, Queue, WaiterSpec};
use super::txn::{self, Basis, EntryValue, Join, Joined};
use super::watcher::{self, Watcher};
use crate::clock::{Clock, Instant};
use crate::engine::Backoff;
use crate::engine::dflockd::{AuthTokenFile, Connector, Reloadable, Tls};
use crate::telemetry;
use crate::wire::Kind;

/// A queue is read this often while an entry waits in it, because watches have lost deletions
/// (etcd#17529, #18089, #19179).
const REREAD_INTERVAL: Duration = Duration::from_secs(5);

/// The time after which a lease without entries is revoked.
const UNUSED_LEASE: Duration = Duration::from_mins(1);

/// The largest part of a renewal interval by which a renewal is sent early.
const JITTER: f64 = 0.1;

/// The longest sleep toward a time on the clock of the leases.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// The pause after a request that failed on all members.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The time for the response to a request to join after the wait is over, so that a slot that is
/// free is also granted to a wait that is shorter than a round trip.
const GRACE: Duration = Duration::from_secs(1);

/// The time for the release of all slots when the client is dropped.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// The options of a session.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) members: Vec<Arc<str>>,
    pub(crate) prefix: String,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) tls: Option<Tls>,
    /// The name and the password of a user, separated by a colon.
    pub(crate) user: Option<Reloadable<AuthTokenFile>>,
    /// The time for a response that is owed at once, on all members together.
    pub(crate) request_timeout: Duration,
    pub(crate) clock_drift: f64,
}

/// The user's side of a session. The thread ends with its last clone.
#[derive(Clone, Debug)]
pub(super) struct Session {
    commands: mpsc::UnboundedSender<Command>,
}

/// A task of the session.
type Task = Pin<Box<dyn Future<Output = ()>>>;

enum Command {
    Join(EntrySession, EntrySpec),
    Run(Box<dyn FnOnce(Rc<Core>) -> Task + Send>),
}

/// The state of the session, on its thread.
pub(super) struct Core {
    pub(super) cluster: Cluster,
    pub(super) layout: Layout,
    clock: Clock,
    clock_drift: f64,
    pub(super) request_timeout: Duration,
    leases: RefCell<Vec<Rc<SessionLease>>>,
    /// Locked while a lease is requested, so that concurrent entries share one.
    granting: tokio::sync::Mutex<()>,
    /// The client is closed, so that no entry joins any more.
    is_closed: Cell<bool>,
    queues: RefCell<HashMap<QueueName, Rc<Queue>>>,
    pub(super) watcher: Watcher,
    ids: RandomState,
    next_id: Cell<u64>,
    /// The result of the check that all members belong to one cluster.
    identified: tokio::sync::OnceCell<()>,
    host: String,
    program: String,
}

impl Session {
    /// Starts the thread. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The error of the operating system if there can be no other thread.
    pub(super) fn start(config: Config) -> io::Result<Self> {
        let (commands, received) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("dflock-etcd".to_owned())
            .spawn(move || {
                let core = Rc::new(Core::new(config));
                let local = LocalSet::new();
                local.block_on(&runtime, run(core, received));
            })?;
        Ok(Self { commands })
    }

    /// Returns whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Makes an entry. The session serves it until its handle is dropped.
    pub(super) fn join(&self, spec: EntrySpec) -> EntryHandle {
        let (handle, session) = entry::entry();
        // If the session has ended, the entry ends as it is dropped.
        drop(self.commands.send(Command::Join(session, spec)));
        handle
    }

    /// Runs `request` on the thread of the session. Returns `None` if the session has ended.
    pub(super) async fn run<T, F>(
        &self,
        request: impl FnOnce(Rc<Core>) -> F + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (mut reply, replied) = oneshot::channel();
        let task = move |core| -> Task {
            Box::pin(async move {
                tokio::select! {
                    response = request(core) => drop(reply.send(response)),
                    // The caller was cancelled.
                    () = reply.closed() => {}
                }
            })
        };
        self.commands.send(Command::Run(Box::new(task))).ok()?;
        replied.await.ok()
    }
}

/// Serves the commands until all clones of the session are dropped.
async fn run(core: Rc<Core>, mut commands: mpsc::UnboundedReceiver<Command>) {
    tokio::task::spawn_local(watcher::run(core.clone()));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Join(entry, spec) => {
                tokio::task::spawn_local(core.clone().serve(Rc::new(entry), spec));
            }
            Command::Run(request) => {
                tokio::task::spawn_local(request(core.clone()));
            }
        }
    }
    core.end_leases().await;
}

impl Core {
    fn new(config: Config) -> Self {
        let ids = RandomState::new();
        // Clients start at different members, so that all members have work.
        #[expect(clippy::cast_possible_truncation, reason = "any index will do")]
        let start = ids.hash_one(0_u8) as usize;
        let clock = config.connector.clock();
        let dialer = Dialer {
            connector: config.connector,
            tls: config.tls,
        };
        let cluster = Cluster::new(config.members, dialer, config.user, start);
        Self {
            cluster,
            layout: Layout::new(&config.prefix),
            clock,
            clock_drift: config.clock_drift,
            request_timeout: config.request_timeout,
            leases: RefCell::default(),
            granting: tokio::sync::Mutex::new(()),
            is_closed: Cell::new(false),
            queues: RefCell::default(),
            watcher: Watcher::default(),
            ids,
            next_id: Cell::new(0),
            identified: tokio::sync::OnceCell::new(),
            host: host(),
            program: program(),
        }
    }

    /// Returns the limits of a request that may take `total` on all members together.
    pub(super) fn limits(&self, total: Duration) -> Limits {
        // A fifth leaves time for the other members, of which there are rarely more than five.
        let attempt = (self.request_timeout / 5).min(total);
        Limits::new(total, attempt)
    }

    pub(super) fn request_limits(&self) -> Limits {
        self.limits(self.request_timeout)
    }

    /// Returns the time for a response that is owed at once, if the wait ends at `wait_end`.
    fn time_left(&self, wait_end: Option<TokioInstant>) -> Duration {
        let left = wait_end.map(|end| end.saturating_duration_since(TokioInstant::now()));
        let limit = left.map(|left| left.saturating_add(GRACE));
        limit.map_or(self.request_timeout, |limit| {
            limit.min(self.request_timeout)
        })
    }

    /// Sleeps until `end` on the clock of the leases, but may wake early: timers stand still while
    /// the machine is suspended, and that clock does not. Without an end it stays pending.
    async fn sleep_toward(&self, end: Option<Instant>) {
        match end {
            Some(end) => {
                let left = end.duration_since(self.clock.now());
                sleep(left.min(MAX_SLEEP)).await;
            }
            None => pending().await,
        }
    }

    fn unresponsive(&self, limit: Duration) -> CallError {
        CallError {
            kind: CallErrorKind::Unresponsive(limit),
            member: self.cluster.current_member(),
            uncertain: false,
        }
    }

    /// Returns pauses, each at most `max_bound`.
    pub(super) fn backoff(&self, max_bound: Duration) -> Backoff {
        Backoff::new(self.ids.hash_one(max_bound), max_bound)
    }

    fn next_id(&self) -> EntryId {
        let counter = self.next_id.get();
        self.next_id.set(counter + 1);
        let mut hasher = self.ids.build_hasher();
        hasher.write_u64(counter);
        // A keyed hash of a counter: the same as random numbers, without a generator.
        EntryId(hasher.finish())
    }

    /// Checks once that more than half of the members belong to one cluster.
    pub(super) async fn identify(&self, limit: Duration) -> Result<(), CallError> {
        // Callers wait for one check after another, but none longer than its limit.
        let limits = self.limits(limit);
        let identify = || async {
            if TokioInstant::now() >= limits.end {
                return Err(self.unresponsive(limit));
            }
            let versions = self.cluster.identify(limits).await?;
            let old = versions
                .iter()
                .find(|version| is_older(version, (3, 5, 13)));
            if let Some(version) = old {
                telemetry::warn_old_etcd(version);
            }
            Ok(())
        };
        self.identified.get_or_try_init(identify).await.map(drop)
    }

    /// Serves one entry until it has ended in the cluster.
    async fn serve(self: Rc<Self>, entry: Rc<EntrySession>, spec: EntrySpec) {
        let end = match self.clone().hold(&entry, &spec).await {
            Ok(end) => end,
            Err(error) => End::Failed(error),
        };
        entry.set_phase(Phase::Ended(end));
    }

    /// Joins, waits, holds, and leaves.
    async fn hold(
        self: Rc<Self>,
        entry: &Rc<EntrySession>,
        spec: &EntrySpec,
    ) -> Result<End, CallError> {
        let queue = self.layout.queue(spec.kind, &spec.key);
        let wait_end = match spec.wait {
            Wait::AtMost(wait) => TokioInstant::now().checked_add(wait),
            Wait::Never => Some(TokioInstant::now() + self.request_timeout),
            Wait::Forever => None,
        };
        self.identify(self.time_left(wait_end)).await?;
        if spec.wait == Wait::Never
            && let Some(end) = Box::pin(self.peek(&queue, spec)).await?
        {
            return Ok(end);
        }
        loop {
            if entry.is_given_up() {
                return Ok(End::Released);
            }
            let limit = self.time_left(wait_end);
            let lease = timeout(limit, self.lease(spec.ttl, spec.permits)).await;
            let Some(lease) = lease.unwrap_or_else(|_| Err(self.unresponsive(limit)))? else {
                return Ok(End::SessionEnded);
            };
            let place = Placed {
                core: self.clone(),
                lease,
                queue: queue.clone(),
                id: self.next_id(),
                permits: spec.permits,
                repeated: Cell::new(false),
            };
            let lease = place.lease.insert(place.id, entry.clone(), place.permits);
            let ended = Box::pin(place.serve(entry, &lease, spec, wait_end)).await;
            place.lease.remove(place.id);
            if place.repeated.get() {
                // A request that is still under way would make the entry again.
                place.lease.abandon(place.id, place.abandoned());
            }
            match ended? {
                Ended::Final(end) => return Ok(end),
                // The place in the queue ended with its lease.
                Ended::PlaceLost if matches!(spec.wait, Wait::AtMost(_)) => {}
                Ended::PlaceLost => return Ok(End::Revoked),
            }
        }
    }

    /// Returns the end of an entry that may not wait, if the queue has no room.
    async fn peek(&self, queue: &QueueName, spec: &EntrySpec) -> Result<Option<End>, CallError> {
        let request = txn::peek(queue);
        let response = self.cluster.call(&request, self.request_limits()).await?;
        let Some((limit, length)) = txn::peeked(response.response) else {
            return Ok(None);
        };
        Ok(match limit {
            Some(theirs) if length > 0 && theirs != spec.limit => {
                Some(End::LimitMismatch { theirs })
            }
            _ if length + u64::from(spec.permits) > u64::from(spec.limit) => Some(End::TimedOut),
            _ => None,
        })
    }

    /// Returns a lease of `ttl` with room for another entry of so many `permits`. `None` if the
    /// client is closed.
    async fn lease(
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
                self.end_leases().await;
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
        let leases = self.leases.borrow();
        let mut leases = leases.iter();
        leases
            .find(|lease| lease.requested == ttl && lease.has_room(permits))
            .cloned()
    }

    async fn grant_lease(self: &Rc<Self>, ttl: Duration) -> Result<Rc<SessionLease>, CallError> {
        let limits = self.request_limits();
        let lease = SessionLease::grant(&self.cluster, &self.clock, ttl, limits).await?;
        let lease = Rc::new(lease);
        self.leases.borrow_mut().push(lease.clone());
        tokio::task::spawn_local(self.clone().keep(lease.clone()));
        Ok(lease)
    }

    /// Ends all leases for good, and with them the entries that are being released. No entry joins
    /// from here on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the requests to the cluster.
    pub(super) async fn end_leases(self: &Rc<Self>) {
        self.is_closed.set(true);
        let leases = self.leases.borrow().clone();
        // All end for this client before the first request.
        for lease in &leases {
            lease.end();
        }
        let mut revocations = tokio::task::JoinSet::new();
        for lease in leases {
            let core = self.clone();
            revocations.spawn_local(async move {
                let limits = core.limits(SHUTDOWN_LIMIT);
                // It stays in the list for another call if the cluster does not answer.
                if lease.revoke(&core.cluster, limits).await.is_ok() {
                    core.forget(&lease);
                }
            });
        }
        let revocations = DetachOnDrop(revocations);
        drop(timeout(SHUTDOWN_LIMIT, revocations.join_all()).await);
    }

    /// Returns whether the lease lasts by the clock of this client.
    fn is_current(&self, lease: &SessionLease) -> bool {
        self.clock.now() < lease.expires_at(self.clock_drift)
    }

    /// Renews a lease until it ends.
    async fn keep(self: Rc<Self>, lease: Rc<SessionLease>) {
        let mut unused_since = TokioInstant::now();
        let mut renewals = 0_u64;
        let mut failed = false;
        loop {
            let interval = lease.clock.ttl.as_duration() / 3;
            let delay = if failed {
                RETRY_PAUSE
            } else {
                interval.mul_f64(1.0 - JITTER * self.jitter(lease.id(), renewals))
            };
            let due = TokioInstant::now() + delay;
            let is_over = || lease.is_retired() && lease.is_unused();
            while TokioInstant::now() < due && !lease.take_request() && !is_over() {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = lease.changed() => {}
                }
            }
            if lease.clock.has_ended() {
                return;
            }
            if !lease.is_unused() {
                unused_since = TokioInstant::now();
            } else if lease.is_retired() || unused_since.elapsed() >= UNUSED_LEASE {
                // No entry can be added meanwhile: the lease has left the list.
                self.forget(&lease);
                lease.clock.end();
                drop(lease.revoke(&self.cluster, self.request_limits()).await);
                return;
            }
            renewals += 1;
            let (probe, limits) = (self.probe(), self.renewal_limits(&lease));
            match lease
                .renew(&self.cluster, &self.clock, &probe, limits)
                .await
            {
                Ok(Renewal::Renewed(appeared)) => {
                    failed = false;
                    for (id, abandoned) in appeared {
                        self.delete_later(&lease, id, abandoned);
                    }
                }
                Ok(Renewal::Ended) => {
                    self.forget(&lease);
                    lease.end();
                    return;
                }
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
        let expires_at = lease.expires_at(self.clock_drift);
        let left = expires_at.duration_since(self.clock.now());
        let members = u32::try_from(self.cluster.members().len()).unwrap_or(u32::MAX);
        let attempt = left / (members + 1);
        let attempt = attempt.clamp(Duration::from_millis(200), Duration::from_secs(1));
        Limits::new(left.max(attempt), attempt)
    }

    fn forget(&self, lease: &Rc<SessionLease>) {
        self.leases
            .borrow_mut()
            .retain(|known| !Rc::ptr_eq(known, lease));
    }

    /// A key for the reads of a lease without entries.
    fn probe(&self) -> QueueName {
        self.layout.queue(Kind::Lock, "")
    }

    #[expect(clippy::cast_precision_loss, reason = "any number from 0 to 1 will do")]
    fn jitter(&self, lease: i64, renewals: u64) -> f64 {
        self.ids.hash_one((lease, renewals)) as f64 / u64::MAX as f64
    }

    /// Deletes an entry that was made by a request that had been given up.
    fn delete_later(self: &Rc<Self>, lease: &Rc<SessionLease>, id: EntryId, abandoned: Abandoned) {
        let (core, lease) = (self.clone(), lease.clone());
        tokio::task::spawn_local(async move {
            let request = DeleteRequest {
                queue: &abandoned.queue,
                id,
                permits: abandoned.permits,
                revision: None,
            };
            core.delete(&lease, request).await;
        });
    }

    /// Deletes an entry once. Returns whether it was there. A response to the second attempt counts
    /// as one that deleted it: the first may have done so, or another client before both.
    async fn delete_once(&self, request: &DeleteRequest<'_>) -> Result<bool, CallError> {
        let DeleteRequest { queue, id, .. } = *request;
        let request = txn::leave(queue, id, request.permits, request.revision);
        let left = self.cluster.call(&request, self.request_limits()).await?;
        Ok(left.response.succeeded || left.repeated)
    }

    /// Deletes an entry; tries until the cluster answers or the lease has ended. If the cluster
    /// refuses it, for example because the user has lost a permission, then the entry ends with its
    /// lease, which is kept only for the others on it.
    async fn delete(&self, lease: &SessionLease, request: DeleteRequest<'_>) {
        while let Err(error) = self.delete_once(&request).await
            && !lease.clock.has_ended()
        {
            if error.is_final() {
                telemetry::warn_release_refused(&error);
                return lease.retire();
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Returns the queue of `name`, whose task runs as long as an entry waits in it.
    fn queue(self: &Rc<Self>, name: &QueueName) -> Rc<Queue> {
        let mut queues = self.queues.borrow_mut();
        let queue = queues.entry(name.clone()).or_insert_with(|| {
            let queue = Queue::new(name.clone());
            tokio::task::spawn_local(self.clone().attend(queue.clone()));
            queue
        });
        queue.clone()
    }

    /// Watches and reads a queue until no entry waits in it.
    async fn attend(self: Rc<Self>, queue: Rc<Queue>) {
        let watch = self.watcher.add(queue.clone());
        let mut reread_at = TokioInstant::now() + REREAD_INTERVAL;
        while !queue.is_empty() {
            let Some(up_to) = queue.read_up_to() else {
                tokio::select! {
                    () = queue.changed() => {}
                    () = tokio::time::sleep_until(reread_at) => queue.mark_stale(),
                }
                continue;
            };
            let was_stale = queue.start_read();
            let request = txn::entries(&queue.name, up_to);
            if let Ok(read) = self.cluster.call(&request, self.request_limits()).await {
                let read = read.response;
                let revision = read.header.map_or(0, |header| header.revision);
                if !queue.apply_read(&read.kvs, up_to, revision) {
                    queue.mark_stale();
                } else if was_stale {
                    reread_at = TokioInstant::now() + REREAD_INTERVAL;
                }
            } else {
                queue.mark_stale();
                sleep(RETRY_PAUSE).await;
            }
        }
        self.watcher.remove(watch);
        self.queues.borrow_mut().remove(&queue.name);
    }

    fn value(&self, spec: &EntrySpec) -> EntryValue {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        EntryValue {
            limit: spec.limit,
            host: self.host.clone(),
            pid: std::process::id(),
            since: since.map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX)),
            name: self.program.clone(),
        }
    }
}

/// An entry to delete; if it was made at `revision`, then only this one.
struct DeleteRequest<'a> {
    queue: &'a QueueName,
    id: EntryId,
    permits: u32,
    revision: Option<i64>,
}

/// One place in a queue, on one lease.
struct Placed {
    core: Rc<Core>,
    lease: Rc<SessionLease>,
    queue: QueueName,
    id: EntryId,
    permits: u32,
    /// An attempt to make the entry may be under way.
    repeated: Cell<bool>,
}

/// Tasks that continue when the future that waits for them is dropped.
struct DetachOnDrop(tokio::task::JoinSet<()>);

impl DetachOnDrop {
    async fn join_all(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

impl Drop for DetachOnDrop {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

/// The end of a place.
enum Ended {
    Final(End),
    /// The place was lost before there was a slot.
    PlaceLost,
}

impl Placed {
    async fn serve(
        &self,
        entry: &Rc<EntrySession>,
        lease: &Arc<EntryLease>,
        spec: &EntrySpec,
        wait_end: Option<TokioInstant>,
    ) -> Result<Ended, CallError> {
        let limits = self.core.limits(self.core.time_left(wait_end));
        let (revision, ahead) = match self.join(spec, limits).await? {
            JoinOutcome::Made { revision, ahead } => (revision, ahead),
            JoinOutcome::LeaseEnded => return Ok(Ended::PlaceLost),
            JoinOutcome::Refused(end) => return Ok(Ended::Final(end)),
        };
        self.lease.set_made(self.id, &self.queue, revision);
        let waiter = WaiterSpec {
            revision,
            permits: self.permits.into(),
            limit: spec.limit.into(),
        };
        let outcome = match ahead {
            Some(ahead) if waiter.missing(ahead) == 0 => Ok(()),
            Some(_) if spec.wait == Wait::Never => Err(Leave::TimedOut),
            _ => {
                self.wait(entry, lease, (waiter, ahead), (spec.wait, wait_end))
                    .await
            }
        };
        let left = match outcome {
            Ok(()) => self.held(entry, lease, revision, wait_end).await,
            Err(Leave::Lost) => {
                // The rest of the entry is deleted, and the owner does not wait for the reply.
                self.core
                    .delete_later(&self.lease, self.id, self.abandoned());
                return Ok(Ended::PlaceLost);
            }
            Err(reason) => reason,
        };
        let end = match left {
            Leave::Lost => End::Revoked,
            Leave::TimedOut => End::TimedOut,
            Leave::Overdue => End::Overdue,
            Leave::GivenUp => match self.core.delete_once(&self.delete_request(revision)).await {
                Ok(true) => return Ok(Ended::Final(End::Released)),
                Ok(false) => return Ok(Ended::Final(End::Revoked)),
                Err(error) => End::Failed(error),
            },
        };
        // The owner does not wait for the reply.
        entry.set_phase(Phase::Ended(end.clone()));
        self.leave(revision).await;
        Ok(Ended::Final(end))
    }

    /// Joins the queue.
    async fn join(&self, spec: &EntrySpec, limits: Limits) -> Result<JoinOutcome, CallError> {
        let value = self.core.value(spec);
        let join = Join {
            queue: &self.queue,
            id: self.id,
            permits: self.permits,
            lease: self.lease.id(),
            value: &value,
        };
        let mut basis = Basis::first(self.permits);
        loop {
            let sent = self.core.cluster.call(&join.request(&basis), limits).await;
            let joined = sent.and_then(|answered| {
                self.repeated.set(self.repeated.get() || answered.repeated);
                match join.result(answered.response) {
                    Joined::Malformed => Err(self.core.cluster.malformed("join")),
                    joined => Ok(joined),
                }
            });
            let joined = match joined {
                Ok(joined) => joined,
                Err(error) if error.is_lease_not_found() => {
                    self.core.forget(&self.lease);
                    self.lease.end();
                    return Ok(JoinOutcome::LeaseEnded);
                }
                Err(error) => {
                    if error.uncertain || self.repeated.get() {
                        self.repeated.set(true);
                        self.core
                            .delete_later(&self.lease, self.id, self.abandoned());
                    }
                    return Err(error);
                }
            };
            return Ok(match joined {
                Joined::Made { revision, ahead } => JoinOutcome::Made {
                    revision,
                    ahead: Some(ahead),
                },
                Joined::Exists { revision } => JoinOutcome::Made {
                    revision,
                    ahead: None,
                },
                Joined::Retry(next) => {
                    basis = next;
                    continue;
                }
                Joined::LimitMismatch { theirs } => {
                    JoinOutcome::Refused(End::LimitMismatch { theirs })
                }
                Joined::ForeignValue { key } => {
                    let key = String::from_utf8_lossy(&key).into_owned();
                    JoinOutcome::Refused(End::ForeignValue(key))
                }
                Joined::Malformed => unreachable!("it was made an error"),
            });
        }
    }

    /// Waits until the entry is granted.
    async fn wait(
        &self,
        entry: &Rc<EntrySession>,
        lease: &EntryLease,
        (spec, ahead): (WaiterSpec, Option<u64>),
        wait: (Wait, Option<TokioInstant>),
    ) -> Result<(), Leave> {
        let queue = self.core.queue(&self.queue);
        queue.insert(self.id, entry.clone(), spec, ahead);
        let waited = self.wait_in(&queue, entry, lease, wait).await;
        queue.remove(self.id);
        waited
    }

    async fn wait_in(
        &self,
        queue: &Queue,
        entry: &EntrySession,
        lease: &EntryLease,
        (wait, wait_end): (Wait, Option<TokioInstant>),
    ) -> Result<(), Leave> {
        loop {
            if entry.take_demand() == Demand::GiveUp {
                return Err(Leave::GivenUp);
            }
            if lease.has_ended() {
                return Err(Leave::Lost);
            }
            match queue.place(self.id) {
                Place::Granted => return Ok(()),
                Place::Gone => return Err(Leave::Lost),
                Place::Unknown => {}
                Place::Behind(_) if wait == Wait::Never => return Err(Leave::TimedOut),
                Place::Behind(position) => entry.set_phase(Phase::Queued { position }),
            }
            tokio::select! {
                () = entry.notified() => {}
                () = sleep_until(wait_end) => return Err(Leave::TimedOut),
            }
        }
    }

    /// Holds the slot until the owner gives it up or it is lost.
    async fn held(
        &self,
        entry: &EntrySession,
        lease: &Arc<EntryLease>,
        revision: i64,
        wait_end: Option<TokioInstant>,
    ) -> Leave {
        let mut is_announced = false;
        loop {
            match entry.take_demand() {
                Demand::GiveUp => return Leave::GivenUp,
                Demand::Renew => self.lease.request_renewal(),
                Demand::Hold => {}
            }
            if lease.has_ended() {
                return Leave::Lost;
            }
            let latest_end = entry.latest_end();
            if latest_end.is_some_and(|end| self.core.clock.now() >= end) {
                return Leave::Overdue;
            }
            if is_announced {
                tokio::select! {
                    () = entry.notified() => {}
                    () = self.core.sleep_toward(latest_end) => {}
                }
            } else if self.core.is_current(&self.lease) {
                is_announced = true;
                entry.set_phase(Phase::Held(Held {
                    token: entry::token(revision, self.id),
                    lease: lease.clone(),
                }));
            } else {
                // A lease that is over for this client holds nothing until it is renewed.
                self.lease.request_renewal();
                tokio::select! {
                    () = entry.notified() => {}
                    () = sleep(RETRY_PAUSE) => {}
                    () = sleep_until(wait_end) => return Leave::TimedOut,
                }
            }
        }
    }

    /// Deletes the entry, if it is there.
    async fn leave(&self, revision: i64) {
        self.core
            .delete(&self.lease, self.delete_request(revision))
            .await;
    }

    fn delete_request(&self, revision: i64) -> DeleteRequest<'_> {
        DeleteRequest {
            queue: &self.queue,
            id: self.id,
            permits: self.permits,
            revision: Some(revision),
        }
    }

    fn abandoned(&self) -> Abandoned {
        Abandoned {
            queue: self.queue.clone(),
            permits: self.permits,
        }
    }
}

enum JoinOutcome {
    /// The entry was made, behind so many permits if that is known.
    Made {
        revision: i64,
        ahead: Option<u64>,
    },
    LeaseEnded,
    Refused(End),
}

/// The reason for which an entry leaves the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    TimedOut,
    GivenUp,
    /// The slot was held until its latest end.
    Overdue,
    /// The entry was deleted, or its lease has ended.
    Lost,
}

async fn sleep_until(end: Option<TokioInstant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => pending().await,
    }
}

/// Returns the name of this machine, for the list of holders.
fn host() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    name
}

/// Returns the name of this program, for the list of holders.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Returns whether `version` is older than `than`. One that cannot be read is not.
fn is_older(version: &str, than: (u32, u32, u32)) -> bool {
    let numbers = version.split(['.', '-', '+']).take(3);
    let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
    matches!(numbers[..], [major, minor, patch] if (major, minor, patch) < than)
}
