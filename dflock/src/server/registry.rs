//! Shared state of the connections: the table and the registered connections, behind one lock.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::table::{ConnectionId, Table};
use crate::mutex::Mutex;
use crate::stats::Stats;
use crate::wire::Key;

/// The table and the registered connections of a server.
#[derive(Debug)]
pub(super) struct Registry {
    started: Instant,
    max_connections: usize,
    state: Mutex<State>,
}

/// The part of the registry that its lock protects.
#[derive(Debug)]
struct State {
    table: Table,
    /// Registered connections. They are ordered, so that a seeded simulation notifies them in the
    /// same order every time.
    connections: BTreeMap<ConnectionId, ConnectionEntry>,
    last_connection: u64,
}

/// A registered connection.
#[derive(Debug)]
struct ConnectionEntry {
    /// Notified when a waiter of the connection was granted a slot, and when the server shuts down.
    notify: Arc<Notify>,
    /// Closes the connection.
    close: oneshot::Sender<()>,
}

impl Registry {
    pub(super) fn new(table: Table, max_connections: usize) -> Arc<Self> {
        let state = State {
            table,
            connections: BTreeMap::new(),
            last_connection: 0,
        };
        Arc::new(Self {
            started: Instant::now(),
            max_connections,
            state: Mutex::new(state),
        })
    }

    /// Registers a new connection; returns `None` when `max_connections` are registered. The
    /// receiver resolves when the connection must be closed.
    pub(super) fn register(self: &Arc<Self>) -> Option<(ConnectionGuard, oneshot::Receiver<()>)> {
        let mut state = self.state.lock();
        if self.max_connections > 0 && state.connections.len() >= self.max_connections {
            return None;
        }
        state.last_connection += 1;
        let id = ConnectionId(state.last_connection);
        let notify = Arc::new(Notify::new());
        let (close, closed) = oneshot::channel();
        state.connections.insert(
            id,
            ConnectionEntry {
                notify: Arc::clone(&notify),
                close,
            },
        );
        let guard = ConnectionGuard {
            registry: Arc::clone(self),
            id,
            notify,
        };
        Some((guard, closed))
    }

    /// Removes a connection, its waiters and its slots.
    pub(super) fn remove(&self, id: ConnectionId) {
        self.with_state(|state, now| {
            state.connections.remove(&id);
            state.table.disconnect(id, now);
        });
    }

    /// Runs `operation` on the table, then notifies the connections whose waiters were granted a
    /// slot.
    pub(super) fn with_table<T>(&self, operation: impl FnOnce(&mut Table, Duration) -> T) -> T {
        self.with_state(|state, now| operation(&mut state.table, now))
    }

    /// Returns the statistics of the server, sorted by key.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.with_state(|state, now| {
            let connections = state.connections.len() as u64;
            Stats {
                connections,
                ..state.table.stats(now)
            }
        });
        stats.locks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats.semaphores.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats.idle_locks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats
            .idle_semaphores
            .sort_unstable_by(|a, b| a.key.cmp(&b.key));
        stats
    }

    /// Notifies all connections.
    pub(super) fn notify_all(&self) {
        for connection in self.state.lock().connections.values() {
            connection.notify.notify_one();
        }
    }

    /// Closes the connections that hold a key or are queued for it.
    pub(super) fn close(&self, key: Key<'_>) {
        let mut state = self.state.lock();
        for id in state.table.connections_of(key) {
            if let Some(connection) = state.connections.remove(&id) {
                // An error means that the connection has just ended.
                let _ = connection.close.send(());
            }
        }
    }

    /// Closes all connections.
    pub(super) fn close_all(&self) {
        for connection in std::mem::take(&mut self.state.lock().connections).into_values() {
            // An error means that the connection has just ended.
            let _ = connection.close.send(());
        }
    }

    fn with_state<T>(&self, operation: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state.lock();
        // The clock is read inside the lock, so that the table never sees the time go back.
        let result = operation(&mut state, self.started.elapsed());
        let granted = state.take_granted();
        drop(state);
        // Outside the lock, because a wake-up may be a system call.
        for notify in granted {
            notify.notify_one();
        }
        result
    }
}

impl State {
    /// Returns the notifiers of the connections whose waiters were granted a slot, in order.
    fn take_granted(&mut self) -> Vec<Arc<Notify>> {
        let granted = self.table.take_granted();
        let entries = granted.filter_map(|granted| self.connections.get(&granted.connection));
        entries
            .map(|connection| Arc::clone(&connection.notify))
            .collect()
    }
}

/// Registration of a connection. Dropping it removes the connection, its waiters and its slots.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    registry: Arc<Registry>,
    id: ConnectionId,
    notify: Arc<Notify>,
}

impl ConnectionGuard {
    /// Runs `operation` on the table, for this connection.
    pub(super) fn with_table<T>(
        &self,
        operation: impl FnOnce(&mut Table, ConnectionId, Duration) -> T,
    ) -> T {
        self.registry
            .with_table(|table, now| operation(table, self.id, now))
    }

    /// Waits until a waiter of this connection may have been granted a slot, or the server shuts
    /// down.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Returns whether the connection holds a slot.
    pub(super) fn has_slots(&self) -> bool {
        self.with_table(|table, id, _| table.has_slots(id))
    }

    /// Reports that the client sent nothing for the read timeout; the caller drops the guard next.
    pub(super) fn record_read_timeout(&self) {
        self.with_table(|table, id, _| table.record_read_timeout(id));
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.registry.remove(self.id);
    }
}
