//! Where the connections bring their requests: the table behind its lock, with the time and the bells.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::table::{ConnectionId, Table};
use crate::mutex::Mutex;
use crate::stats::Stats;
use crate::wire::Key;

/// The table that all connections of a server share.
#[derive(Debug)]
pub(super) struct Desk {
    started: Instant,
    max_connections: usize,
    room: Mutex<Room>,
}

/// What is behind the lock.
#[derive(Debug)]
struct Room {
    table: Table,
    /// In order, so that they are sent away in order.
    guests: BTreeMap<ConnectionId, Guest>,
    last_connection: u64,
}

/// What the desk knows of a connection.
#[derive(Debug)]
struct Guest {
    /// Rung when a waiter of this connection got a slot.
    bell: Arc<Notify>,
    /// Closes the connection.
    send_away: oneshot::Sender<()>,
}

impl Desk {
    pub(super) fn new(table: Table, max_connections: usize) -> Arc<Self> {
        let room = Mutex::new(Room { table, guests: BTreeMap::new(), last_connection: 0 });
        Arc::new(Self { started: Instant::now(), max_connections, room })
    }

    /// A new connection, unless there are too many: looked up and counted in one step. The receiver resolves when the connection
    /// is to be closed.
    pub(super) fn welcome(self: &Arc<Self>) -> Option<(Visit, oneshot::Receiver<()>)> {
        let mut room = self.lock();
        if self.max_connections > 0 && room.guests.len() >= self.max_connections {
            return None;
        }
        room.last_connection += 1;
        let id = ConnectionId(room.last_connection);
        let bell = Arc::new(Notify::new());
        let (order, sent_away) = oneshot::channel();
        room.guests.insert(id, Guest { bell: Arc::clone(&bell), send_away: order });
        Some((Visit { desk: Arc::clone(self), id, bell }, sent_away))
    }

    /// Works on the table at this very time, then rings for those who got a slot by it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Table, Duration) -> T) -> T {
        // the time is taken behind the lock, so that the table never sees it go back
        let mut room = self.lock();
        let result = work(&mut room.table, self.started.elapsed());
        room.ring();
        result
    }

    pub(super) fn stats(&self) -> Stats {
        let mut room = self.lock();
        let connections = room.guests.len() as u64;
        let stats = room.table.stats(connections, self.started.elapsed());
        room.ring();
        stats
    }

    /// Closes the connections that hold a key or wait for it.
    pub(super) fn send_away(&self, key: Key<'_>) {
        let mut room = self.lock();
        for connection in room.table.connections_at(key) {
            if let Some(guest) = room.guests.remove(&connection) {
                // one that is leaving already needs no telling
                let _ = guest.send_away.send(());
            }
        }
    }

    pub(super) fn send_all_away(&self) {
        for guest in std::mem::take(&mut self.lock().guests).into_values() {
            // one that is leaving already needs no telling
            let _ = guest.send_away.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock()
    }
}

impl Room {
    fn ring(&mut self) {
        for promotion in self.table.promotions() {
            if let Some(guest) = self.guests.get(&promotion.connection) {
                guest.bell.notify_one();
            }
        }
    }
}

/// A connection's time at the desk; all that it has there goes when this is dropped.
#[derive(Debug)]
pub(super) struct Visit {
    desk: Arc<Desk>,
    id: ConnectionId,
    bell: Arc<Notify>,
}

impl Visit {
    /// Works on the table in the name of this connection.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Table, ConnectionId, Duration) -> T) -> T {
        self.desk.with(|table, now| work(table, self.id, now))
    }

    /// Waits until a waiter of this connection may have got a slot.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut room = self.desk.lock();
        room.table.disconnect(self.id, self.desk.started.elapsed());
        room.guests.remove(&self.id);
        room.ring();
    }
}
