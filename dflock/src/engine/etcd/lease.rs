//! A lease of the session: all entries on it live as long as it is renewed.
//!
//! A renewal is a keep-alive and a linearizable read of the entries. Both must carry the same raft
//! term: a member that led an older term, and was stopped meanwhile, still answers keep-alives,
//! though the lease may have ended at the leader.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::cluster::{Cluster, Limits};
use super::entry::{EntryLease, EntrySession, LeaseDeadline};
use super::error::CallError;
use super::keys::{EntryId, EntryName, QueueName};
use super::messages::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, RangeRequest, Request, Response,
    TxnRequest,
};
use crate::clock::{Clock, Instant};
use crate::wire::LeaseSeconds;

/// The most permits of one lease, each of which is one key. A renewal reads all of them, and the end
/// of the lease deletes them in one transaction.
const MAX_PERMITS: u32 = 500;

/// The most keys that one transaction reads. etcd allows 128.
const MAX_READS: usize = 100;

/// The most abandoned entries that a lease watches. A lease with more takes no new entries.
const MAX_ABANDONED: usize = 1000;

/// A lease that the cluster granted to this client.
#[derive(Debug)]
pub(super) struct SessionLease {
    id: i64,
    /// The lease that was asked for.
    pub(super) requested: Duration,
    pub(super) deadline: Arc<LeaseDeadline>,
    /// The entries on the lease by their ids.
    entries: RefCell<HashMap<EntryId, LeaseEntry>>,
    /// The number of permits of these entries.
    permits: Cell<u32>,
    /// Entries that were given up although an attempt to make them may still be under way. If one
    /// appears it is deleted.
    abandoned: RefCell<HashMap<EntryId, EntryName>>,
    /// Notified when a renewal is due at once, the last entry has left, or the lease has ended.
    changed: Notify,
    renewal_requested: Cell<bool>,
    /// The lease takes no entries, and is revoked when its last entry has left.
    retired: Cell<bool>,
}

/// An entry on a lease.
#[derive(Debug)]
struct LeaseEntry {
    owner: Rc<EntrySession>,
    lease: Arc<EntryLease>,
    name: EntryName,
    /// The create revision, once the entry was made.
    revision: Option<i64>,
}

/// The result of a renewal.
pub(super) enum Renewal {
    /// The lease lives on. The entries were made by requests that had been given up.
    Renewed(Vec<EntryName>),
    /// The lease has ended.
    Ended,
    /// The leader changed during the renewal, so it does not count.
    TermChanged,
}

impl SessionLease {
    /// Requests a lease of `requested`, in whole seconds. The cluster may grant a longer one.
    pub(super) async fn grant(
        cluster: &Cluster,
        clock: &Clock,
        requested: Duration,
        limits: Limits,
    ) -> Result<Self, CallError> {
        let ttl = i64::try_from(requested.as_secs()).unwrap_or(i64::MAX);
        let sent_at = clock.now();
        // An attempt whose answer was lost leaves a lease that ends by itself.
        let outcome = cluster.call(&LeaseGrantRequest { ttl }, limits).await?;
        let granted = Duration::from_secs(u64::try_from(outcome.response.ttl).unwrap_or(0));
        let ttl = LeaseSeconds::new(granted)
            .ok_or_else(|| CallError::malformed(outcome.member, "lease"))?;
        Ok(Self {
            id: outcome.response.id,
            requested,
            deadline: Arc::new(LeaseDeadline::new(ttl, sent_at)),
            entries: RefCell::default(),
            permits: Cell::new(0),
            abandoned: RefCell::default(),
            changed: Notify::new(),
            renewal_requested: Cell::new(false),
            retired: Cell::new(false),
        })
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Returns whether the lease takes another entry of so many `permits`.
    pub(super) fn has_room(&self, permits: u32) -> bool {
        !self.deadline.has_ended()
            && !self.retired.get()
            && self.permits.get() + permits <= MAX_PERMITS
            && self.abandoned.borrow().len() < MAX_ABANDONED
    }

    pub(super) fn is_unused(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Adds an entry that is about to be made. Returns its lease.
    pub(super) fn insert(&self, name: EntryName, owner: Rc<EntrySession>) -> Arc<EntryLease> {
        let lease = Arc::new(EntryLease::new(self.deadline.clone()));
        self.permits.set(self.permits.get() + name.permits);
        let id = name.id;
        let entry = LeaseEntry {
            owner,
            lease: lease.clone(),
            name,
            revision: None,
        };
        self.entries.borrow_mut().insert(id, entry);
        lease
    }

    /// Records that an entry was made at `revision`. From now on renewals read it.
    pub(super) fn set_created(&self, id: EntryId, revision: i64) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(&id) {
            entry.revision = Some(revision);
        }
    }

    pub(super) fn remove(&self, id: EntryId) {
        if let Some(entry) = self.entries.borrow_mut().remove(&id) {
            self.permits.set(self.permits.get() - entry.name.permits);
        }
        if self.is_unused() {
            self.changed.notify_one();
        }
    }

    /// Watches an entry that was given up although a request to make it may be under way.
    pub(super) fn abandon(&self, entry: EntryName) {
        self.abandoned.borrow_mut().insert(entry.id, entry);
    }

    /// Takes no more entries, so that the lease is revoked when its last entry has left.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.changed.notify_one();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Asks for a renewal now.
    pub(super) fn request_renewal(&self) {
        self.renewal_requested.set(true);
        self.changed.notify_one();
    }

    /// Returns whether a renewal was requested since the last call.
    pub(super) fn take_request(&self) -> bool {
        self.renewal_requested.replace(false)
    }

    /// Completes after the next request or the leave of the last entry.
    pub(super) async fn wait_for_change(&self) {
        self.changed.notified().await;
    }

    /// Marks the lease as ended, and wakes the tasks of its entries.
    pub(super) fn end(&self) {
        self.deadline.end();
        self.for_each_entry(EntrySession::notify);
        self.changed.notify_one();
    }

    fn for_each_entry(&self, act: impl Fn(&EntrySession)) {
        for entry in self.entries.borrow().values() {
            act(&entry.owner);
        }
    }

    /// Renews the lease once.
    pub(super) async fn renew(
        &self,
        cluster: &Cluster,
        clock: &Clock,
        probe: &QueueName,
        limits: Limits,
    ) -> Result<Renewal, CallError> {
        let sent_at = clock.now();
        let request = LeaseKeepAliveRequest { id: self.id };
        let response = cluster.keep_alive(request, limits).await?;
        let term = response.header.map_or(0, |header| header.raft_term);
        let checked = self.check_entries(cluster, probe, term, limits).await?;
        let Some(appeared) = checked else {
            return Ok(Renewal::TermChanged);
        };
        if response.ttl <= 0 {
            return Ok(Renewal::Ended);
        }
        // After the deletions were recorded: it must not extend an entry that is gone.
        self.deadline.renew(sent_at);
        self.for_each_entry(EntrySession::wake_owner);
        Ok(Renewal::Renewed(appeared))
    }

    /// Reads the entries, marks those that were deleted, and returns abandoned ones that exist.
    /// `None` if a response has another term than `term`.
    async fn check_entries(
        &self,
        cluster: &Cluster,
        probe: &QueueName,
        term: u64,
        limits: Limits,
    ) -> Result<Option<Vec<EntryName>>, CallError> {
        let reads = self.reads(probe);
        let mut appeared = Vec::new();
        for chunk in reads.chunks(MAX_READS) {
            let get = |read: &Read| {
                Request::Range(RangeRequest {
                    key: read.key.clone(),
                    keys_only: true,
                    ..RangeRequest::default()
                })
                .into()
            };
            let request = TxnRequest {
                success: chunk.iter().map(get).collect(),
                ..TxnRequest::default()
            };
            let outcome = cluster.call(&request, limits).await?;
            let response = outcome.response;
            if response
                .header
                .is_none_or(|header| header.raft_term != term)
            {
                return Ok(None);
            }
            let malformed = || CallError::malformed(outcome.member.clone(), "renewal");
            if response.responses.len() != chunk.len() {
                return Err(malformed());
            }
            for (read, op) in chunk.iter().zip(response.responses) {
                let Some(Response::Range(range)) = op.response else {
                    return Err(malformed());
                };
                let created = range.kvs.first().map(|kv| kv.create_revision);
                match &read.expected {
                    Expected::Created { id, revision } if created != Some(*revision) => {
                        self.mark_deleted(*id);
                    }
                    Expected::Absent(entry) if created.is_some() => appeared.push(entry.clone()),
                    _ => {}
                }
            }
        }
        Ok(Some(appeared))
    }

    fn mark_deleted(&self, id: EntryId) {
        if let Some(entry) = self.entries.borrow().get(&id) {
            entry.lease.set_deleted();
            entry.owner.notify();
        }
    }

    /// Returns the keys to read; at least one, for the term.
    fn reads(&self, probe: &QueueName) -> Vec<Read> {
        let mut reads = Vec::new();
        for (id, entry) in &*self.entries.borrow() {
            if let Some(revision) = entry.revision {
                reads.extend(entry.name.keys().map(|key| Read {
                    key,
                    expected: Expected::Created { id: *id, revision },
                }));
            }
        }
        for entry in self.abandoned.borrow().values() {
            reads.push(Read {
                key: entry.first_key(),
                expected: Expected::Absent(entry.clone()),
            });
        }
        if reads.is_empty() {
            reads.push(Read {
                key: probe.limit(),
                expected: Expected::Anything,
            });
        }
        reads
    }

    /// Ends the lease in the cluster, and with it all its entries.
    pub(super) async fn revoke(&self, cluster: &Cluster, limits: Limits) -> Result<(), CallError> {
        let revoked = cluster
            .call(&LeaseRevokeRequest { id: self.id }, limits)
            .await;
        match revoked {
            Err(error) if !error.is_lease_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the time at which the slots on the lease are lost unless it is renewed.
    pub(super) fn expires_at(&self, clock_drift: f64) -> Instant {
        self.deadline.expires_at(clock_drift)
    }
}

/// A key that a renewal reads.
struct Read {
    key: Vec<u8>,
    expected: Expected,
}

enum Expected {
    /// The entry with this id, created at this revision.
    Created {
        id: EntryId,
        revision: i64,
    },
    /// No entry.
    Absent(EntryName),
    Anything,
}
