//! Statistics of a server.

use serde::{Deserialize, Deserializer, Serialize};

/// Held, queued and idle keys of one server. Unknown fields of newer servers are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Open connections.
    pub connections: u64,
    /// Locks that are held or waited for. Servers up to v1.13 also list semaphores with a limit of
    /// 1 here.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub locks: Vec<LockStats>,
    /// Semaphores that are held or waited for.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub semaphores: Vec<SemaphoreStats>,
    /// Locks without a holder that the server still remembers.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub idle_locks: Vec<IdleStats>,
    /// Semaphores without a holder whose limit the server still remembers.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub idle_semaphores: Vec<IdleStats>,
}

#[cfg(feature = "stats")]
impl Stats {
    /// Returns the limit of the semaphore `key` if it differs from `ours`. `None` if the server
    /// does not report it, as for an idle key.
    pub(crate) fn limit_besides(&self, ours: u32, key: &str) -> Option<u32> {
        let semaphore = self
            .semaphores
            .iter()
            .find(|semaphore| semaphore.key == key)
            .map(|semaphore| semaphore.limit);
        // Older servers list a semaphore with a limit of 1 as a lock. Newer ones may have a lock of
        // the same name beside an idle semaphore.
        let is_lock = || {
            self.locks.iter().any(|lock| lock.key == key)
                && !self.idle_semaphores.iter().any(|idle| idle.key == key)
        };
        semaphore
            .or_else(|| is_lock().then_some(1))
            .filter(|theirs| *theirs != ours)
    }
}

/// Deserializes a list. Servers before v1.11.2 send `null` for an empty one.
fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    list: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(list)?.unwrap_or_default())
}

/// A lock that is held or waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LockStats {
    /// The key.
    pub key: String,
    /// The server's id of the connection that holds it; 0 without a holder.
    pub owner_conn_id: u64,
    /// The remaining time of its lease, in seconds.
    pub lease_expires_in_s: f64,
    /// The number of waiters in the queue.
    pub waiters: u64,
}

/// A semaphore that is held or waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SemaphoreStats {
    /// The key.
    pub key: String,
    /// The limit: the number of slots.
    pub limit: u32,
    /// The number of holders.
    pub holders: u64,
    /// The number of waiters in the queue.
    pub waiters: u64,
}

/// A key without a holder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IdleStats {
    /// The key.
    pub key: String,
    /// The time since its last use, in seconds.
    pub idle_s: f64,
}
