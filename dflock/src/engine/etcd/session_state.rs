//! The state that all tasks of a session share.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pin_project_lite::pin_project;
use tokio::sync::{Notify, OnceCell};
use tokio::task::spawn_local;
use tokio::time::timeout_at;

use super::cluster::{Cluster, Dialer, Limits};
use super::error::{CallError, CallErrorKind};
use super::keys::{EntryId, EntryName, Layout};
use super::txn::{self, EntryValue};
use crate::clock::Clock;
use crate::engine::Backoff;
use crate::engine::dflockd::{AuthTokenFile, Connector, Reloadable, Tls};
use crate::telemetry;

/// The pause after a request that failed on all members.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);

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

/// The cluster, the names of its keys, and the limits of the requests.
pub(super) struct SessionState {
    pub(super) cluster: Cluster,
    pub(super) layout: Layout,
    pub(super) clock: Clock,
    pub(super) clock_drift: f64,
    pub(super) request_timeout: Duration,
    hashes: RandomState,
    next_id: Cell<u64>,
    /// The result of the check that all members belong to one cluster.
    identified: OnceCell<()>,
    /// Notified when a task has panicked.
    panicked: Notify,
    host: String,
    program: String,
}

pin_project! {
    /// A task that notifies the session if it panics.
    ///
    /// Written by hand, because an async block would store `task` twice: 3 KiB for each slot.
    struct SessionTask<F> {
        #[pin]
        task: F,
        state: Rc<SessionState>,
    }

    impl<F> PinnedDrop for SessionTask<F> {
        fn drop(this: Pin<&mut Self>) {
            if thread::panicking() {
                this.state.panicked.notify_one();
            }
        }
    }
}

impl<F: Future<Output = ()>> Future for SessionTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().task.poll(cx)
    }
}

impl SessionState {
    pub(super) fn new(config: Config) -> Self {
        let hashes = RandomState::new();
        // Clients start at different members, so that all members have work.
        #[expect(clippy::cast_possible_truncation, reason = "any index will do")]
        let start = hashes.hash_one(0_u8) as usize;
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
            hashes,
            next_id: Cell::new(0),
            identified: OnceCell::new(),
            panicked: Notify::new(),
            host: host(),
            program: program(),
        }
    }

    /// Runs a task of the session.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let state = self.clone();
        spawn_local(SessionTask { task, state });
    }

    /// Completes when a task has panicked, in code of the user such as a clock, a connector or a
    /// subscriber of telemetry. What it served is served no longer, so the session has to end.
    pub(super) async fn wait_for_panic(&self) {
        self.panicked.notified().await;
    }

    /// Returns the limits of a request that may take `total` on all members together.
    pub(super) fn limits(&self, total: Duration) -> Limits {
        // A fifth leaves time for the other members, of which there are rarely more than five.
        let max_attempt = (self.request_timeout / 5).min(total);
        Limits::new(total, max_attempt)
    }

    pub(super) fn request_limits(&self) -> Limits {
        self.limits(self.request_timeout)
    }

    /// Returns the error of a request to the cluster that has no response within `limit`.
    pub(super) fn unresponsive_error(&self, limit: Duration) -> CallError {
        CallError {
            kind: CallErrorKind::Unresponsive(limit),
            member: self.cluster.current_member(),
            uncertain: false,
        }
    }

    /// Returns pauses, each at most `max_bound`.
    pub(super) fn backoff(&self, max_bound: Duration) -> Backoff {
        Backoff::new(self.hashes.hash_one(max_bound), max_bound)
    }

    /// Returns a number from 0 to 1 for a renewal of a lease.
    #[expect(clippy::cast_precision_loss, reason = "any number from 0 to 1 will do")]
    pub(super) fn jitter(&self, lease: i64, renewals: u64) -> f64 {
        self.hashes.hash_one((lease, renewals)) as f64 / u64::MAX as f64
    }

    pub(super) fn next_id(&self) -> EntryId {
        let counter = self.next_id.get();
        self.next_id.set(counter + 1);
        let mut hasher = self.hashes.build_hasher();
        hasher.write_u64(counter);
        // A keyed hash of a counter: the same as random numbers, without a generator.
        EntryId(hasher.finish())
    }

    /// Returns the value of an entry that joins now.
    pub(super) fn entry_value(&self, limit: u32) -> EntryValue {
        let joined = SystemTime::now().duration_since(UNIX_EPOCH);
        EntryValue {
            limit,
            host: self.host.clone(),
            pid: std::process::id(),
            since: joined.map_or(0, |time| time.as_millis().try_into().unwrap_or(u64::MAX)),
            name: self.program.clone(),
        }
    }

    /// Checks once that more than half of the members belong to one cluster.
    pub(super) async fn identify(&self, limit: Duration) -> Result<(), CallError> {
        let limits = self.limits(limit);
        let identify = || async {
            let versions = self.cluster.identify(limits).await?;
            let old = versions
                .iter()
                .find(|version| is_older(version, (3, 5, 13)));
            if let Some(version) = old {
                telemetry::warn_old_etcd(version);
            }
            Ok(())
        };
        // A caller may wait for the check of another one, with a longer limit.
        let identified = timeout_at(limits.end, self.identified.get_or_try_init(identify));
        let identified = identified.await.map(|result| result.map(drop));
        identified.unwrap_or_else(|_| Err(self.unresponsive_error(limit)))
    }

    /// Deletes an entry, which was made at `revision` if that is known. Returns whether it was
    /// there. A response to the second attempt counts as one that deleted it: the first may have
    /// done so, or another client before both.
    pub(super) async fn delete_entry(
        &self,
        entry: &EntryName,
        revision: Option<i64>,
    ) -> Result<bool, CallError> {
        let request = txn::delete_entry(entry, revision);
        let deleted = self.cluster.call(&request, self.request_limits()).await?;
        Ok(deleted.response.succeeded || deleted.repeated)
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

/// Returns whether `version` is older than `than`. A version that cannot be read is not.
fn is_older(version: &str, than: (u32, u32, u32)) -> bool {
    let numbers = version.split(['.', '-', '+']).take(3);
    let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
    matches!(numbers[..], [major, minor, patch] if (major, minor, patch) < than)
}
