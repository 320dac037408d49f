//! Connections that wait for their next use, and close when none comes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::{Clock, Connection, Instant};
use crate::mutex::Mutex;

/// The idle connections to one server. They are kept apart by runtime: a socket lives and dies with the runtime that made it.
#[derive(Debug)]
pub(crate) struct Idle {
    clock: Clock,
    /// After this much silence a connection is not used again: the server is about to close it.
    longest: Duration,
    shelves: Mutex<HashMap<Id, Shelf>>,
}

/// What one runtime has, for as long as a sweeper looks after it.
#[derive(Debug)]
struct Shelf {
    /// The longest unused come first.
    connections: Vec<(Connection, Instant)>,
    /// `None` for the moment in which it is spawned.
    sweeper: Option<Sweeper>,
}

/// The task that closes what nobody uses. It ends with its shelf.
#[derive(Debug)]
struct Sweeper(AbortHandle);

impl Idle {
    pub(crate) fn new(clock: Clock, longest: Duration) -> Arc<Self> {
        Arc::new(Self { clock, longest, shelves: Mutex::default() })
    }

    /// The connection that was used last, if one is fit for use.
    pub(crate) fn take(&self, runtime: Id) -> Option<Connection> {
        let now = self.clock.now();
        let mut shelves = self.shelves.lock();
        let connections = &mut shelves.get_mut(&runtime)?.connections;
        loop {
            let (mut connection, since) = connections.pop()?;
            // what is too old, or spoken on, is closed here
            if now.since(since) < self.longest && connection.is_fit() {
                return Some(connection);
            }
        }
    }

    /// Keeps `connection`, for use on the runtime of `handle`.
    pub(crate) fn put(self: &Arc<Self>, handle: &Handle, connection: Connection) {
        let runtime = handle.id();
        let used = (connection, self.clock.now());
        match self.shelves.lock().entry(runtime) {
            Entry::Occupied(mut kept) => return kept.get_mut().connections.push(used),
            Entry::Vacant(place) => place.insert(Shelf { connections: vec![used], sweeper: None }),
        };
        // not behind the lock: a runtime that is ending drops the task in here
        let sweeper = Sweeper(handle.spawn(sweep(Cleared { idle: Arc::downgrade(self), runtime })).abort_handle());
        if let Some(shelf) = self.shelves.lock().get_mut(&runtime) {
            shelf.sweeper.get_or_insert(sweeper);
        }
    }

    /// Closes what is too old. How long until the next will be; `None` when nothing is left, and the shelf is gone.
    fn close_old(&self, runtime: Id) -> Option<Duration> {
        let now = self.clock.now();
        let mut shelves = self.shelves.lock();
        let connections = &mut shelves.get_mut(&runtime)?.connections;
        let old = connections.iter().take_while(|(_, since)| now.since(*since) >= self.longest).count();
        connections.drain(..old);
        let Some((_, oldest)) = connections.first() else {
            shelves.remove(&runtime);
            return None;
        };
        Some(self.longest.saturating_sub(now.since(*oldest)))
    }
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
            let kept = idle.shelves.lock().remove(&self.runtime);
            drop(kept);
        }
    }
}

async fn sweep(mut shelf: Cleared) {
    while let Some(next) = shelf.idle.upgrade().and_then(|idle| idle.close_old(shelf.runtime)) {
        sleep(next).await;
    }
    // the shelf is gone; another may stand in its place
    shelf.idle = Weak::new();
}
