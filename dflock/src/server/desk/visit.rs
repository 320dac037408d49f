//! A connection's time at the desk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Desk, TABLES, part_of};
use crate::server::table::{Answer, ConnectionId, Table};
use crate::wire::{Capacity, Key, LeaseSeconds, Reply, Status};

/// A connection's time at the desk; all that it has there goes when this is dropped.
#[derive(Debug)]
pub(in crate::server) struct Visit {
    desk: Arc<Desk>,
    id: ConnectionId,
    bell: Arc<Notify>,
    /// A bit for each part that knows the bell: nowhere else has the connection anything.
    known: u64,
}

impl Visit {
    pub(super) fn new(desk: Arc<Desk>, id: ConnectionId, bell: Arc<Notify>) -> Self {
        Self { desk, id, bell, known: 0 }
    }

    /// Works on the table of `key` in the name of this connection.
    pub(in crate::server) fn at<T>(&mut self, key: Key<'_>, work: impl FnOnce(&mut Table, ConnectionId, Duration) -> T) -> T {
        let part = part_of(key);
        let mut locked = self.desk.lock(part);
        if self.known & bit(part) == 0 {
            self.known |= bit(part);
            locked.bells.insert(self.id, Arc::clone(&self.bell));
        }
        locked.work(self.desk.started, |table, now| work(table, self.id, now))
    }

    /// [`Table::acquire`], where idle keys of all tables make room.
    pub(in crate::server) fn acquire(&mut self, key: Key<'_>, capacity: Capacity, lease: LeaseSeconds) -> Answer {
        let full = Answer::Now(Reply::Refused(Status::MaxLocks));
        self.making_room(key, &full, |table, by, now| table.acquire(by, key, capacity, lease, now))
    }

    /// [`Table::enqueue`], where idle keys of all tables make room.
    pub(in crate::server) fn enqueue(&mut self, key: Key<'_>, capacity: Capacity, lease: LeaseSeconds) -> Reply {
        let full = Reply::Refused(Status::MaxLocks);
        self.making_room(key, &full, |table, by, now| table.enqueue(by, key, capacity, lease, now))
    }

    /// Waits until a waiter of this connection may have got a slot, or the server drains.
    pub(in crate::server) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether the connection has a slot.
    pub(in crate::server) fn holds(&self) -> bool {
        self.parts().any(|part| self.desk.lock(part).table.holds(self.id))
    }

    /// The connection said nothing for the read timeout; dropping this is next.
    pub(in crate::server) fn silent(&self) {
        self.desk.lock(0).table.silent(self.id);
    }

    fn making_room<T: PartialEq>(&mut self, key: Key<'_>, full: &T, work: impl Fn(&mut Table, ConnectionId, Duration) -> T) -> T {
        let answer = self.at(key, &work);
        if answer != *full {
            return answer;
        }
        // a table makes room among its own keys only: it has no other's lock; what gets old behind the broom is left for the next time
        self.desk.everywhere(Table::gc);
        self.at(key, work)
    }

    fn parts(&self) -> impl Iterator<Item = usize> {
        let known = self.known;
        (0..TABLES).filter(move |&part| known & bit(part) != 0)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        for part in self.parts() {
            let mut part = self.desk.lock(part);
            part.bells.remove(&self.id);
            part.work(self.desk.started, |table, now| table.disconnect(self.id, now));
        }
        self.desk.guests.lock().present.remove(&self.id);
    }
}

fn bit(part: usize) -> u64 {
    1 << part
}
