//! Statistics of a server.

use serde::{Deserialize, Deserializer, Serialize};

/// Keys, holders and waiters of one server. Unknown fields of newer servers are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Open connections; 0 on etcd.
    pub connections: u64,
    /// Locks with a holder or waiters. Servers up to v1.13 list semaphores with limit 1 here as
    /// well.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub locks: Vec<LockStats>,
    /// Semaphores with holders or waiters.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub semaphores: Vec<SemaphoreStats>,
    /// Locks without a holder that the server has not yet removed.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub idle_locks: Vec<IdleStats>,
    /// Semaphores without a holder whose limit the server still enforces.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub idle_semaphores: Vec<IdleStats>,
}

#[cfg(feature = "stats")]
impl Stats {
    /// Returns the limit of the semaphore `key` if it differs from `ours`.
    ///
    /// Returns `None` while the key is idle, because servers do not report the limit then.
    pub(crate) fn conflicting_limit(&self, ours: u32, key: &str) -> Option<u32> {
        let semaphore = self
            .semaphores
            .iter()
            .find(|semaphore| semaphore.key == key)
            .map(|semaphore| semaphore.limit);
        // Older servers list a semaphore with limit 1 as a lock. Newer ones may list a lock of the
        // same key beside an idle semaphore.
        let is_limit_one = || {
            self.locks.iter().any(|lock| lock.key == key)
                && !self.idle_semaphores.iter().any(|idle| idle.key == key)
        };
        semaphore
            .or_else(|| is_limit_one().then_some(1))
            .filter(|theirs| *theirs != ours)
    }
}

/// Deserializes a list. Servers before v1.11.2 send `null` for an empty one.
fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    list: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(list)?.unwrap_or_default())
}

/// A lock with a holder or waiters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LockStats {
    /// The key.
    pub key: String,
    /// Connection number of the holder on the server, or its fence on etcd; 0 without a holder.
    pub owner_conn_id: u64,
    /// Remaining time of the lease, in seconds; 0 on etcd, which does not list it.
    pub lease_expires_in_s: f64,
    /// Number of waiters in the queue.
    pub waiters: u64,
}

/// A semaphore with holders or waiters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SemaphoreStats {
    /// The key.
    pub key: String,
    /// Number of slots.
    pub limit: u32,
    /// Number of holders.
    pub holders: u64,
    /// Number of waiters in the queue.
    pub waiters: u64,
}

/// A key without holders and waiters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IdleStats {
    /// The key.
    pub key: String,
    /// Time since its last use, in seconds.
    pub idle_s: f64,
}
