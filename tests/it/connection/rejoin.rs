//! Waiters that rejoin the queue after a disconnect, within the time of their wait.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dflock::server::Server;
use dflock::{BoxStream, Client, Clock, ConnectFuture, Connector, Error, Semaphore};
use tokio::io::duplex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::Fixture;
use crate::scripted_server::*;

const SECOND: Duration = Duration::from_secs(1);

/// Returns an acquire request for the script's key that waits for `wait` seconds.
fn acquire(wait: u64) -> String {
    format!("sl\npool\n{wait} 1\n")
}

#[tokio::test(start_paused = true)]
async fn a_waiter_rejoins_the_queue_after_a_disconnect() {
    for end in [vec![close()], vec![half_close(), expect_eof()]] {
        let first = [
            vec![expect(acquire(20)), checkpoint(), wait_for_test()],
            end,
        ]
        .concat();
        // The second request sends the remaining wait in whole seconds.
        let second = vec![expect(acquire(18)), send(GRANT), expect(RELEASE), send(OK)];
        let scripted_server = ScriptedServer::memory([first, second]);
        let waiter = tokio::spawn(scripted_server.pool().acquire_within(20 * SECOND));
        scripted_server.reached().await;
        sleep(2 * SECOND).await;
        scripted_server.resume();
        waiter.await.unwrap().unwrap().release().await.unwrap();
        scripted_server.finish().await;
    }
}

// The first request uses a pooled connection.
#[tokio::test(start_paused = true)]
async fn a_waiter_on_a_pooled_connection_rejoins_the_queue() {
    let first = vec![
        expect(PING),
        send(OK),
        expect(acquire(20)),
        checkpoint(),
        wait_for_test(),
        close(),
    ];
    let scripted_server =
        ScriptedServer::memory([first, vec![expect(acquire(18)), send("timeout\n")]]);
    let client = scripted_server.client();
    client.ping().await.unwrap();
    let waiter = tokio::spawn(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(20 * SECOND),
    );
    scripted_server.reached().await;
    sleep(2 * SECOND).await;
    scripted_server.resume();
    assert!(waiter.await.unwrap().unwrap_err().is_timeout());
    scripted_server.finish().await;
}

#[tokio::test]
async fn a_waiter_rejoins_the_queue_after_a_reset() {
    let scripted_server = ScriptedServer::tcp([
        vec![expect(acquire(20)), checkpoint(), wait_for_test(), reset()],
        vec![expect(acquire(20)), send(GRANT), expect(RELEASE), send(OK)],
    ])
    .await;
    let waiter = tokio::spawn(scripted_server.pool().acquire_within(20 * SECOND));
    scripted_server.reached().await;
    sleep(Duration::from_millis(300)).await;
    scripted_server.resume();
    waiter.await.unwrap().unwrap().release().await.unwrap();
    scripted_server.finish().await;
}

// As with a proxy that closes silent connections.
#[tokio::test(start_paused = true)]
async fn a_wait_lasts_over_any_number_of_rejoins() {
    let waiter = |wait| {
        vec![
            expect(acquire(wait)),
            checkpoint(),
            wait_for_test(),
            close(),
        ]
    };
    let held = vec![expect(acquire(12)), send(GRANT), expect(RELEASE), send(OK)];
    let scripted_server =
        ScriptedServer::memory([waiter(20), waiter(18), waiter(16), waiter(14), held]);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .acquire_timeout(20 * SECOND);
    let pool = pool.client(scripted_server.client()).build().unwrap();
    let body = tokio::spawn(pool.with_slot(async |held| held.key().len()));
    for _ in 0..4 {
        scripted_server.reached().await;
        sleep(2 * SECOND).await;
        scripted_server.resume();
    }
    assert_eq!(body.await.unwrap().unwrap(), 4);
    scripted_server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_with_rejoins_ends_with_a_timeout() {
    let end = || vec![checkpoint(), wait_for_test(), close()];
    let scripted_server = ScriptedServer::memory([
        [vec![expect(acquire(3))], end()].concat(),
        [vec![expect(acquire(2))], end()].concat(),
        vec![expect(acquire(1)), expect_eof()],
    ]);
    let start_time = Instant::now();
    let waiter = tokio::spawn(
        scripted_server
            .pool()
            .acquire_within(Duration::from_millis(2900)),
    );
    for _ in 0..2 {
        scripted_server.reached().await;
        sleep(SECOND).await;
        scripted_server.resume();
    }
    let error = waiter.await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Timeout { waited, .. } if waited == Duration::from_millis(2900)),
        "{error:?}"
    );
    let elapsed = start_time.elapsed();
    assert!(
        elapsed >= Duration::from_millis(2900) && elapsed < Duration::from_millis(2910),
        "{elapsed:?}"
    );
    scripted_server.finish().await;
}

/// Connector that accepts the first connection, closes it with `end`, and refuses all others.
#[derive(Clone, Default)]
struct DisappearingServer {
    attempts: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
}

impl Connector for DisappearingServer {
    fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async {
            if self.attempts.fetch_add(1, Ordering::SeqCst) > 0 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = duplex(1024);
            let end = self.end.clone();
            tokio::spawn(async move {
                while !end.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                drop(theirs);
            });
            Ok(Box::new(ours) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// The error contains the reason of the last failure.
#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_an_error_at_the_end_of_the_wait() {
    let connector = DisappearingServer::default();
    let client = Client::builder()
        .connector(connector.clone())
        .build()
        .unwrap();
    let start_time = Instant::now();
    let waiter = tokio::spawn(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(10 * SECOND),
    );
    sleep(SECOND).await;
    connector.end.store(true, Ordering::SeqCst);
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.is_retryable() && !error.is_timeout());
    let elapsed = start_time.elapsed();
    assert!(
        elapsed > 9 * SECOND && elapsed <= 10 * SECOND,
        "{elapsed:?}"
    );
    // Attempts are at most one second apart and never without a pause.
    let attempts = connector.attempts.load(Ordering::SeqCst);
    assert!((9..40).contains(&attempts), "{attempts}");
}

// Server v1.10.0 sends `error` to all waiters.
#[tokio::test(start_paused = true)]
async fn a_waiter_waits_for_a_server_that_restarts_gracefully() {
    for reply in ["error_draining\n", "error\n"] {
        let scripted_server = ScriptedServer::memory([
            vec![
                expect(acquire(20)),
                checkpoint(),
                wait_for_test(),
                send(reply),
                expect_eof(),
            ],
            vec![expect(acquire(15)), send("error_draining\n"), expect_eof()],
            vec![expect(acquire(15)), send(GRANT), expect(RELEASE), send(OK)],
        ]);
        let waiter = tokio::spawn(scripted_server.pool().acquire_within(20 * SECOND));
        scripted_server.reached().await;
        sleep(5 * SECOND).await;
        scripted_server.resume();
        waiter.await.unwrap().unwrap().release().await.unwrap();
        scripted_server.finish().await;
    }
}

// Another attempt would get the same reply.
#[tokio::test(start_paused = true)]
async fn a_rejection_ends_the_wait() {
    let scripted_server = ScriptedServer::memory([
        vec![expect(acquire(20)), checkpoint(), wait_for_test(), close()],
        vec![expect(acquire(15)), send("error_max_waiters\n")],
    ]);
    let waiter = tokio::spawn(scripted_server.pool().acquire_within(20 * SECOND));
    scripted_server.reached().await;
    sleep(5 * SECOND).await;
    scripted_server.resume();
    assert!(waiter.await.unwrap().unwrap_err().is_too_many_waiters());
    scripted_server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn waiters_rejoin_at_different_times() {
    let fixture = Fixture::new().await;
    let lock = fixture.client.lock("pool").unwrap();
    let held = lock.clone().acquire().await.unwrap();
    let mut waiters = JoinSet::new();
    for _ in 0..40 {
        waiters.spawn(lock.clone().acquire_within(20 * SECOND));
    }
    sleep(SECOND).await;
    fixture.server.faults().disconnect_all();
    assert!(held.is_lost() || held.lost().await.key.contains("pool"));
    let queued = || {
        fixture
            .server
            .stats()
            .locks
            .iter()
            .map(|lock| lock.waiters + 1)
            .sum::<u64>()
    };
    let mut seen = vec![queued()];
    for _ in 0..110 {
        sleep(Duration::from_millis(1)).await;
        seen.push(queued());
    }
    assert_eq!((seen[0], seen[110]), (0, 40));
    seen.dedup();
    assert!(seen.len() > 20, "{seen:?}");
}

async fn server_at(addr: &str) -> Server {
    let deadline = Instant::now() + 10 * SECOND;
    loop {
        match Server::builder().bind(addr).build().start().await {
            Ok(server) => return server,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

// Over real sockets, where connections are refused until the server has restarted.
#[tokio::test]
async fn a_waiter_reconnects_to_a_restarted_server() {
    let server = Server::start().await.unwrap();
    let addr: SocketAddr = server.addr();
    let lock = server.client().lock("job").unwrap();
    let held = lock.clone().acquire().await.unwrap();
    let waiter = tokio::spawn(lock.acquire_within(20 * SECOND));
    sleep(Duration::from_millis(500)).await;
    drop(server);
    held.lost().await;
    sleep(Duration::from_millis(300)).await;
    let server = server_at(&addr.to_string()).await;
    let held = timeout(10 * SECOND, waiter)
        .await
        .expect("the waiter does not reconnect")
        .unwrap()
        .unwrap();
    assert_eq!(server.stats().locks.len(), 1);
    held.release().await.unwrap();
}

// Nothing shows that the request was queued, so the caller gets the error immediately.
#[tokio::test(start_paused = true)]
async fn an_immediate_disconnect_fails_without_a_rejoin() {
    let scripted_server = ScriptedServer::memory([vec![
        expect(acquire(20)),
        checkpoint(),
        wait_for_test(),
        close(),
    ]]);
    let waiter = tokio::spawn(scripted_server.pool().acquire_within(20 * SECOND));
    scripted_server.reached().await;
    sleep(Duration::from_millis(50)).await;
    let start_time = Instant::now();
    scripted_server.resume();
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    assert!(start_time.elapsed() < Duration::from_millis(5));
    scripted_server.finish().await;
}
