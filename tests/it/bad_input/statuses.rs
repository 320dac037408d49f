//! Error statuses of the server: each has an error and a predicate.

use std::sync::{Arc, Mutex};

use dflock::{AuthErrorKind, BoxStream, Clock, ConnectFuture, Connector, Enqueued, Error};
use tokio::net::TcpStream;

use super::reads_well;
use crate::scripted_server::*;

type Check = fn(&Error) -> bool;

const STATUSES: [(&str, Check, &str); 13] = [
    (
        "error",
        |e| matches!(e, Error::Refused { status, .. } if status == "error"),
        "`error`",
    ),
    (
        "error_auth",
        |e| {
            matches!(
                e,
                Error::Auth {
                    kind: AuthErrorKind::Missing,
                    ..
                }
            )
        },
        "auth token",
    ),
    (
        "error_max_locks",
        |e| matches!(e, Error::TooManyKeys { .. }),
        "--max-locks",
    ),
    (
        "error_max_waiters",
        |e| matches!(e, Error::TooManyWaiters { .. }),
        "--max-waiters",
    ),
    (
        "error_not_enqueued",
        |e| matches!(e, Error::Refused { status, .. } if status == "error_not_enqueued"),
        "error_not_enqueued",
    ),
    (
        "error_already_enqueued",
        |e| matches!(e, Error::Refused { .. }),
        "error_already_enqueued",
    ),
    (
        "error_lease_expired",
        |e| matches!(e, Error::LeaseExpired { .. }),
        "lease",
    ),
    (
        "error_draining",
        |e| matches!(e, Error::Draining { .. }),
        "shutting down",
    ),
    (
        "error_not_leader",
        |e| matches!(e, Error::NotLeader { leader: None, .. }),
        "does not lead",
    ),
    (
        "error_not_leader b:1",
        |e| matches!(e, Error::NotLeader { leader: Some(leader), .. } if leader == "b:1"),
        "b:1",
    ),
    (
        "error_of_2040",
        |e| matches!(e, Error::Refused { status, .. } if status == "error_of_2040"),
        "error_of_2040",
    ),
    (
        "error_of_2040 with detail",
        |e| matches!(e, Error::Refused { .. }),
        "with detail",
    ),
    ("error_0", |e| matches!(e, Error::Refused { .. }), "error_0"),
];

// Covers bugs G03, G04, N11, T32. Each status is tested with every command that acquires a slot.
// The connection remains usable.
#[tokio::test]
async fn every_status_has_a_distinct_error() {
    for (status, is_it, named) in STATUSES {
        let no = send(format!("{status}\n"));
        let scripted_server = ScriptedServer::memory([
            vec![expect(ACQUIRE), no.clone(), expect(TRY_ACQUIRE), no.clone()],
            vec![expect(ENQUEUE), no.clone()],
            vec![
                expect(ENQUEUE),
                send("queued\n"),
                expect(WAIT),
                no.clone(),
                expect_eof(),
            ],
        ]);
        let pool = scripted_server.pool();
        let acquire = pool.clone().acquire().await.unwrap_err();
        pool.try_acquire().await.unwrap_err();
        // A separate connection, because an old server may keep the previous one in a stale queue.
        let enqueue = scripted_server.pool().enqueue().await.unwrap_err();
        let Enqueued::Queued(queued) = scripted_server.pool().enqueue().await.unwrap() else {
            panic!("queued")
        };
        let wait = queued.wait().await.unwrap_err();
        for (error, operation) in [(acquire, "acquire"), (enqueue, "enqueue"), (wait, "wait")] {
            assert!(is_it(&error), "{status} to {operation}: {error:?}");
            assert_eq!(error.is_auth(), status == "error_auth");
            assert!(!error.is_timeout() && !error.is_lost());
            reads_well(
                &error,
                &[operation, "\"pool\"", scripted_server.address(), named],
            );
        }
        scripted_server.finish().await;
    }
}

// Covers bug N11.
#[tokio::test]
async fn error_auth_is_an_authentication_error_in_reply_to_every_request() {
    let scripted_server = ScriptedServer::memory([
        vec![expect(PING), send("error_auth\n")],
        vec![expect(STATS), send("error_auth\n")],
        vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RELEASE),
            send("error_auth\n"),
        ],
    ]);
    assert!(scripted_server.client().ping().await.unwrap_err().is_auth());
    assert!(
        scripted_server
            .client()
            .stats()
            .await
            .unwrap_err()
            .is_auth()
    );
    assert!(
        scripted_server
            .pool()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap_err()
            .is_auth()
    );
    scripted_server.finish().await;
}

/// Stats entry of a lock that has the same name as the semaphore.
const LOCK: &str =
    "\"locks\":[{\"key\":\"pool\",\"owner_conn_id\":1,\"lease_expires_in_s\":9.5,\"waiters\":0}]";

// Covers bug N6.
#[tokio::test]
async fn a_limit_mismatch_names_both_limits_and_a_solution() {
    let theirs = "ok {\"connections\":1,\"semaphores\":\
                  [{\"key\":\"pool\",\"limit\":7,\"holders\":1,\"waiters\":0}]}\n";
    let script = |reply: &str| {
        vec![
            expect(ACQUIRE),
            send("error_limit_mismatch\n"),
            expect(STATS),
            send(reply),
        ]
    };
    // The limit of this client is not the limit of the server.
    let same = format!("ok {{\"connections\":1,{LOCK}}}\n");
    let without_limit = ["ok {\"connections\":1}\n", "error\n", &same];
    let scripted_server = ScriptedServer::memory(
        [theirs]
            .iter()
            .chain(&without_limit)
            .map(|reply| script(reply)),
    );
    let error = scripted_server.pool().acquire().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::LimitMismatch {
                ours: 1,
                theirs: Some(7),
                ..
            }
        ),
        "{error:?}"
    );
    reads_well(
        &error,
        &[
            "acquire",
            "\"pool\"",
            scripted_server.address(),
            "limit 7, not 1",
            "on dflockd after a minute",
        ],
    );
    for stats in without_limit {
        let error = scripted_server.pool().acquire().await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::LimitMismatch {
                    ours: 1,
                    theirs: None,
                    ..
                }
            ),
            "{stats:?}: {error:?}"
        );
        reads_well(
            &error,
            &["another limit than 1", "on dflockd after a minute"],
        );
    }
    scripted_server.finish().await;
}

// Servers before v1.14 list a semaphore of limit 1 as a lock. Newer servers may have both, and
// report no limit while the semaphore is idle.
#[tokio::test]
async fn a_lock_of_the_same_name_counts_only_where_servers_list_semaphores_as_locks() {
    let idle = "\"idle_semaphores\":[{\"key\":\"pool\",\"idle_s\":2.5}]";
    for (lists, expected) in [(LOCK.to_owned(), Some(1)), (format!("{LOCK},{idle}"), None)] {
        let stats = format!("ok {{\"connections\":1,{lists}}}\n");
        let scripted_server = ScriptedServer::memory([vec![
            expect("sl\npool\n10 5\n"),
            send("error_limit_mismatch\n"),
            expect(STATS),
            send(&stats),
        ]]);
        let error = scripted_server
            .client()
            .semaphore("pool", 5)
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::LimitMismatch { ours: 5, theirs, .. } if theirs == expected),
            "{stats:?}: {error:?}"
        );
        scripted_server.finish().await;
    }
}

/// TCP connector that records every requested address.
#[derive(Clone, Default)]
struct Recorder {
    addresses: Arc<Mutex<Vec<String>>>,
}

impl Connector for Recorder {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        self.addresses.lock().unwrap().push(server.to_owned());
        Box::pin(async move { Ok(Box::new(TcpStream::connect(server).await?) as BoxStream) })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// Covers bug G29.
#[tokio::test]
async fn the_client_does_not_connect_to_a_leader_in_a_reply() {
    let no = || send("error_not_leader b:1\n");
    let scripted_server = ScriptedServer::tcp([
        vec![
            expect(ACQUIRE),
            no(),
            expect(ACQUIRE),
            no(),
            expect(PING),
            no(),
            expect_eof(),
        ],
        vec![expect(STATS), no(), expect_eof()],
        vec![expect(ENQUEUE), no()],
    ])
    .await;
    let recorder = Recorder::default();
    let client = scripted_server
        .builder()
        .connector(recorder.clone())
        .build()
        .unwrap();
    let pool = client.semaphore("pool", 1).unwrap();
    for _ in 0..2 {
        assert!(pool.clone().acquire().await.unwrap_err().is_not_leader());
    }
    // A ping accepts any reply.
    client.ping().await.unwrap();
    assert!(client.stats().await.unwrap_err().is_not_leader());
    assert!(pool.enqueue().await.unwrap_err().is_not_leader());
    assert_eq!(
        *recorder.addresses.lock().unwrap(),
        [scripted_server.address(); 3]
    );
    scripted_server.finish().await;
}

#[tokio::test]
async fn every_status_has_a_predicate() {
    let predicates: [(&str, Check); 7] = [
        ("error_auth", Error::is_auth),
        ("error_max_locks", Error::is_too_many_keys),
        ("error_max_waiters", Error::is_too_many_waiters),
        ("error_lease_expired", Error::is_lease_expired),
        ("error_draining", Error::is_draining),
        ("error_not_leader", Error::is_not_leader),
        ("error_limit_mismatch", Error::is_limit_mismatch),
    ];
    for (status, _) in predicates {
        let mut script = vec![expect(ACQUIRE), send(format!("{status}\n"))];
        if status == "error_limit_mismatch" {
            script.extend([expect(STATS), send("error\n")]);
        }
        let scripted_server = ScriptedServer::memory([script]);
        let error = scripted_server.pool().acquire().await.unwrap_err();
        for (name, is_it) in predicates {
            assert_eq!(is_it(&error), name == status, "{name}: {error:?}");
        }
        scripted_server.finish().await;
    }
}

// Covers bug G25. The server may still count the slot of that connection, which no task renews any
// more.
#[tokio::test(start_paused = true)]
async fn a_rejected_release_closes_the_connection() {
    for (status, is_done) in [
        ("error_draining", false),
        ("error_not_leader", false),
        ("error_of_2040", false),
        ("error", true),
        ("error_lease_expired", true),
    ] {
        let mut first = vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RELEASE),
            send(format!("{status}\n")),
        ];
        let next = vec![expect(PING), send(OK)];
        // A connection that holds no slot is reused for the next request.
        let scripts = if is_done {
            first.extend(next);
            vec![first]
        } else {
            first.push(expect_eof());
            vec![first, next]
        };
        let scripted_server = ScriptedServer::memory(scripts);
        let client = scripted_server.client();
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap_err();
        assert_eq!(error.is_lost(), is_done, "{status}: {error:?}");
        client.ping().await.unwrap();
        scripted_server.finish().await;
    }
}

// Terminals interpret control characters, and error messages are printed there.
#[tokio::test(start_paused = true)]
async fn errors_contain_no_control_characters_of_a_status() {
    for status in [
        "error_not_leader \x1b[2J\x07",
        "error_of_2040 \x1b]0;ours\x07",
        "error_not_leader \u{9b}2J",
    ] {
        let scripted_server = ScriptedServer::memory([vec![
            expect(ACQUIRE),
            send(format!("{status}\n")),
            expect_eof(),
        ]]);
        let error = scripted_server.pool().acquire().await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
        scripted_server.finish().await;
    }
}
