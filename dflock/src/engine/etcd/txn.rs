//! The transactions of a queue, and the meaning of their responses. Without IO.

use serde::{Deserialize, Serialize};

use super::keys::{EntryName, QueueName};
use super::messages::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, Response,
    ResponseOp, SortOrder, SortTarget, TxnRequest, TxnResponse,
};

/// The largest number of permits for which a transaction may contain another one. etcd allows 128
/// operations for both together.
const MAX_NESTED_PERMITS: u32 = 60;

/// The value of an entry, JSON. Operators read it, and other programs may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryValue {
    pub(super) limit: u32,
    #[serde(default)]
    pub(super) host: String,
    #[serde(default)]
    pub(super) pid: u32,
    /// Milliseconds since 1970 on the clock of the client, when it joined.
    #[serde(default)]
    pub(super) since: u64,
    /// The file name of the program.
    #[serde(default)]
    pub(super) name: String,
}

/// An entry to be made.
#[derive(Clone, Debug)]
pub(super) struct Join<'a> {
    pub(super) name: &'a EntryName,
    pub(super) lease: i64,
    pub(super) value: &'a EntryValue,
}

/// The reason for which all entries of a queue have the limit of a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// The limit that is cached beside the queue is the same, or the queue is empty.
    CachedOrEmpty,
    /// The limit that is cached beside the queue is the same.
    Cached,
    /// The queue is empty.
    Empty,
    /// The first entry has the same limit, and is still there.
    First {
        key: Vec<u8>,
        create_revision: i64,
        /// The revision of the cached limit; 0 if it has gone with its lease.
        limit_revision: i64,
    },
}

/// The result of a [`Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JoinResult {
    /// The entry was created at this revision, behind so many permits.
    Created { revision: i64, ahead: u64 },
    /// The entry exists: an earlier attempt had succeeded.
    Exists { revision: i64 },
    /// The same join may succeed on another basis.
    Retry(Basis),
    /// The entries of the key have another limit.
    LimitMismatch { theirs: u32 },
    /// The first key of the queue was not written by this library.
    ForeignValue { key: Vec<u8> },
}

impl Basis {
    /// Returns the basis of the first attempt of an entry.
    pub(super) fn first(permits: u32) -> Self {
        if permits <= MAX_NESTED_PERMITS {
            Self::CachedOrEmpty
        } else {
            Self::Cached
        }
    }
}

impl Join<'_> {
    /// Returns the transaction that makes the entry if `basis` holds, and otherwise reads the
    /// reason for which it does not.
    pub(super) fn request(&self, basis: &Basis) -> TxnRequest {
        let limit_key = self.name.queue.limit();
        let limit = self.value.limit.to_string().into_bytes();
        let not_made = Compare::create_revision(self.name.first_key(), 0);
        let cached = Compare::value(limit_key.clone(), limit.clone());
        let (start, end) = self.name.queue.range();
        let empty = Compare::empty_range(start, end);
        let compare = match basis {
            Basis::CachedOrEmpty | Basis::Cached => vec![cached, not_made],
            Basis::Empty => vec![empty.clone()],
            Basis::First {
                key,
                create_revision,
                limit_revision,
            } => vec![
                Compare::create_revision(key.clone(), *create_revision),
                Compare::mod_revision(limit_key, *limit_revision),
                not_made,
            ],
        };
        let failure = if *basis == Basis::CachedOrEmpty {
            vec![
                Request::Txn(TxnRequest {
                    compare: vec![empty],
                    success: self.make(&limit),
                    failure: self.read(),
                })
                .into(),
            ]
        } else {
            self.read()
        };
        TxnRequest {
            compare,
            success: self.make(&limit),
            failure,
        }
    }

    /// Returns the meaning of the response to [`request`](Self::request). `None` if it belongs to
    /// another request.
    pub(super) fn result(&self, response: TxnResponse) -> Option<JoinResult> {
        let revision = response.header.map_or(0, |header| header.revision);
        self.parse(response, revision)
    }

    fn parse(&self, response: TxnResponse, revision: i64) -> Option<JoinResult> {
        let mut responses = response.responses.into_iter().map(|op| op.response);
        if response.succeeded {
            let Some(Some(Response::Range(range))) = responses.next_back() else {
                return None;
            };
            let ahead = u64::try_from(range.count).ok()?;
            let ahead = ahead.checked_sub(u64::from(self.name.permits))?;
            return Some(JoinResult::Created { revision, ahead });
        }
        let limit = match responses.next()?? {
            Response::Txn(nested) => return self.parse(nested, revision),
            Response::Range(limit) => limit.kvs.into_iter().next(),
            _ => return None,
        };
        let Some(Response::Range(first)) = responses.next()? else {
            return None;
        };
        let Some(Response::Range(own)) = responses.next()? else {
            return None;
        };
        if let Some(own) = own.kvs.first() {
            return Some(JoinResult::Exists {
                revision: own.create_revision,
            });
        }
        let Some(first) = first.kvs.into_iter().next() else {
            return Some(JoinResult::Retry(Basis::Empty));
        };
        let Ok(EntryValue { limit: theirs, .. }) = serde_json::from_slice(&first.value) else {
            return Some(JoinResult::ForeignValue { key: first.key });
        };
        if theirs != self.value.limit {
            return Some(JoinResult::LimitMismatch { theirs });
        }
        Some(JoinResult::Retry(Basis::First {
            key: first.key,
            create_revision: first.create_revision,
            limit_revision: limit.map_or(0, |limit| limit.mod_revision),
        }))
    }

    /// Returns the operations that make the entry and count the queue.
    fn make(&self, limit: &[u8]) -> Vec<RequestOp> {
        let put = |key, value| {
            Request::Put(PutRequest {
                key,
                value,
                lease: self.lease,
            })
            .into()
        };
        // Serializing numbers and text cannot fail.
        let value = serde_json::to_vec(self.value).unwrap_or_default();
        let mut ops = vec![put(self.name.queue.limit(), limit.to_vec())];
        let keys = self.name.keys();
        ops.extend(keys.map(|key| put(key, value.clone())));
        ops.push(count(&self.name.queue));
        ops
    }

    /// Returns the operations that read the limit, the first entry, and this entry.
    fn read(&self) -> Vec<RequestOp> {
        vec![
            get(self.name.queue.limit()),
            first(&self.name.queue),
            Request::Range(RangeRequest {
                key: self.name.first_key(),
                keys_only: true,
                ..RangeRequest::default()
            })
            .into(),
        ]
    }
}

/// Returns the transaction that deletes an entry. It succeeds if all permits were made at
/// `revision`, or without a revision.
///
/// It deletes what is there in either case: the ids are unique, and of an entry of which one permit
/// was revoked, the others must be freed as well.
pub(super) fn delete_entry(entry: &EntryName, revision: Option<i64>) -> TxnRequest {
    let delete = |key| {
        Request::DeleteRange(DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        })
        .into()
    };
    let compare = |revision| {
        let keys = entry.keys();
        keys.map(move |key| Compare::create_revision(key, revision))
            .collect()
    };
    TxnRequest {
        compare: revision.map_or_else(Vec::new, compare),
        success: entry.keys().map(delete).collect(),
        failure: entry.keys().map(delete).collect(),
    }
}

/// Returns whether the transaction of [`delete_entry`] has deleted a key.
pub(super) fn has_deleted(response: &TxnResponse) -> bool {
    response
        .responses
        .iter()
        .any(|op| matches!(&op.response, Some(Response::DeleteRange(range)) if range.deleted > 0))
}

/// Returns the transaction that reads the first entry and the length of a queue.
pub(super) fn peek(queue: &QueueName) -> TxnRequest {
    TxnRequest {
        success: vec![first(queue), count(queue)],
        ..TxnRequest::default()
    }
}

/// Returns the limit of the first entry and the length of a queue, from the response to [`peek`].
pub(super) fn parse_peek(response: TxnResponse) -> Option<(Option<u32>, u64)> {
    let [first, count] = <[ResponseOp; 2]>::try_from(response.responses).ok()?;
    let (Some(Response::Range(first)), Some(Response::Range(count))) =
        (first.response, count.response)
    else {
        return None;
    };
    let limit = first.kvs.first().and_then(|first| {
        let value: EntryValue = serde_json::from_slice(&first.value).ok()?;
        Some(value.limit)
    });
    Some((limit, u64::try_from(count.count).ok()?))
}

/// Returns the request for the keys of a queue that were created up to `max_create_revision`.
pub(super) fn entries(queue: &QueueName, max_create_revision: i64) -> RangeRequest {
    let (key, range_end) = queue.range();
    RangeRequest {
        key,
        range_end,
        keys_only: true,
        max_create_revision,
        ..RangeRequest::default()
    }
}

fn get(key: Vec<u8>) -> RequestOp {
    Request::Range(RangeRequest {
        key,
        ..RangeRequest::default()
    })
    .into()
}

/// Reads the first entry of a queue, by create revision.
fn first(queue: &QueueName) -> RequestOp {
    let (key, range_end) = queue.range();
    Request::Range(RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    })
    .into()
}

fn count(queue: &QueueName) -> RequestOp {
    let (key, range_end) = queue.range();
    Request::Range(RangeRequest {
        key,
        range_end,
        count_only: true,
        ..RangeRequest::default()
    })
    .into()
}
