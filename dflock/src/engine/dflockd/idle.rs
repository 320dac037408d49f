//! Connections that wait for their next use, and close when none comes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::Connection;
use crate::clock::{Clock, Instant};
use crate::mutex::Mutex;

/// The idle connections to one server. They are kept apart by runtime: a socket lives and dies with the runtime that made it.
#[derive(Debug)]
pub(crate) struct Idle {
    clock: Clock,
    /// After this much silence a connection is not used again: the server is about to close it.
    longest: Duration,
    /// At this age a connection is not used again, so that the name of its server is looked up again.
    max_age: Duration,
    /// One for each runtime: mostly there is one.
    shelves: Mutex<Vec<Shelf>>,
}

/// What one runtime has, for as long as a sweeper looks after it.
#[derive(Debug)]
struct Shelf {
    runtime: Id,
    /// When one of its connections was used last.
    used: Instant,
    /// The longest unused come first.
    connections: Vec<(Box<Connection>, Instant)>,
    /// `None` for the moment in which it is spawned.
    sweeper: Option<Sweeper>,
}

/// The task that closes what nobody uses. It ends with its shelf.
#[derive(Debug)]
struct Sweeper(AbortHandle);

impl Idle {
    pub(crate) fn new(clock: Clock, longest: Duration, max_age: Duration) -> Arc<Self> {
        // no connection is idle for longer than it is old
        let longest = longest.min(max_age);
        Arc::new(Self {
            clock,
            longest,
            max_age,
            shelves: Mutex::default(),
        })
    }

    /// The connection that was used last, if one is fit for use `now`.
    pub(crate) fn take(&self, runtime: Id, now: Instant) -> Option<Box<Connection>> {
        loop {
            let (mut connection, since) =
                self.shelf(runtime, |shelf| shelf.connections.pop())??;
            // what is too old, or spoken on, is closed here
            if !self.left(&connection, since, now).is_zero() && connection.is_reusable() {
                return Some(connection);
            }
        }
    }

    /// Keeps `connection`, which was `used` last, for use on its own runtime: on another it would be driven for only as long as that is.
    pub(crate) fn put(self: &Arc<Self>, connection: Box<Connection>, used: Instant) {
        let Some(runtime) = connection.runtime() else {
            return;
        };
        if self.left(&connection, used, used).is_zero() {
            return;
        }
        let here = {
            let mut shelves = self.shelves.lock();
            if let Some(shelf) = shelves.iter_mut().find(|shelf| shelf.runtime == runtime) {
                shelf.used = shelf.used.max(used);
                let place = shelf
                    .connections
                    .partition_point(|(_, since)| *since <= used);
                return shelf.connections.insert(place, (connection, used));
            }
            let Some(here) = Handle::try_current()
                .ok()
                .filter(|here| here.id() == runtime)
            else {
                return;
            };
            shelves.push(Shelf {
                runtime,
                used,
                connections: vec![(connection, used)],
                sweeper: None,
            });
            here
        };
        // not behind the lock: a runtime that is ending drops the task in here
        let sweeper = Sweeper(
            here.spawn(sweep(Cleared {
                idle: Arc::downgrade(self),
                runtime,
            }))
            .abort_handle(),
        );
        self.shelf(runtime, |shelf| _ = shelf.sweeper.get_or_insert(sweeper));
    }

    /// Returns how long after `now` a `connection` that was last used at `since` may be used.
    fn left(&self, connection: &Connection, since: Instant, now: Instant) -> Duration {
        let unused = self.longest.saturating_sub(now.since(since));
        let opened = connection.opened();
        let max_age = self
            .max_age
            .saturating_sub(early_part(self.max_age, opened));
        unused.min(max_age.saturating_sub(now.since(opened)))
    }

    /// Closes the connections of all runtimes that were used last at `asked` or before.
    pub(crate) fn close_unused_since(&self, asked: Instant) {
        let mut shelves = self.shelves.lock();
        let closed: Vec<_> = shelves
            .iter_mut()
            .flat_map(|shelf| {
                let old = shelf
                    .connections
                    .partition_point(|(_, since)| *since <= asked);
                shelf.connections.drain(..old)
            })
            .collect();
        // every acquire takes this lock, and to close a connection takes time
        drop(shelves);
        drop(closed);
    }

    fn shelf<T>(&self, runtime: Id, work: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
        self.shelves
            .lock()
            .iter_mut()
            .find(|shelf| shelf.runtime == runtime)
            .map(work)
    }

    /// Closes what is too old. How long until there may be more; `None` when the shelf was of no use for as long, and is gone.
    fn close_old(&self, runtime: Id) -> Option<Duration> {
        let now = self.clock.now();
        let mut shelves = self.shelves.lock();
        let place = shelves.iter().position(|shelf| shelf.runtime == runtime)?;
        let connections = &mut shelves[place].connections;
        let left =
            |(connection, since): &(Box<Connection>, Instant)| self.left(connection, *since, now);
        let closed: Vec<_> = connections
            .extract_if(.., |idle| left(idle).is_zero())
            .collect();
        // an empty shelf is in use, too: it is empty whenever its only connection is
        let next = match connections.iter().map(left).min() {
            Some(next) => next,
            None => self.longest.saturating_sub(now.since(shelves[place].used)),
        };
        let is_over = next.is_zero();
        if is_over {
            shelves.swap_remove(place);
        }
        // every acquire goes by this lock, and to close takes time
        drop(shelves);
        drop(closed);
        (!is_over).then_some(next)
    }
}

/// Returns by how much a connection that was opened at `opened` expires before `max_age`: less than a
/// tenth. Connections that are opened together, as after a restart of their server, would otherwise
/// all be opened again together, each time.
fn early_part(max_age: Duration, opened: Instant) -> Duration {
    // the mixing function of SplitMix64: it spreads instants that are close to each other, too
    let mut mixed = opened.as_nanos();
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = u32::try_from(mixed >> 54).unwrap_or_default();
    max_age / 10 / 1024 * part
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Clears the shelf when the sweeper ends with its runtime.
struct Cleared {
    idle: Weak<Idle>,
    runtime: Id,
}

impl Drop for Cleared {
    fn drop(&mut self) {
        if let Some(idle) = self.idle.upgrade() {
            let mut shelves = idle.shelves.lock();
            let place = shelves
                .iter()
                .position(|shelf| shelf.runtime == self.runtime);
            let gone = place.map(|place| shelves.swap_remove(place));
            drop((shelves, gone));
        }
    }
}

async fn sweep(mut shelf: Cleared) {
    while let Some(next) = shelf
        .idle
        .upgrade()
        .and_then(|idle| idle.close_old(shelf.runtime))
    {
        sleep(next).await;
    }
    // the shelf is gone; another may stand in its place
    shelf.idle = Weak::new();
}
