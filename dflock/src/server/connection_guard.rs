//! Registration of one connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::registry::Registry;
use super::table::{ConnectionId, Table};

/// Registration of a connection. Dropping it removes the connection, its waiters and its slots.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    registry: Arc<Registry>,
    id: ConnectionId,
    notify: Arc<Notify>,
}

impl ConnectionGuard {
    pub(super) fn new(registry: Arc<Registry>, id: ConnectionId, notify: Arc<Notify>) -> Self {
        Self {
            registry,
            id,
            notify,
        }
    }

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
    pub(super) fn read_timed_out(&self) {
        self.with_table(|table, id, _| table.read_timed_out(id));
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.registry.remove(self.id);
    }
}
