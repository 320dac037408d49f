//! Tests on a member that answers as a script says, for what a real member does rarely.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::http::{HeaderMap, HeaderValue, Response as HttpResponse};
use prost::Message;
use tokio::io::DuplexStream;
use tokio::time::sleep;
use tonic::Code;

use super::*;
use crate::clock::{Clock, Instant};
use crate::engine::dflockd::{BoxStream, ConnectFuture, Connector};
use crate::engine::etcd::messages::{
    Call, Event, KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseRevokeResponse, PutResponse, RangeRequest, RangeResponse,
    Response, ResponseHeader, ResponseOp, StatusRequest, StatusResponse, TxnResponse, WatchRequest,
    WatchResponse,
};

/// The create revision of the entries that are made.
const MADE: i64 = 10;

/// A member, and what it answers.
#[derive(Default)]
struct Script {
    /// The term in the answers to keep-alives.
    keep_alive_term: AtomicU64,
    /// The term in all other answers.
    term: AtomicU64,
    keep_alives: AtomicU64,
    keep_alive_delay: AtomicU64,
    /// The time at which the last keep-alive was received, in nanoseconds.
    keep_alive_at: AtomicU64,
    /// The length of the queue with a new entry.
    length: AtomicU64,
    /// The number of reads of the queue.
    reads: AtomicU64,
    /// The entry before the new one has left.
    is_free: AtomicBool,
    /// Every read of a queue takes so long, in milliseconds.
    read_delay: AtomicU64,
    /// The new entry exists already when it is made, as after a request whose answer was lost.
    exists: AtomicBool,
    /// Renewals find that the entry was deleted.
    is_deleted: AtomicBool,
    /// The number of leases that were granted.
    grants: AtomicU64,
    /// The next read of the clock panics.
    clock_panics: AtomicBool,
    /// So many requests to join are refused, as on a lease that is not known.
    refusals: AtomicU64,
}

struct Scripted(Arc<Script>);

impl Connector for Scripted {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        if server.starts_with("dead") {
            return Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) });
        }
        let (client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(self.0.clone(), server));
        Box::pin(async { Ok(Box::new(client) as BoxStream) })
    }

    fn clock(&self) -> Clock {
        let script = self.0.clone();
        Clock::Custom(Arc::new(move || {
            let panics = script.clock_panics.swap(false, Ordering::SeqCst);
            assert!(!panics, "a panic of the clock, which the test expects");
            Duration::from_nanos(Clock::Boottime.now().as_nanos())
        }))
    }
}

fn scripted() -> (Session, Arc<Script>) {
    scripted_members(&["member:1"])
}

fn scripted_members(members: &[&str]) -> (Session, Arc<Script>) {
    scripted_within(members, SECOND * 5)
}

/// Returns a session whose requests may take `request_timeout`.
fn scripted_within(members: &[&str], request_timeout: Duration) -> (Session, Arc<Script>) {
    let script = Arc::new(Script::default());
    for term in [&script.term, &script.keep_alive_term] {
        term.store(5, Ordering::SeqCst);
    }
    script.length.store(1, Ordering::SeqCst);
    let session = Session::start(Config {
        members: members.iter().map(|member| (*member).into()).collect(),
        prefix: String::new(),
        connector: Arc::new(Scripted(script.clone())),
        tls: None,
        user: None,
        request_timeout,
        clock_drift: 0.0,
    });
    (session.unwrap(), script)
}

async fn serve(script: Arc<Script>, stream: DuplexStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let script = script.clone();
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let mut body = request.into_body();
            let mut bytes = Vec::new();
            while bytes.len() < 5 {
                bytes.extend_from_slice(&body.data().await.unwrap().unwrap());
            }
            script.answer(&path, &bytes[5..], respond).await;
            // A watch lives as long as its requests.
            while body.data().await.is_some() {}
        });
    }
}

impl Script {
    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: 1,
            member_id: 1,
            revision: MADE,
            raft_term: self.term.load(Ordering::SeqCst),
        }
    }

    /// Returns whether the next request to join is refused.
    fn refuses(&self) -> bool {
        let left = |left: u64| left.checked_sub(1);
        self.refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
            .is_ok()
    }

    async fn answer(&self, path: &str, request: &[u8], mut respond: SendResponse<Bytes>) {
        match path {
            StatusRequest::METHOD => reply(
                &mut respond,
                &StatusResponse {
                    header: Some(self.header()),
                    version: "3.5.13".to_owned(),
                },
            ),
            LeaseGrantRequest::METHOD => {
                self.grants.fetch_add(1, Ordering::SeqCst);
                reply(
                    &mut respond,
                    &LeaseGrantResponse {
                        header: Some(self.header()),
                        id: 7,
                        ttl: 10,
                    },
                );
            }
            LeaseKeepAliveRequest::METHOD => {
                self.keep_alive_at
                    .store(Clock::Boottime.now().as_nanos(), Ordering::SeqCst);
                let delay = self.keep_alive_delay.load(Ordering::SeqCst);
                sleep(Duration::from_millis(delay)).await;
                let header = ResponseHeader {
                    raft_term: self.keep_alive_term.load(Ordering::SeqCst),
                    ..self.header()
                };
                reply(
                    &mut respond,
                    &LeaseKeepAliveResponse {
                        header: Some(header),
                        ttl: 10,
                    },
                );
                self.keep_alives.fetch_add(1, Ordering::SeqCst);
            }
            TxnRequest::METHOD if is_join(request) && self.refuses() => {
                refuse(
                    respond,
                    Code::NotFound,
                    "etcdserver: requested lease not found",
                );
            }
            TxnRequest::METHOD => reply(&mut respond, &self.transact(request)),
            RangeRequest::METHOD => {
                sleep(Duration::from_millis(
                    self.read_delay.load(Ordering::SeqCst),
                ))
                .await;
                reply(&mut respond, &self.read());
                self.reads.fetch_add(1, Ordering::SeqCst);
            }
            LeaseRevokeRequest::METHOD => reply(
                &mut respond,
                &LeaseRevokeResponse {
                    header: Some(self.header()),
                },
            ),
            WatchRequest::METHOD => self.watch(&mut respond).await,
            other => panic!("{other}"),
        }
    }

    /// Makes an entry, or reads the entries of a renewal.
    fn transact(&self, request: &[u8]) -> TxnResponse {
        let request = TxnRequest::decode(request).unwrap();
        if !request.compare.is_empty() && self.exists.load(Ordering::SeqCst) {
            return self.existing();
        }
        let response = |op: &_| match op {
            Some(Request::Range(range)) if range.count_only => Response::Range(RangeResponse {
                count: self.length.load(Ordering::SeqCst).try_into().unwrap(),
                ..RangeResponse::default()
            }),
            Some(Request::Range(_)) if self.is_deleted.load(Ordering::SeqCst) => {
                Response::Range(RangeResponse::default())
            }
            Some(Request::Range(range)) => Response::Range(RangeResponse {
                kvs: vec![entry(&range.key, MADE)],
                ..RangeResponse::default()
            }),
            _ => Response::Put(PutResponse {}),
        };
        let ops = request.success.iter().map(|op| ResponseOp {
            response: Some(response(&op.request)),
        });
        TxnResponse {
            header: Some(self.header()),
            succeeded: true,
            responses: ops.collect(),
        }
    }

    /// Answers that the entry exists.
    fn existing(&self) -> TxnResponse {
        let range = |kvs| ResponseOp {
            response: Some(Response::Range(RangeResponse {
                kvs,
                ..RangeResponse::default()
            })),
        };
        let read = TxnResponse {
            responses: vec![
                range(Vec::new()),
                range(vec![entry(b"first", 1)]),
                range(vec![entry(b"own", MADE)]),
            ],
            ..TxnResponse::default()
        };
        TxnResponse {
            header: Some(self.header()),
            succeeded: false,
            responses: vec![ResponseOp {
                response: Some(Response::Txn(read)),
            }],
        }
    }

    fn read(&self) -> RangeResponse {
        let mut kvs = vec![entry(b"own", MADE)];
        if !self.is_free.load(Ordering::SeqCst) {
            kvs.push(entry(b"first", 1));
        }
        let header = ResponseHeader {
            revision: MADE + 10,
            ..self.header()
        };
        RangeResponse {
            header: Some(header),
            kvs,
            ..RangeResponse::default()
        }
    }

    /// Tells twice that the first entry was deleted.
    async fn watch(&self, respond: &mut SendResponse<Bytes>) {
        let mut stream = respond.send_response(grpc_headers(), false).unwrap();
        for _ in 0..2 {
            let event = Event {
                kv: Some(KeyValue {
                    mod_revision: MADE + 1,
                    ..KeyValue::default()
                }),
                prev_kv: Some(entry(b"first", 1)),
            };
            let response = WatchResponse {
                header: Some(self.header()),
                watch_id: 1,
                events: vec![event],
                ..WatchResponse::default()
            };
            stream.send_data(frame(&response), false).unwrap();
        }
        std::future::pending::<()>().await;
    }
}

fn entry(key: &[u8], create_revision: i64) -> KeyValue {
    KeyValue {
        key: key.to_vec(),
        create_revision,
        ..KeyValue::default()
    }
}

fn grpc_headers() -> HttpResponse<()> {
    let response = HttpResponse::builder().header("content-type", "application/grpc");
    response.body(()).unwrap()
}

fn frame(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

fn reply(respond: &mut SendResponse<Bytes>, message: &impl Message) {
    let mut stream = respond.send_response(grpc_headers(), false).unwrap();
    stream.send_data(frame(message), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers).unwrap();
}

fn refuse(mut respond: SendResponse<Bytes>, code: Code, message: &'static str) {
    let mut response = grpc_headers();
    let headers = response.headers_mut();
    headers.insert("grpc-status", (code as i32).into());
    headers.insert("grpc-message", HeaderValue::from_static(message));
    respond.send_response(response, true).unwrap();
}

/// Returns whether a transaction makes an entry.
fn is_join(request: &[u8]) -> bool {
    let request = TxnRequest::decode(request).unwrap();
    let mut ops = request.success.iter().map(|op| &op.request);
    ops.any(|op| matches!(op, Some(Request::Put(_))))
}

async fn until(mut check: impl FnMut() -> bool) {
    let waited = async {
        while !check() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, waited).await.unwrap();
}

// etcd#15247, #12528: a stopped leader of the past still answers keep-alives.
#[tokio::test]
async fn a_keep_alive_of_another_term_renews_nothing() {
    let (session, script) = scripted();
    let entry = session.join(spec("term", 1));
    let lease = held(&entry).await.lease;
    let granted_at = lease.renewed_at();
    script.term.store(6, Ordering::SeqCst);
    entry.request_renewal();
    until(|| script.keep_alives.load(Ordering::SeqCst) > 3).await;
    assert_eq!(lease.renewed_at(), granted_at);
    script.keep_alive_term.store(6, Ordering::SeqCst);
    until(|| lease.renewed_at() > granted_at).await;
}

#[tokio::test]
async fn a_renewal_counts_from_before_its_request() {
    let (session, script) = scripted();
    let entry = session.join(spec("sent", 1));
    let lease = held(&entry).await.lease;
    let granted_at = lease.renewed_at();
    script.keep_alive_delay.store(200, Ordering::SeqCst);
    entry.request_renewal();
    until(|| lease.renewed_at() > granted_at).await;
    let received_at = Instant::from_nanos(script.keep_alive_at.load(Ordering::SeqCst));
    assert!(lease.deadline.renewed_at() <= received_at);
}

// databend #18003: a duplicated event that leaks a permit. etcd#18089: events are hints.
#[tokio::test]
async fn a_watch_event_alone_grants_nothing() {
    let (session, script) = scripted();
    script.length.store(2, Ordering::SeqCst);
    let entry = session.join(spec("event", 1));
    queued(&entry).await;
    until(|| script.reads.load(Ordering::SeqCst) > 0).await;
    sleep(Duration::from_millis(100)).await;
    assert!(
        matches!(entry.phase(), Phase::Queued { .. }),
        "{:?}",
        entry.phase()
    );
    // Only a read grants, at the latest the one that is made anyway.
    script.is_free.store(true, Ordering::SeqCst);
    held(&entry).await;
}

#[tokio::test]
async fn a_renewal_does_not_extend_an_entry_that_it_finds_deleted() {
    let (session, script) = scripted();
    let entry = session.join(spec("deleted", 1));
    let lease = held(&entry).await.lease;
    let granted_at = lease.deadline.renewed_at();
    script.is_deleted.store(true, Ordering::SeqCst);
    entry.request_renewal();
    until(|| lease.deadline.renewed_at() > granted_at).await;
    assert_eq!(lease.renewed_at(), None);
    let end = ended(&entry).await;
    assert!(matches!(end, End::Revoked), "{end:?}");
}

#[tokio::test]
async fn a_join_that_was_repeated_has_no_position_before_the_queue_is_read() {
    let (session, script) = scripted();
    script.exists.store(true, Ordering::SeqCst);
    script.read_delay.store(200, Ordering::SeqCst);
    let entry = session.join(spec("exists", 1));
    assert_eq!(queued(&entry).await, 1);
}

#[tokio::test]
async fn a_try_whose_join_was_repeated_does_not_wait() {
    let (session, script) = scripted();
    script.exists.store(true, Ordering::SeqCst);
    // The queue is empty when it is read first.
    script.length.store(0, Ordering::SeqCst);
    let started = std::time::Instant::now();
    let end = ended(&session.join(spec_within("try", 1, Wait::Never))).await;
    assert!(matches!(end, End::TimedOut), "{end:?}");
    assert!(started.elapsed() < SECOND * 3, "{:?}", started.elapsed());
}

// It may be a member of another cluster that is in the list by mistake.
#[tokio::test]
async fn a_minority_of_the_members_grants_nothing() {
    let (session, script) = scripted_members(&["dead:1", "dead:2", "member:1"]);
    let entry = session.join(spec_within("minority", 1, Wait::AtMost(SECOND / 10)));
    let end = ended(&entry).await;
    assert!(matches!(end, End::Failed(_)), "{end:?}");
    assert_eq!(script.grants.load(Ordering::SeqCst), 0);
    let (session, _script) = scripted_members(&["dead:1", "member:1", "member:2"]);
    held(&session.join(spec("majority", 1))).await;
}

#[tokio::test]
async fn a_lease_has_at_most_500_permits() {
    let (session, script) = scripted();
    script.length.store(100, Ordering::SeqCst);
    let mut entries = Vec::new();
    for leases in [1, 1, 1, 1, 1, 2] {
        let entry = session.join(EntrySpec {
            permits: 100,
            ..spec("permits", 100)
        });
        held(&entry).await;
        entries.push(entry);
        assert_eq!(script.grants.load(Ordering::SeqCst), leases);
    }
}

// A refusal does not carry the id of the cluster, so it may come from a foreign member.
#[tokio::test]
async fn a_join_that_is_refused_for_its_lease_ends_no_other_hold() {
    let (session, script) = scripted();
    let holder = session.join(spec("holder", 1));
    held(&holder).await;
    script.refusals.store(1, Ordering::SeqCst);
    let entry = session.join(spec_within("refused", 2, Wait::Never));
    held(&entry).await;
    assert_eq!(script.grants.load(Ordering::SeqCst), 2);
    assert!(
        matches!(holder.phase(), Phase::Held(_)),
        "{:?}",
        holder.phase()
    );
}

#[tokio::test]
async fn a_panic_in_code_of_the_user_ends_the_session() {
    let (session, script) = scripted();
    let holder = session.join(spec("holder", 1));
    held(&holder).await;
    script.clock_panics.store(true, Ordering::SeqCst);
    let entry = session.join(spec("entry", 1));
    for entry in [holder, entry] {
        let end = ended(&entry).await;
        assert!(matches!(end, End::SessionEnded), "{end:?}");
    }
    until(|| session.has_ended()).await;
}

#[tokio::test]
async fn a_short_wait_does_not_last_for_the_check_of_a_longer_one() {
    let (session, _script) = scripted_members(&["dead:1", "dead:2", "member:1"]);
    let long = session.join(spec_within("key", 1, Wait::AtMost(SECOND * 10)));
    let short = session.join(spec_within("key", 1, Wait::AtMost(SECOND / 10)));
    let end = ended(&short).await;
    assert!(matches!(end, End::Failed(_)), "{end:?}");
    assert!(matches!(long.phase(), Phase::Joining), "{:?}", long.phase());
}

#[tokio::test]
async fn an_enqueue_fails_if_its_queue_cannot_be_read() {
    let (session, script) = scripted_within(&["member:1"], SECOND);
    script.exists.store(true, Ordering::SeqCst);
    script.read_delay.store(60_000, Ordering::SeqCst);
    let end = ended(&session.join(spec("unread", 1))).await;
    assert!(matches!(end, End::Failed(_)), "{end:?}");
}

#[tokio::test]
async fn a_wait_whose_leases_end_again_and_again_ends_in_time() {
    let (session, script) = scripted();
    script.refusals.store(u64::MAX, Ordering::SeqCst);
    let entry = session.join(spec_within("refused", 2, Wait::AtMost(SECOND / 10)));
    let end = ended(&entry).await;
    assert!(matches!(end, End::TimedOut), "{end:?}");
}
