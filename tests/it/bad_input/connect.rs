//! Servers that cannot be reached, or that disconnect before they reply.

use std::error::Error as _;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dflock::{Client, Clock, ConnectFuture, ConnectStage, Connector, Error, Operation};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

use super::reads_well;
use crate::scripted_server::*;

// Covers bugs T06, T14, P27.
#[tokio::test]
async fn connect_fails_until_a_server_listens() {
    // Binding reserves the port. Connections are refused because nothing listens yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let pool = Client::builder()
        .servers([address.as_str()])
        .build()
        .unwrap()
        .semaphore("pool", 1)
        .unwrap();

    let error = pool.clone().acquire().await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Connect { source, .. }
                if source.kind() == std::io::ErrorKind::ConnectionRefused
        ),
        "{error:?}"
    );
    assert!(error.is_retryable() && error.source().is_some());
    assert_eq!(
        (error.key(), error.server(), error.operation()),
        (
            Some("pool"),
            Some(address.as_str()),
            Some(Operation::Acquire)
        )
    );
    reads_well(&error, &["acquire", "\"pool\"", &address, "`servers`"]);

    let scripted_server = ScriptedServer::from_listener(
        socket.listen(8).unwrap(),
        [vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RELEASE),
            send(OK),
        ]],
    );
    pool.acquire().await.unwrap().release().await.unwrap();
    scripted_server.finish().await;
}

/// Connector whose connections never complete.
struct Blackhole;

impl Connector for Blackhole {
    fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
        Box::pin(pending())
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// Covers bugs P08, G15.
#[tokio::test(start_paused = true)]
async fn connect_fails_after_the_connect_timeout() {
    let limit = Duration::from_millis(1300);
    let client = Client::builder()
        .connector(Blackhole)
        .connect_timeout(limit)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { .. }), "{error:?}");
    // Tokio's timers have a resolution of one millisecond.
    assert!(
        start.elapsed() >= limit && start.elapsed() <= limit + Duration::from_millis(1),
        "{:?}",
        start.elapsed()
    );
    assert!(error.is_retryable() && !error.is_timeout());
    reads_well(
        &error,
        &[
            "acquire",
            "\"pool\"",
            "127.0.0.1:6388",
            "1.3s",
            "`connect_timeout`",
        ],
    );
}

// Covers bug T10.
#[tokio::test]
async fn a_disconnect_before_the_reply_fails_immediately() {
    for (reply, end) in [
        ("", close()),
        ("ok 00000000", close()),
        ("", half_close()),
        ("ok 00000000", half_close()),
    ] {
        let scripted_server = ScriptedServer::tcp([vec![expect(ACQUIRE), send(reply), end]]).await;
        let error = scripted_server.pool().acquire().await.unwrap_err();
        let Error::Disconnected { source, .. } = &error else {
            panic!("{reply:?}: {error:?}")
        };
        // The error shows the received part of the reply.
        let shown = source
            .as_ref()
            .is_some_and(|source| source.to_string().contains(reply));
        assert_eq!(
            (source.is_some(), shown),
            (!reply.is_empty(), !reply.is_empty()),
            "{reply:?}: {error:?}"
        );
        assert!(error.is_retryable());
        reads_well(
            &error,
            &[
                "acquire",
                "\"pool\"",
                scripted_server.address(),
                "before the answer",
            ],
        );
        scripted_server.finish().await;
    }
}

#[tokio::test]
async fn a_reset_is_an_error_with_its_source() {
    let scripted_server = ScriptedServer::tcp([vec![expect(ACQUIRE), reset()]]).await;
    let error = scripted_server.pool().acquire().await.unwrap_err();
    assert!(matches!(
        &error,
        Error::Disconnected { source: Some(source), .. }
            if source.kind() == std::io::ErrorKind::ConnectionReset
    ));
    assert!(error.source().is_some());
    reads_well(&error, &["acquire", "\"pool\"", scripted_server.address()]);
    scripted_server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_unresponsive_after_the_socket_timeout() {
    let scripted_server = ScriptedServer::memory([
        vec![expect(ACQUIRE), expect_eof()],
        vec![expect(PING), expect_eof()],
    ]);
    let start = Instant::now();
    let error = scripted_server.pool().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    // Ten seconds in the queue and one second for the reply.
    assert_eq!(start.elapsed().as_secs(), 11);
    reads_well(
        &error,
        &[
            "acquire",
            "\"pool\"",
            scripted_server.address(),
            "11s",
            "`socket_timeout`",
        ],
    );
    let error = scripted_server.client().ping().await.unwrap_err();
    reads_well(
        &error,
        &[
            "ping on",
            scripted_server.address(),
            "5s",
            "`socket_timeout`",
        ],
    );
    assert_eq!(error.key(), None);
    scripted_server.finish().await;
}

/// Connector that completes only the first `open` connections.
struct LimitedConnector {
    scripted_server: BoxConnector,
    open: AtomicUsize,
}

type BoxConnector = Box<dyn Connector>;

/// Asserts that a call with timeout `wait` ended after `wait` and at most `grace` later.
fn assert_over(start: Instant, wait: Duration, grace: Duration) {
    let elapsed = start.elapsed();
    // Tokio's timers have a resolution of one millisecond.
    assert!(
        elapsed >= wait && elapsed <= wait + grace + Duration::from_millis(2),
        "{elapsed:?} for {wait:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn acquire_times_out_while_no_server_is_reachable() {
    let client = Client::builder().connector(Blackhole).build().unwrap();
    let pool = client.semaphore("pool", 1).unwrap();
    for millis in [1, 100, 1000, 1500, 3000] {
        let (start, wait) = (Instant::now(), Duration::from_millis(millis));
        let error = pool.clone().acquire_within(wait).await.unwrap_err();
        let Error::ConnectTimeout {
            limit,
            stage: ConnectStage::Transport,
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(*limit, wait);
        assert_over(start, wait, Duration::ZERO);
        assert!(error.is_retryable() && !error.is_timeout());
        reads_well(
            &error,
            &["acquire", "`connect_timeout`", "`acquire_timeout`"],
        );
    }
    // The wait timeout neither extends nor shortens `connect_timeout`.
    for wait in [Duration::ZERO, Duration::from_secs(20)] {
        let start = Instant::now();
        assert!(matches!(
            pool.clone().acquire_within(wait).await.unwrap_err(),
            Error::ConnectTimeout { .. }
        ));
        assert_over(start, Duration::from_secs(5), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_times_out_while_no_request_is_answered() {
    let second = Duration::from_secs(1);
    for (millis, grace) in [
        (100, Duration::ZERO),
        (1000, second),
        (1500, Duration::ZERO),
        (3000, second),
    ] {
        let wait = Duration::from_millis(millis);
        let request = format!("sl\npool\n{} 1\n", millis.div_ceil(1000));
        let scripted_server = ScriptedServer::memory([vec![expect(request), expect_eof()]]);
        let start = Instant::now();
        let error = scripted_server
            .pool()
            .acquire_within(wait)
            .await
            .unwrap_err();
        // With a wait of whole seconds the server sends the timeout, so its absence is an error.
        let is_owed = matches!(error, Error::Unresponsive { limit, .. } if limit == wait + grace);
        assert!(
            if grace.is_zero() {
                error.is_timeout()
            } else {
                is_owed
            },
            "{error:?}"
        );
        assert_over(start, wait + grace, Duration::ZERO);
        scripted_server.finish().await;
    }
    // A grace period of less than a second, because a reply arrives within it.
    let scripted_server = ScriptedServer::memory([vec![expect("sl\npool\n1 1\n"), expect_eof()]]);
    let client = scripted_server
        .builder()
        .socket_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let start = Instant::now();
    assert!(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(second)
            .await
            .is_err()
    );
    assert_over(start, Duration::from_millis(1300), Duration::ZERO);
    scripted_server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn acquire_times_out_while_the_auth_request_is_not_answered() {
    for millis in [100, 1000, 1500] {
        let wait = Duration::from_millis(millis);
        let scripted_server = ScriptedServer::memory([vec![expect(AUTH), expect_eof()]]);
        let client = scripted_server.builder().auth("hush").build().unwrap();
        let start = Instant::now();
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(wait)
            .await
            .unwrap_err();
        let Error::Unresponsive { context, limit } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((context.operation, *limit), (Operation::Auth, wait));
        assert_over(start, wait, Duration::ZERO);
        assert!(error.is_retryable() && !error.is_timeout());
        reads_well(&error, &["auth", "`socket_timeout`", "`acquire_timeout`"]);
        scripted_server.finish().await;
    }
}

impl Connector for LimitedConnector {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        let completes = self
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |remaining| {
                remaining.checked_sub(1)
            });
        if completes.is_ok() {
            self.scripted_server.connect(server)
        } else {
            Blackhole.connect(server)
        }
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// The same limit applies when the first connection takes part of the time.
#[tokio::test(start_paused = true)]
async fn the_second_attempt_connects_within_the_remaining_wait() {
    let millis = Duration::from_millis;
    for (wait, request, limit) in [
        (millis(1000), "sl\npool\n1 1\n", millis(920)),
        (millis(2500), "sl\npool\n3 1\n", millis(2420)),
    ] {
        let scripted_server = ScriptedServer::memory([vec![
            expect(PING),
            send(OK),
            expect(request),
            checkpoint(),
            wait_for_test(),
            close(),
        ]]);
        let connector = LimitedConnector {
            scripted_server: scripted_server.connector(),
            open: AtomicUsize::new(1),
        };
        let client = Client::builder().connector(connector).build().unwrap();
        client.ping().await.unwrap();
        let start = Instant::now();
        let waiter = tokio::spawn(client.semaphore("pool", 1).unwrap().acquire_within(wait));
        scripted_server.reached().await;
        sleep(millis(80)).await;
        scripted_server.resume();
        let error = waiter.await.unwrap().unwrap_err();
        assert!(
            matches!(
                &error,
                Error::ConnectTimeout { limit: it, .. } if it.abs_diff(limit) < millis(2)
            ),
            "{error:?}"
        );
        assert_over(start, wait, Duration::ZERO);
        scripted_server.finish().await;
    }
}

// The second attempt opens a connection that authenticates.
#[tokio::test(start_paused = true)]
async fn try_acquire_uses_the_timeouts_of_the_client() {
    let seconds = Duration::from_secs;
    let scripted_server = ScriptedServer::memory([
        vec![
            expect(AUTH),
            send(OK),
            expect(PING),
            send(OK),
            expect(TRY_ACQUIRE),
            checkpoint(),
            wait_for_test(),
            close(),
        ],
        vec![
            expect(AUTH),
            checkpoint(),
            wait_for_test(),
            send(OK),
            expect(TRY_ACQUIRE),
            expect_eof(),
        ],
    ]);
    let client = scripted_server
        .builder()
        .auth("hush")
        .connect_timeout(seconds(2))
        .socket_timeout(seconds(3))
        .build()
        .unwrap();
    client.ping().await.unwrap();
    let start = Instant::now();
    let waiter = tokio::spawn(client.semaphore("pool", 1).unwrap().try_acquire());
    for _ in 0..2 {
        scripted_server.reached().await;
        sleep(seconds(2)).await;
        scripted_server.resume();
    }
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_over(start, seconds(5), Duration::ZERO);
    scripted_server.finish().await;
}
