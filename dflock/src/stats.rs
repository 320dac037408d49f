//! What a server tells of itself.

use serde::{Deserialize, Deserializer, Serialize};

/// Who holds what on one server. Fields of newer servers that are not here are passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Open connections.
    pub connections: u64,
    /// Locks that are held or waited for. Servers up to v1.13 list semaphores of 1 here, too.
    #[serde(default, deserialize_with = "listed")]
    pub locks: Vec<LockStats>,
    /// Semaphores that are held or waited for.
    #[serde(default, deserialize_with = "listed")]
    pub semaphores: Vec<SemaphoreStats>,
    /// Locks that nobody holds and that the server still remembers.
    #[serde(default, deserialize_with = "listed")]
    pub idle_locks: Vec<IdleStats>,
    /// Semaphores that nobody holds and whose limit the server still remembers.
    #[serde(default, deserialize_with = "listed")]
    pub idle_semaphores: Vec<IdleStats>,
}

#[cfg(feature = "stats")]
impl Stats {
    /// The limit of the semaphore `key` that is not `ours`, as far as it is told: not while the key is idle.
    pub(crate) fn limit_besides(&self, ours: u32, key: &str) -> Option<u32> {
        let semaphore = self
            .semaphores
            .iter()
            .find(|semaphore| semaphore.key == key)
            .map(|semaphore| semaphore.limit);
        // older servers list a semaphore of 1 as a lock; newer ones may have a lock of the same name beside an idle semaphore
        let is_lock = || {
            self.locks.iter().any(|lock| lock.key == key)
                && !self.idle_semaphores.iter().any(|idle| idle.key == key)
        };
        semaphore
            .or_else(|| is_lock().then_some(1))
            .filter(|theirs| *theirs != ours)
    }
}

/// A list; servers before v1.11.2 say `null` for an empty one.
fn listed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(list: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(list)?.unwrap_or_default())
}

/// A lock that is held or waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LockStats {
    /// Its key.
    pub key: String,
    /// The server's number for the connection that holds it; 0 when nobody does.
    pub owner_conn_id: u64,
    /// What is left of its lease, in seconds.
    pub lease_expires_in_s: f64,
    /// How many stand in line.
    pub waiters: u64,
}

/// A semaphore that is held or waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SemaphoreStats {
    /// Its key.
    pub key: String,
    /// How many may hold it.
    pub limit: u32,
    /// How many hold it.
    pub holders: u64,
    /// How many stand in line.
    pub waiters: u64,
}

/// A key that nobody holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IdleStats {
    /// The key.
    pub key: String,
    /// For how long nobody has asked for it, in seconds.
    pub idle_s: f64,
}
