//! Queries: statistics, and the connections of a key.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ConnectionId, Table};
use crate::stats::{IdleStats, LockStats, SemaphoreStats, Stats};
use crate::wire::{Key, Kind};

impl Table {
    /// Returns the statistics of all keys, in no order and without the number of connections.
    pub(in crate::server) fn stats(&mut self, now: Duration) -> Stats {
        self.sweep(now);
        let mut stats = Stats::default();
        for (id, entry) in self.keys.iter() {
            let key = id.key.to_string();
            let waiters = entry.queue.len() as u64;
            match id.kind {
                kind if entry.is_idle() => {
                    let idle_s = now.saturating_sub(entry.idle_since).as_secs_f64();
                    let idle = IdleStats { key, idle_s };
                    match kind {
                        Kind::Lock => stats.idle_locks.push(idle),
                        Kind::Semaphore => stats.idle_semaphores.push(idle),
                    }
                }
                Kind::Lock => {
                    let holder = entry.holders.values().next();
                    let lease = holder.map(|holder| holder.expires.saturating_sub(now));
                    stats.locks.push(LockStats {
                        key,
                        owner_conn_id: holder.map_or(0, |holder| holder.connection.0),
                        lease_expires_in_s: lease.unwrap_or_default().as_secs_f64(),
                        waiters,
                    });
                }
                Kind::Semaphore => {
                    let (limit, holders) = (entry.limit.get(), entry.holders.len() as u64);
                    stats.semaphores.push(SemaphoreStats {
                        key,
                        limit,
                        holders,
                        waiters,
                    });
                }
            }
        }
        stats
    }

    /// Returns the connections that hold a key or are queued for it, as a lock or as a semaphore.
    pub(in crate::server) fn connections_of(&self, key: Key<'_>) -> BTreeSet<ConnectionId> {
        let mut connections = BTreeSet::new();
        for kind in [Kind::Lock, Kind::Semaphore] {
            let Some((_, entry)) = self.keys.find(kind, key) else {
                continue;
            };
            connections.extend(entry.holders.values().map(|holder| holder.connection));
            let waiters = entry.queue.iter().filter_map(|id| self.waiters.get(id));
            connections.extend(waiters.map(|waiter| waiter.connection));
        }
        connections
    }

    /// Returns whether a connection holds a slot.
    pub(in crate::server) fn has_slots(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|connection| !connection.holds.is_empty())
    }
}
