//! The idle connections to one server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::Connection;
use super::splitmix::splitmix64;
use crate::clock::{Clock, Instant};
use crate::mutex::Mutex;

/// The idle connections to one server, by runtime: a socket is driven by the runtime that made it.
#[derive(Debug)]
pub(crate) struct IdleConnections {
    clock: Clock,
    /// A connection that was idle for this long is not reused: the server is about to close it.
    timeout: Duration,
    /// A connection of this age is not reused, so that the name of its server is resolved again.
    max_age: Duration,
    /// No connection is kept any more. Stored under the lock of `by_runtime`.
    is_closed: AtomicBool,
    /// One entry for each runtime. Most programs have one runtime.
    by_runtime: Mutex<Vec<RuntimeEntry>>,
}

/// The idle connections of one runtime, while a reaper runs for them.
#[derive(Debug)]
struct RuntimeEntry {
    runtime: Id,
    /// The last use of any connection of the runtime.
    used: Instant,
    /// The connections with the time of their last use, in the order of that time.
    connections: Vec<(Box<Connection>, Instant)>,
    /// `None` while the task is being spawned.
    reaper: Option<Reaper>,
}

/// The task that closes expired connections. Dropping this stops the task.
#[derive(Debug)]
struct Reaper(AbortHandle);

impl IdleConnections {
    pub(crate) fn new(clock: Clock, timeout: Duration, max_age: Duration) -> Arc<Self> {
        // No connection is idle for longer than its age.
        let timeout = timeout.min(max_age);
        Arc::new(Self {
            clock,
            timeout,
            max_age,
            is_closed: AtomicBool::new(false),
            by_runtime: Mutex::default(),
        })
    }

    /// Returns the connection that was used last, if there is one that can be reused `now`.
    pub(crate) fn take(&self, runtime: Id, now: Instant) -> Option<Box<Connection>> {
        loop {
            let (mut connection, since) =
                self.with_runtime(runtime, |entry| entry.connections.pop())??;
            // A connection that has expired, or that has received something, is dropped here.
            if now < self.expires_at(&connection, since) && connection.is_reusable() {
                return Some(connection);
            }
        }
    }

    /// Returns `connection` to the idle ones of the runtime that made it; no other runtime drives its
    /// socket. `used` is the time of its last use.
    pub(crate) fn put(self: &Arc<Self>, connection: Box<Connection>, used: Instant) {
        let Some(runtime) = connection.runtime() else {
            return;
        };
        if used >= self.expires_at(&connection, used) {
            return;
        }
        let here = {
            let mut by_runtime = self.by_runtime.lock();
            if self.is_closed.load(Ordering::Relaxed) {
                return;
            }
            if let Some(entry) = by_runtime.iter_mut().find(|entry| entry.runtime == runtime) {
                entry.used = entry.used.max(used);
                let place = entry
                    .connections
                    .partition_point(|(_, since)| *since <= used);
                return entry.connections.insert(place, (connection, used));
            }
            let Some(here) = Handle::try_current()
                .ok()
                .filter(|here| here.id() == runtime)
            else {
                return;
            };
            by_runtime.push(RuntimeEntry {
                runtime,
                used,
                connections: vec![(connection, used)],
                reaper: None,
            });
            here
        };
        // Outside of the lock: a runtime that shuts down drops the task in `spawn`, and the drop locks.
        let reaper = Reaper(
            here.spawn(reap(RemoveOnDrop {
                idle: Arc::downgrade(self),
                runtime,
            }))
            .abort_handle(),
        );
        self.with_runtime(runtime, |entry| _ = entry.reaper.get_or_insert(reaper));
    }

    /// Returns the time until which a connection that was opened at `opened` is reused.
    pub(crate) fn reuse_until(&self, opened: Instant) -> Instant {
        let early = early_part(self.max_age, opened);
        opened.saturating_add(self.max_age.saturating_sub(early))
    }

    /// Returns the time until which a `connection` that was last used at `used` is reused.
    fn expires_at(&self, connection: &Connection, used: Instant) -> Instant {
        used.saturating_add(self.timeout)
            .min(connection.reuse_until())
    }

    /// Closes the connections of all runtimes whose last use was at `time` or before.
    pub(crate) fn close_unused_since(&self, time: Instant) {
        let mut by_runtime = self.by_runtime.lock();
        let closed: Vec<_> = by_runtime
            .iter_mut()
            .flat_map(|entry| {
                let old = entry
                    .connections
                    .partition_point(|(_, since)| *since <= time);
                entry.connections.drain(..old)
            })
            .collect();
        // Outside of the lock, which every acquire takes: closing a connection takes time.
        drop(by_runtime);
        drop(closed);
    }

    /// Closes all connections, and those that are put back later.
    pub(crate) fn close(&self) {
        let mut by_runtime = self.by_runtime.lock();
        self.is_closed.store(true, Ordering::Relaxed);
        let closed = std::mem::take(&mut *by_runtime);
        // Outside of the lock, which the drop of a reaper takes.
        drop(by_runtime);
        drop(closed);
    }

    fn with_runtime<T>(&self, runtime: Id, work: impl FnOnce(&mut RuntimeEntry) -> T) -> Option<T> {
        self.by_runtime
            .lock()
            .iter_mut()
            .find(|entry| entry.runtime == runtime)
            .map(work)
    }

    /// Closes expired connections. Returns the time until the next one can expire, or `None` if the
    /// entry of the runtime was unused for as long, and is removed.
    fn close_expired(&self, runtime: Id) -> Option<Duration> {
        let now = self.clock.now();
        let mut by_runtime = self.by_runtime.lock();
        let place = by_runtime
            .iter()
            .position(|entry| entry.runtime == runtime)?;
        let connections = &mut by_runtime[place].connections;
        let expires_at =
            |(connection, used): &(Box<Connection>, Instant)| self.expires_at(connection, *used);
        let closed: Vec<_> = connections
            .extract_if(.., |idle| now >= expires_at(idle))
            .collect();
        // An entry without connections stays: it is empty while its only connection is in use.
        let next = match connections.iter().map(expires_at).min() {
            Some(next) => next,
            None => by_runtime[place].used.saturating_add(self.timeout),
        };
        let is_unused = now >= next;
        if is_unused {
            by_runtime.swap_remove(place);
        }
        // Outside of the lock, which every acquire takes: closing a connection takes time.
        drop(by_runtime);
        drop(closed);
        (!is_unused).then(|| next.duration_since(now))
    }
}

/// Returns by how much a connection that was opened at `opened` expires before `max_age`: less than a
/// tenth. Connections that are opened together, as after a restart of their server, would otherwise
/// all be opened again together, each time.
fn early_part(max_age: Duration, opened: Instant) -> Duration {
    let part = u32::try_from(splitmix64(opened.as_nanos()) >> 54).unwrap_or_default();
    max_age / 10 / 1024 * part
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Removes the entry of the runtime when the reaper stops with the runtime.
struct RemoveOnDrop {
    idle: Weak<IdleConnections>,
    runtime: Id,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(idle) = self.idle.upgrade() {
            let mut by_runtime = idle.by_runtime.lock();
            let place = by_runtime
                .iter()
                .position(|entry| entry.runtime == self.runtime);
            let gone = place.map(|place| by_runtime.swap_remove(place));
            drop((by_runtime, gone));
        }
    }
}

async fn reap(mut entry: RemoveOnDrop) {
    while let Some(next) = entry
        .idle
        .upgrade()
        .and_then(|idle| idle.close_expired(entry.runtime))
    {
        sleep(next).await;
    }
    // The entry is removed, and the runtime may have a new one: do not remove that.
    entry.idle = Weak::new();
}
