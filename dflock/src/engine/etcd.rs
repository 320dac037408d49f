//! The engine on an etcd cluster: entries in queues, leases, and a session thread.
//!
//! A queue is a range of keys. An entry is held once its rank by create revision is below the limit.
//! The rank only falls, so "held" follows from committed state, and no grant is written that could
//! be lost.
//!
//! | file | content |
//! |---|---|
//! | `messages` | the messages of etcd's gRPC interface |
//! | `keys` | the names of entries in etcd |
//! | `txn` | the transactions of a queue |
//! | `connection` | one HTTP/2 connection |
//! | `cluster` | requests to the members in turn |
//! | `entry` | an entry, shared by its owner and the session |
//! | `session_state` | the state that all tasks of a session share |
//! | `lease`, `leases` | one lease; all leases with their keep-alive tasks |
//! | `queue`, `queues` | the entries of this client that wait in one queue; all queues with their tasks |
//! | `watcher` | the watches of the queues |
//! | `queue_entry` | one entry of an owner, on one lease: join, wait, hold, leave |
//! | `entry_task` | the task of an owner: entries until one has ended for good |
//! | `session` | the thread that runs all tasks |
//! | `listing` | the entries of all clients |
//! | `slot` | the owner's entry, behind the seam |

mod cluster;
mod connection;
mod entry;
mod entry_task;
mod error;
mod keys;
mod lease;
mod leases;
mod listing;
mod messages;
mod queue;
mod queue_entry;
mod queues;
mod session;
mod session_state;
mod slot;
#[cfg(test)]
mod tests;
mod txn;
mod watcher;

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use entry::EntryLease;
pub(crate) use session_state::Config;
pub(crate) use slot::{Entry, EntryError};

use super::{Backoff, EnqueueOutcome, Granted, ReleaseOutcome, ServerId, SlotSpec};
use crate::Holder;
use crate::clock::{Clock, Instant};
use crate::error::{ConfigError, Error, ErrorContext, Operation};
use crate::mutex::Mutex;
use crate::wire::{LeaseSeconds, Token};
use entry::{End, EntryHandle, EntrySpec, Phase, Wait};
use error::CallError;
use session::Session;
use session_state::SessionState;

/// The lease of a slot for which none is configured.
const DEFAULT_LEASE: Duration = Duration::from_secs(10);

/// The shortest lease that etcd grants with its default election timeout of 1 s (measured: a request
/// for 1 s is granted as 2 s).
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// The most permits of one acquire. One transaction makes them, and etcd allows 128 operations in it.
const MAX_PERMITS: u32 = 100;

/// Checks that so many `permits` can be requested.
pub(crate) fn validate_permits(permits: NonZeroU32) -> Result<(), ConfigError> {
    if permits.get() > MAX_PERMITS {
        return Err(ConfigError::TooManyPermits {
            permits: permits.get(),
            max: MAX_PERMITS,
        });
    }
    Ok(())
}

/// A cluster of etcd.
pub(crate) struct Etcd {
    config: Config,
    /// Its name in errors and telemetry: `etcd://` and the members.
    name: Arc<str>,
    clock: Clock,
    /// Started by the first request, and again if a task of it has panicked.
    session: Mutex<Option<Session>>,
    /// Hashes times to seeds of pauses.
    seeds: RandomState,
}

impl Etcd {
    pub(crate) fn new(config: Config) -> Self {
        let name = format!("etcd://{}", config.members.join(","));
        Self {
            clock: config.connector.clock(),
            config,
            name: name.into(),
            session: Mutex::default(),
            seeds: RandomState::new(),
        }
    }

    /// Returns the addresses of the members as they were configured.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<str>> {
        self.config.members.iter()
    }

    /// Returns the cluster as the server of any key.
    pub(crate) fn server(&self) -> ServerId {
        ServerId {
            index: 0,
            name: self.name.clone(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Waits in the queue for at most `wait`. An entry that is lost with its lease joins again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives up a slot that was granted in the meantime.
    pub(crate) async fn acquire(&self, slot: &SlotSpec, wait: Duration) -> Result<Granted, Error> {
        self.acquire_many(slot, NonZeroU32::MIN, wait).await
    }

    /// Waits in the queue for so many `permits`, which are made by one transaction, so that they
    /// have one place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives up the permits that were granted.
    pub(crate) async fn acquire_many(
        &self,
        slot: &SlotSpec,
        permits: NonZeroU32,
        wait: Duration,
    ) -> Result<Granted, Error> {
        let context = || slot.context(Operation::Acquire);
        let wait_mode = if wait.is_zero() {
            Wait::Never
        } else {
            Wait::AtMost(wait)
        };
        let handle = self.join(slot, permits, wait_mode, context)?;
        let held = poll_fn(|cx| {
            handle.poll_phase(cx, |phase| match phase {
                Phase::Held(held) => Some(Ok(held.clone())),
                Phase::Ended(end) => Some(Err(end.clone())),
                Phase::Joining | Phase::Queued { .. } => None,
            })
        });
        match held.await {
            Ok(held) => Ok(Entry::new(handle, permits).into_granted(&held, self.now())),
            Err(End::TimedOut) => Err(Error::Timeout {
                context: context(),
                waited: wait,
            }),
            Err(end) => Err(end.into_error(context(), slot)),
        }
    }

    /// Joins the queue, or takes a slot that is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives up a slot that was granted in the meantime.
    pub(crate) async fn enqueue(&self, slot: &SlotSpec) -> Result<EnqueueOutcome, Error> {
        let context = || slot.context(Operation::Enqueue);
        let handle = self.join(slot, NonZeroU32::MIN, Wait::Forever, context)?;
        let joined = poll_fn(|cx| {
            handle.poll_phase(cx, |phase| match phase {
                Phase::Held(held) => Some(Ok(Some(held.clone()))),
                Phase::Queued { .. } => Some(Ok(None)),
                Phase::Ended(end) => Some(Err(end.clone())),
                Phase::Joining => None,
            })
        });
        let joined = joined.await;
        let entry = Entry::new(handle, NonZeroU32::MIN);
        match joined {
            Ok(Some(held)) => Ok(EnqueueOutcome::Granted(
                entry.into_granted(&held, self.now()),
            )),
            Ok(None) => Ok(EnqueueOutcome::Queued(super::Entry::Etcd(Box::new(entry)))),
            Err(end) => Err(end.into_error(context(), slot)),
        }
    }

    /// Deletes the entry and waits for the reply. If the response to the first attempt was lost, an
    /// entry that another client had deleted before also counts as released.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the release.
    pub(crate) async fn release(
        &self,
        entry: Entry,
        slot: &SlotSpec,
    ) -> Result<ReleaseOutcome, Error> {
        match entry.release().await {
            End::Released => Ok(ReleaseOutcome::Released),
            end @ (End::Revoked | End::Overdue) => Ok(ReleaseOutcome::NotHeld(end.lost_reason())),
            end => Err(end.into_error(slot.context(Operation::Release), slot)),
        }
    }

    /// Ends all leases, so that the slots that were dropped are free. No slot is held.
    pub(crate) async fn end_leases(&self) {
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.end_leases().await;
        }
    }

    /// Returns pauses, each at most `max_bound`.
    pub(crate) fn backoff(&self, max_bound: Duration) -> Backoff {
        Backoff::new(self.seeds.hash_one(self.clock.now().as_nanos()), max_bound)
    }

    /// Sends a read to the cluster.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.request(
            None,
            Operation::Ping,
            |state| async move { state.ping().await },
        )
        .await
    }

    /// Returns the keys with their holders and waiters.
    #[cfg(feature = "stats")]
    pub(crate) async fn stats(&self) -> Result<crate::Stats, Error> {
        let listed = self.request(None, Operation::Stats, |state| async move {
            let entries = state.list().await?;
            Ok(listing::stats(&entries))
        });
        listed.await
    }

    /// Returns the holders of a key, in the order of their grants.
    pub(crate) async fn holders(&self, key: Arc<str>) -> Result<Vec<Holder>, Error> {
        let wanted = key.clone();
        let listed = self.request(Some(key), Operation::Holders, |state| async move {
            let entries = state.list_key(&wanted).await?;
            Ok(listing::holders(&entries))
        });
        listed.await
    }

    /// Deletes the entry of `token`. Returns whether it was there.
    pub(crate) async fn revoke(&self, key: Arc<str>, token: Token) -> Result<bool, Error> {
        let wanted = key.clone();
        let revoked = self.request(Some(key), Operation::Revoke, move |state| async move {
            state.revoke(&wanted, token).await
        });
        revoked.await
    }

    fn join(
        &self,
        slot: &SlotSpec,
        permits: NonZeroU32,
        wait: Wait,
        context: impl FnOnce() -> ErrorContext,
    ) -> Result<EntryHandle, Error> {
        let spec = EntrySpec {
            kind: slot.kind(),
            key: slot.key.as_shared().clone(),
            limit: slot.primitive.limit().get(),
            permits: permits.get(),
            ttl: slot.lease.map_or(DEFAULT_LEASE, LeaseSeconds::as_duration),
            wait,
        };
        Ok(self.session(context)?.join(spec))
    }

    /// Runs a request on the session.
    async fn request<T, F>(
        &self,
        key: Option<Arc<str>>,
        operation: Operation,
        request: impl FnOnce(std::rc::Rc<SessionState>) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CallError>> + 'static,
    {
        let context = ErrorContext {
            operation,
            key,
            server: self.name.clone(),
        };
        let session = self.session(|| context.clone())?;
        match session.run(request).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(error.into_error(context)),
            None => Err(Error::Disconnected {
                context,
                source: None,
            }),
        }
    }

    fn session(&self, context: impl FnOnce() -> ErrorContext) -> Result<Session, Error> {
        let mut session = self.session.lock();
        if let Some(session) = &*session
            && !session.has_ended()
        {
            return Ok(session.clone());
        }
        match Session::start(self.config.clone()) {
            Ok(started) => Ok(session.insert(started).clone()),
            Err(source) => Err(Error::Connect {
                context: context(),
                source,
            }),
        }
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("members", &self.config.members)
            .field("prefix", &self.config.prefix)
            .field("user", &self.config.user)
            .finish_non_exhaustive()
    }
}
