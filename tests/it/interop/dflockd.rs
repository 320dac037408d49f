//! Rust locks on the Python `dflockd`, which supports only locks and closes the connection on
//! unknown requests.

use std::time::Duration;

use dflock::{
    AuthErrorKind, Client, Enqueued, Error, Held, Lock, LostReason, Queued, TlsErrorKind,
};

use super::program::Program;
use super::python::interop_server;
use crate::bad_input::reads_well;
use crate::tls::test_ca::TestCa;

async fn enqueue_queued(lock: &Lock) -> Lock<Queued> {
    match lock.clone().enqueue().await.unwrap() {
        Enqueued::Queued(queued) => queued,
        Enqueued::Acquired(_) => panic!("the lock was free"),
    }
}

async fn enqueue_acquired(lock: &Lock) -> Lock<Held> {
    match lock.clone().enqueue().await.unwrap() {
        Enqueued::Acquired(held) => held,
        Enqueued::Queued(_) => panic!("the lock was held"),
    }
}

/// Returns a client for a server that runs with `--read-timeout 1`.
fn client_with_short_read_timeout(server: &Program) -> Client {
    let (heartbeat, read_timeout) = (Duration::from_millis(300), Duration::from_secs(1));
    server
        .client_builder()
        .heartbeat(heartbeat)
        .server_read_timeout(read_timeout)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_second_try_acquire_fails() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let lock = server.client().lock("clé-鍵").unwrap();
        let held = lock.clone().acquire().await.unwrap();
        assert_eq!(held.lease(), Duration::from_secs(33));
        assert!(lock.clone().try_acquire().await.unwrap_err().is_timeout());
        assert!(
            lock.clone()
                .acquire_within(Duration::from_millis(50))
                .await
                .unwrap_err()
                .is_timeout()
        );
        held.renew().await.unwrap();
        held.release().await.unwrap();
        lock.with_slot(async |held| held.check().unwrap())
            .await
            .unwrap();
        lock.try_acquire().await.unwrap().release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn queued_locks_are_granted_in_order_of_arrival() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let lock = server.client().lock("job").unwrap();
        let mut held = enqueue_acquired(&lock).await;
        let mut waiters = Vec::new();
        for _ in 0..5 {
            waiters.push(enqueue_queued(&lock).await);
        }
        for waiter in waiters {
            assert!(!waiter.is_granted());
            held.release().await.unwrap();
            held = waiter.wait().await.unwrap();
        }
        held.release().await.unwrap();
    })
    .await;
}

// Covers bug S08. This server remembers an enqueue until its connection ends.
#[tokio::test]
async fn a_queue_can_be_joined_repeatedly() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let lock = server.client().lock("job").unwrap();
        for _ in 0..3 {
            let held = enqueue_acquired(&lock).await;
            let waiter = enqueue_queued(&lock).await;
            held.release().await.unwrap();
            waiter.wait().await.unwrap().release().await.unwrap();
        }
    })
    .await;
}

// Covers bugs T01, N2. Heartbeats are renewals, not pings.
#[tokio::test]
async fn a_long_lease_is_renewed_beyond_the_read_timeout() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &["--read-timeout", "1"]).await;
        let client = client_with_short_read_timeout(&server);
        let lock = Lock::builder()
            .key("job")
            .lease_ttl(Duration::from_mins(1))
            .client(client.clone())
            .build()
            .unwrap();
        let held = lock.clone().acquire().await.unwrap();
        assert!(
            client
                .lock("job")
                .unwrap()
                .acquire_within(Duration::from_secs(3))
                .await
                .unwrap_err()
                .is_timeout()
        );
        held.check().unwrap();
        held.release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_short_lease_is_renewed() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let lock = Lock::builder()
            .key("job")
            .lease_ttl(Duration::from_secs(2))
            .client(server.client())
            .build()
            .unwrap();
        let held = lock.clone().acquire().await.unwrap();
        assert!(
            lock.clone()
                .acquire_within(Duration::from_secs(4))
                .await
                .unwrap_err()
                .is_timeout()
        );
        held.check().unwrap();
        held.release().await.unwrap();
    })
    .await;
}

// Covers bugs S19, T40. This server rounds the remaining lease down, so a renewal to 1 s returns a
// lease of 0.
#[tokio::test]
async fn an_expired_lease_is_lost_before_another_client_holds() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let lock = Lock::builder()
            .key("job")
            .lease_ttl(Duration::from_secs(1))
            .client(server.client())
            .build()
            .unwrap();
        let held = lock.acquire().await.unwrap();
        let next = server
            .client()
            .lock("job")
            .unwrap()
            .acquire()
            .await
            .unwrap();
        assert!(held.is_lost());
        next.release().await.unwrap();
    })
    .await;
}

// Covers bug N5.
#[tokio::test]
async fn a_queue_position_is_kept_beyond_the_read_timeout() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &["--read-timeout", "1"]).await;
        let lock = client_with_short_read_timeout(&server).lock("job").unwrap();
        let held = lock.clone().acquire().await.unwrap();
        let waiter = enqueue_queued(&lock).await;
        assert!(
            lock.clone()
                .acquire_within(Duration::from_secs(2))
                .await
                .unwrap_err()
                .is_timeout()
        );
        held.release().await.unwrap();
        // The lock has no waiter, and the lease is kept.
        assert!(
            lock.clone()
                .acquire_within(Duration::from_secs(2))
                .await
                .unwrap_err()
                .is_timeout()
        );
        assert!(waiter.is_granted());
        waiter.wait().await.unwrap().release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_dropped_lock_goes_to_the_next_waiter() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let lock = server.client().lock("job").unwrap();
        let held = lock.clone().acquire().await.unwrap();
        // This server detects a disconnected waiter only when it grants.
        let (closed, next) = (enqueue_queued(&lock).await, enqueue_queued(&lock).await);
        drop((closed, held));
        let held = next.wait().await.unwrap();
        held.check().unwrap();
        held.release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_dropped_lock_goes_to_the_next_waiter_without_auto_release() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &["--no-auto-release-on-disconnect"]).await;
        let lock = server.client().lock("job").unwrap();
        let held = lock.clone().acquire().await.unwrap();
        let next = enqueue_queued(&lock).await;
        drop(held);
        next.wait().await.unwrap().release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_ping_succeeds_and_costs_only_its_connection() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let client = server.client();
        let held = client.lock("job").unwrap().acquire().await.unwrap();
        client.ping().await.unwrap();
        client.ping().await.unwrap();
        held.renew().await.unwrap();
        held.release().await.unwrap();
        client
            .lock("job")
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn unsupported_requests_are_rejected_by_name() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &["--max-locks", "1"]).await;
        let client = server.client();
        let error = client
            .semaphore("pool", 3)
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        let held = client.lock("job").unwrap().acquire().await.unwrap();
        let error = client.lock("another").unwrap().acquire().await.unwrap_err();
        assert!(matches!(error, Error::TooManyKeys { .. }), "{error:?}");
        held.release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn killing_the_server_loses_the_slot_immediately() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let lock = server.client().lock("job").unwrap();
        let (held, waiter) = (
            lock.clone().acquire().await.unwrap(),
            enqueue_queued(&lock).await,
        );
        server.kill().await;
        assert_eq!(held.lost().await.reason, LostReason::Disconnected);
        assert!(matches!(
            waiter.wait().await.unwrap_err(),
            Error::Disconnected { .. }
        ));
    })
    .await;
}

// The server reads the TLS handshake as a request and closes the connection.
#[tokio::test]
async fn a_tls_client_reports_that_the_server_ended_the_handshake() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        let client = server
            .client_builder()
            .tls(TestCa::new().tls())
            .build()
            .unwrap();
        for _ in 0..5 {
            let error = client.ping().await.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Tls {
                        kind: TlsErrorKind::ConnectionClosed,
                        ..
                    }
                ),
                "{error:?}"
            );
            reads_well(
                &error,
                &["ping", &server.addr.to_string(), "speaks TLS on this port"],
            );
        }
        server
            .client()
            .lock("job")
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    })
    .await;
}

// This server requires no auth token, and accepts no line of more than 256 bytes.
#[tokio::test]
async fn an_unexpected_auth_token_is_reported() {
    interop_server(async |python| {
        let server = Program::python_dflockd(python, &[]).await;
        for (length, expected) in [(4, AuthErrorKind::Unneeded), (257, AuthErrorKind::TooLong)] {
            let client = server
                .client_builder()
                .auth("x".repeat(length))
                .build()
                .unwrap();
            let error = client.lock("job").unwrap().acquire().await.unwrap_err();
            assert!(
                matches!(&error, Error::Auth { kind, .. } if *kind == expected),
                "{length} bytes: {error:?}"
            );
        }
    })
    .await;
}
