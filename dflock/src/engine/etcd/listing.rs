//! The entries of all clients: holders, stats, and revocation.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::entry::token;
use super::error::CallError;
use super::keys::{EntryId, EntryName, ParsedKey};
use super::messages::{KeyValue, RangeRequest};
use super::session_state::SessionState;
use super::txn::{self, EntryValue};
use crate::Holder;
use crate::wire::{Kind, Token};

/// The most keys of one request. The values are about 120 bytes each.
const PAGE: i64 = 1000;

/// An entry of any client.
#[derive(Clone, Debug)]
pub(super) struct ListedEntry {
    kind: Kind,
    key: String,
    id: EntryId,
    permits: u32,
    revision: i64,
    value: EntryValue,
}

impl SessionState {
    /// Returns the entries of all keys, each queue in order.
    #[cfg(feature = "stats")]
    pub(super) async fn list(&self) -> Result<Vec<ListedEntry>, CallError> {
        let (start, end) = self.layout.range();
        self.list_range(start, end).await
    }

    /// Returns the entries of the lock and of the semaphore `key`, each queue in order.
    pub(super) async fn list_key(&self, key: &str) -> Result<Vec<ListedEntry>, CallError> {
        let mut listed = Vec::new();
        for kind in [Kind::Lock, Kind::Semaphore] {
            let (start, end) = self.layout.queue(kind, key).range();
            listed.extend(self.list_range(start, end).await?);
        }
        Ok(listed)
    }

    /// Sends a read to the cluster.
    pub(super) async fn ping(&self) -> Result<(), CallError> {
        self.identify(self.request_timeout).await?;
        let request = RangeRequest {
            key: self.layout.range().0,
            count_only: true,
            ..RangeRequest::default()
        };
        self.cluster
            .call(&request, self.request_limits())
            .await
            .map(drop)
    }

    /// Deletes the entry of `token`. Returns whether a permit of it was there. A response to the
    /// second attempt counts as one that deleted it.
    pub(super) async fn revoke(&self, key: &str, wanted: Token) -> Result<bool, CallError> {
        for entry in self.list_key(key).await? {
            if token(entry.revision, entry.id) == wanted {
                let name = EntryName {
                    queue: self.layout.queue(entry.kind, key),
                    id: entry.id,
                    permits: entry.permits,
                };
                let request = txn::delete_entry(&name, None);
                let deleted = self.cluster.call(&request, self.request_limits()).await?;
                return Ok(deleted.repeated || txn::has_deleted(&deleted.response));
            }
        }
        Ok(false)
    }

    /// Returns the entries in a range of keys, read in pages at one revision.
    async fn list_range(
        &self,
        start: Vec<u8>,
        end: Vec<u8>,
    ) -> Result<Vec<ListedEntry>, CallError> {
        self.identify(self.request_timeout).await?;
        let mut entries = BTreeMap::new();
        let (mut key, mut revision) = (start, 0);
        loop {
            let request = RangeRequest {
                key: key.clone(),
                range_end: end.clone(),
                limit: PAGE,
                revision,
                ..RangeRequest::default()
            };
            let page = self
                .cluster
                .call(&request, self.request_limits())
                .await?
                .response;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            for kv in &page.kvs {
                self.add(kv, &mut entries);
            }
            match page.kvs.last() {
                Some(last) if page.more => {
                    key.clone_from(&last.key);
                    key.push(0);
                }
                _ => break,
            }
        }
        let mut listed: Vec<_> = entries.into_values().collect();
        listed.sort_by(|a, b| (a.kind, &a.key, a.revision).cmp(&(b.kind, &b.key, b.revision)));
        Ok(listed)
    }

    /// Adds the entry of a key, or a permit to it. Keys and values of other programs are skipped.
    fn add(&self, kv: &KeyValue, entries: &mut BTreeMap<(Kind, String, EntryId), ListedEntry>) {
        let Some(parsed) = self.layout.parse(&kv.key) else {
            return;
        };
        let ParsedKey {
            kind,
            key,
            id,
            permit,
        } = parsed;
        let Ok(value) = serde_json::from_slice(&kv.value) else {
            return;
        };
        let entry = entries
            .entry((kind, key.clone(), id))
            .or_insert(ListedEntry {
                kind,
                key,
                id,
                permits: 0,
                revision: kv.create_revision,
                value,
            });
        // A permit before it may have been deleted by another program.
        entry.permits = entry.permits.max(permit + 1);
    }
}

/// Returns each entry with whether it holds, from entries that are sorted by queue.
fn with_is_held(entries: &[ListedEntry]) -> impl Iterator<Item = (&ListedEntry, bool)> {
    let mut queue = None;
    let mut ahead = 0_u64;
    entries.iter().map(move |entry| {
        let name = Some((entry.kind, &entry.key));
        if queue != name {
            (queue, ahead) = (name, 0);
        }
        ahead += u64::from(entry.permits);
        (entry, ahead <= u64::from(entry.value.limit))
    })
}

/// Returns the holders among the entries of a key.
pub(super) fn holders(entries: &[ListedEntry]) -> Vec<Holder> {
    let holders = with_is_held(entries).filter(|(_, holds)| *holds);
    holders
        .map(|(entry, _)| Holder {
            token: token(entry.revision, entry.id),
            is_lock: entry.kind == Kind::Lock,
            permits: entry.permits,
            limit: entry.value.limit,
            host: entry.value.host.clone(),
            pid: entry.value.pid,
            program: entry.value.name.clone(),
            // A value of another program may be out of range.
            joined_at: UNIX_EPOCH
                .checked_add(Duration::from_millis(entry.value.since))
                .unwrap_or(UNIX_EPOCH),
        })
        .collect()
}

/// Returns the stats of all keys.
#[cfg(feature = "stats")]
pub(super) fn stats(entries: &[ListedEntry]) -> crate::Stats {
    let mut stats = crate::Stats::default();
    for (entry, holds) in with_is_held(entries) {
        let (permits, waiting) = if holds {
            (u64::from(entry.permits), 0)
        } else {
            (0, u64::from(entry.permits))
        };
        match entry.kind {
            Kind::Lock => match stats.locks.last_mut().filter(|lock| lock.key == entry.key) {
                Some(lock) => lock.waiters += waiting,
                None => stats.locks.push(crate::LockStats {
                    key: entry.key.clone(),
                    // The first entry of a lock holds it.
                    owner_conn_id: entry.revision.unsigned_abs(),
                    lease_expires_in_s: 0.0,
                    waiters: waiting,
                }),
            },
            Kind::Semaphore => {
                let last = stats.semaphores.last_mut();
                match last.filter(|semaphore| semaphore.key == entry.key) {
                    Some(semaphore) => {
                        semaphore.holders += permits;
                        semaphore.waiters += waiting;
                    }
                    None => stats.semaphores.push(crate::SemaphoreStats {
                        key: entry.key.clone(),
                        limit: entry.value.limit,
                        holders: permits,
                        waiters: waiting,
                    }),
                }
            }
        }
    }
    stats
}
