//! Where the connections bring their requests: the tables behind their locks, with the time and the bells.

#[cfg(test)]
mod tests;
mod visit;

use std::collections::{BTreeMap, HashMap};
use std::iter::once;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::table::{ConnectionId, Table};
use crate::mutex::Mutex;
use crate::stats::Stats;
use crate::wire::Key;
pub(super) use visit::Visit;

/// How many tables share the keys. More than there are cores, so that two requests at once seldom want the same one, and one for
/// each bit of what a visit remembers.
const TABLES: usize = u64::BITS as usize;

/// The tables that all connections of a server share. A request goes to the table of its key, and takes no lock but that one's,
/// unless it asks about all keys or there is no room for its own.
#[derive(Debug)]
pub(super) struct Desk {
    started: Instant,
    max_connections: usize,
    parts: Vec<Mutex<Part>>,
    /// Locked after a part, if both are.
    guests: Mutex<Guests>,
}

/// The keys that share a lock.
#[derive(Debug)]
struct Part {
    table: Table,
    /// One for each connection that may have a waiter here; rung when that got a slot.
    bells: HashMap<ConnectionId, Arc<Notify>>,
}

/// Who is connected.
#[derive(Debug, Default)]
struct Guests {
    /// In order, so that they are told in order.
    present: BTreeMap<ConnectionId, Guest>,
    last: u64,
}

/// What the desk knows of a connection.
#[derive(Debug)]
struct Guest {
    bell: Arc<Notify>,
    /// Closes the connection.
    send_away: oneshot::Sender<()>,
}

impl Desk {
    /// Keys go to `table` and to sisters of it.
    pub(super) fn new(mut table: Table, max_connections: usize) -> Arc<Self> {
        let sisters: Vec<_> = (1..TABLES).map(|_| table.sister()).collect();
        let parts = once(table).chain(sisters).map(|table| Mutex::new(Part { table, bells: HashMap::new() })).collect();
        Arc::new(Self { started: Instant::now(), max_connections, parts, guests: Mutex::default() })
    }

    /// A new connection, unless there are too many: looked up and counted in one step. The receiver resolves when the connection
    /// is to be closed.
    pub(super) fn welcome(self: &Arc<Self>) -> Option<(Visit, oneshot::Receiver<()>)> {
        let mut guests = self.guests.lock();
        if self.max_connections > 0 && guests.present.len() >= self.max_connections {
            return None;
        }
        guests.last += 1;
        let id = ConnectionId(guests.last);
        let bell = Arc::new(Notify::new());
        let (order, sent_away) = oneshot::channel();
        guests.present.insert(id, Guest { bell: Arc::clone(&bell), send_away: order });
        Some((Visit::new(Arc::clone(self), id, bell), sent_away))
    }

    /// Works on the table of `key` at this very time, then rings for those who got a slot by it.
    pub(super) fn at<T>(&self, key: Key<'_>, work: impl FnOnce(&mut Table, Duration) -> T) -> T {
        self.lock(part_of(key)).work(self.started, work)
    }

    /// Works on one table after the other.
    pub(super) fn everywhere(&self, mut work: impl FnMut(&mut Table, Duration)) {
        for part in &self.parts {
            part.lock().work(self.started, &mut work);
        }
    }

    /// Who holds what, all of it at the same moment.
    pub(super) fn stats(&self) -> Stats {
        let mut parts: Vec<_> = self.parts.iter().map(Mutex::lock).collect();
        let mut stats = Stats { connections: self.guests.lock().present.len() as u64, ..Stats::default() };
        for part in &mut parts {
            part.work(self.started, |table, now| table.report(&mut stats, now));
        }
        drop(parts);
        stats.locks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats.semaphores.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats.idle_locks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats.idle_semaphores.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats
    }

    /// Rings for everybody.
    pub(super) fn ring_all(&self) {
        for guest in self.guests.lock().present.values() {
            guest.bell.notify_one();
        }
    }

    /// Closes the connections that hold a key or wait for it.
    pub(super) fn send_away(&self, key: Key<'_>) {
        let part = self.lock(part_of(key));
        let mut guests = self.guests.lock();
        for connection in part.table.connections_at(key) {
            if let Some(guest) = guests.present.remove(&connection) {
                // one that is leaving already needs no telling
                let _ = guest.send_away.send(());
            }
        }
    }

    pub(super) fn send_all_away(&self) {
        for guest in std::mem::take(&mut self.guests.lock().present).into_values() {
            // one that is leaving already needs no telling
            let _ = guest.send_away.send(());
        }
    }

    fn lock(&self, part: usize) -> MutexGuard<'_, Part> {
        self.parts[part].lock()
    }
}

impl Part {
    /// Works on the table, then rings.
    fn work<T>(&mut self, started: Instant, work: impl FnOnce(&mut Table, Duration) -> T) -> T {
        // the time is taken behind the lock, so that the table never sees it go back
        let result = work(&mut self.table, started.elapsed());
        for promotion in self.table.promotions() {
            if let Some(bell) = self.bells.get(&promotion.connection) {
                bell.notify_one();
            }
        }
        result
    }
}

/// Where a key belongs, lock and semaphore alike: the high bits of the hash, as the low ones tell which server it is on.
fn part_of(key: Key<'_>) -> usize {
    crc32fast::hash(key.as_str().as_bytes()) as usize >> (u32::BITS - TABLES.ilog2())
}
