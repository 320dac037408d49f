//! What the table tells of itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ConnectionId, Table};
use crate::stats::{IdleStats, LockStats, SemaphoreStats, Stats};
use crate::wire::{Key, Kind};

impl Table {
    /// Adds who holds what to `stats`, in no order.
    pub(in crate::server) fn report(&mut self, stats: &mut Stats, now: Duration) {
        self.sweep(now);
        for (name, entry) in self.keys.iter() {
            let key = name.key.to_string();
            let waiters = entry.line.len() as u64;
            match name.kind {
                kind if entry.is_idle() => {
                    let idle = IdleStats { key, idle_s: now.saturating_sub(entry.idle_since).as_secs_f64() };
                    match kind {
                        Kind::Lock => stats.idle_locks.push(idle),
                        Kind::Semaphore => stats.idle_semaphores.push(idle),
                    }
                }
                Kind::Lock => {
                    let holder = entry.holders.values().next();
                    stats.locks.push(LockStats {
                        key,
                        owner_conn_id: holder.map_or(0, |holder| holder.connection.0),
                        lease_expires_in_s: holder.map_or(0.0, |holder| holder.ends.saturating_sub(now).as_secs_f64()),
                        waiters,
                    });
                }
                Kind::Semaphore => {
                    stats.semaphores.push(SemaphoreStats { key, limit: entry.limit.get(), holders: entry.holders.len() as u64, waiters });
                }
            }
        }
    }

    /// Who holds a key or waits for it, be it a lock or a semaphore.
    pub(in crate::server) fn connections_at(&self, key: Key<'_>) -> BTreeSet<ConnectionId> {
        let entries = [Kind::Lock, Kind::Semaphore].into_iter().filter_map(|kind| self.keys.find(kind, key));
        entries
            .flat_map(|(_, entry)| {
                let waiters = entry.line.iter().filter_map(|id| self.waiters.get(id)).map(|waiter| waiter.connection);
                entry.holders.values().map(|holder| holder.connection).chain(waiters)
            })
            .collect()
    }

    /// Whether a connection has a slot.
    pub(in crate::server) fn holds(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|belongings| !belongings.slots.is_empty())
    }
}
