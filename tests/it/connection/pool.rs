//! Reuse and expiry of pooled connections.

use std::time::Duration;

use dflock::server::Server;
use dflock::{Error, LostReason};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep};

use crate::fixture::{Fixture, acquire_pool, cycle};
use crate::scripted_server::*;

// Covers bug G25. A connection that holds a slot is not shared. An idle one can be used by every
// task.
#[tokio::test]
async fn three_holds_use_three_connections_that_are_reused() {
    let hold = vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)];
    let scripted_server = ScriptedServer::memory(vec![vec![hold; 4].concat(); 3]);
    let pool = scripted_server.pool();
    for _ in 0..4 {
        let mut slots = Vec::new();
        for _ in 0..3 {
            slots.push(pool.clone().acquire().await.unwrap());
        }
        assert_eq!(scripted_server.connections(), 3);
        for held in slots {
            held.release().await.unwrap();
        }
    }
    scripted_server.finish().await;
}

// Covers bug G26.
#[tokio::test(start_paused = true)]
async fn a_hold_is_renewed_and_released_while_another_acquire_blocks() {
    let scripted_server = ScriptedServer::memory([
        vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RENEW),
            send("ok 30\n"),
            expect(RELEASE),
            send(OK),
        ],
        vec![expect(ACQUIRE), checkpoint(), wait_for_test(), send(GRANT)],
    ]);
    let pool = scripted_server.pool();
    let first = pool.clone().acquire().await.unwrap();
    let second = tokio::spawn(pool.acquire());
    scripted_server.reached().await;
    first.renew().await.unwrap();
    first.release().await.unwrap();
    scripted_server.resume();
    second.await.unwrap().unwrap().close();
    scripted_server.finish().await;
}

// Covers bugs T10, N9, T33. The server closed the connection or sent a line while it was idle.
#[tokio::test(start_paused = true)]
async fn a_stale_connection_is_replaced() {
    let ends = [
        vec![close()],
        vec![half_close(), expect_eof()],
        vec![send("error\n"), expect_eof()],
        vec![send("ok"), expect_eof()],
    ];
    for end in ends {
        let first = [
            vec![
                expect(PING),
                send(OK),
                expect(PING),
                send(OK),
                wait_for_test(),
                checkpoint(),
            ],
            end,
        ]
        .concat();
        let scripted_server = ScriptedServer::memory([
            first,
            vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)],
        ]);
        let client = scripted_server.client();
        client.ping().await.unwrap();
        client.ping().await.unwrap();
        scripted_server.resume();
        scripted_server.reached().await;
        acquire_pool(&client).await.release().await.unwrap();
        scripted_server.finish().await;
    }
}

// Covers bug T34. The client sees the end before or after it sends the request.
#[tokio::test]
async fn an_idle_socket_that_closes_is_replaced() {
    for end in [close(), reset()] {
        let scripted_server = ScriptedServer::tcp([
            vec![expect(PING), send(OK), wait_for_test(), checkpoint(), end],
            vec![expect(ACQUIRE), send(GRANT)],
        ])
        .await;
        let client = scripted_server.client();
        client.ping().await.unwrap();
        scripted_server.resume();
        scripted_server.reached().await;
        acquire_pool(&client).await.close();
        scripted_server.finish().await;
    }
}

#[tokio::test]
async fn a_request_that_fails_on_an_idle_connection_is_retried_once() {
    for end in [close(), reset()] {
        let first = vec![expect(PING), send(OK), expect(ACQUIRE), end.clone()];
        let scripted_server =
            ScriptedServer::tcp([first.clone(), vec![expect(ACQUIRE), send(GRANT)]]).await;
        let client = scripted_server.client();
        client.ping().await.unwrap();
        acquire_pool(&client).await.close();
        scripted_server.finish().await;

        // The script expects no third connection.
        let scripted_server = ScriptedServer::tcp([first, vec![expect(ACQUIRE), end]]).await;
        let client = scripted_server.client();
        client.ping().await.unwrap();
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
        scripted_server.finish().await;
    }
}

#[tokio::test]
async fn a_request_that_fails_on_a_new_connection_is_not_retried() {
    let scripted_server = ScriptedServer::memory([vec![expect(ACQUIRE), close()]]);
    let error = scripted_server.pool().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    scripted_server.finish().await;
}

// The second attempt sends the remaining wait.
#[tokio::test(start_paused = true)]
async fn a_second_attempt_waits_for_the_remaining_time() {
    let first = vec![
        expect(PING),
        send(OK),
        expect(ACQUIRE),
        checkpoint(),
        wait_for_test(),
        close(),
    ];
    let scripted_server =
        ScriptedServer::memory([first, vec![expect("sl\npool\n6 1\n"), send("timeout\n")]]);
    let client = scripted_server.client();
    client.ping().await.unwrap();
    let acquire = tokio::spawn(client.semaphore("pool", 1).unwrap().acquire());
    scripted_server.reached().await;
    sleep(Duration::from_secs(4)).await;
    scripted_server.resume();
    assert!(acquire.await.unwrap().unwrap_err().is_timeout());
    scripted_server.finish().await;
}

// The lease clock advances while the test turns the timer clock.
#[tokio::test(start_paused = true)]
async fn each_request_has_a_full_timeout_on_a_fast_clock() {
    let server = Server::start().await.unwrap();
    let pool = server.client().semaphore("pool", 1).unwrap();
    for _ in 0..3 {
        cycle(&pool).await;
        sleep(Duration::from_secs(7)).await;
    }
}

// At 0.75 of the read timeout of 23 s, the server is about to close the connection.
#[tokio::test(start_paused = true)]
async fn a_connection_is_not_reused_after_three_quarters_of_the_read_timeout() {
    let scripted_server = ScriptedServer::memory([
        vec![expect(PING), send(OK), expect(PING), send(OK), expect_eof()],
        vec![expect(PING), send(OK)],
    ]);
    let client = scripted_server.client();
    client.ping().await.unwrap();
    sleep(Duration::from_millis(17_200)).await;
    client.ping().await.unwrap();
    sleep(Duration::from_millis(17_250)).await;
    client.ping().await.unwrap();
    scripted_server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_is_replaced_at_its_maximum_age() {
    let scripted_server = ScriptedServer::memory([
        vec![
            expect(PING),
            send(OK),
            expect(PING),
            send(OK),
            expect(PING),
            send(OK),
            expect_eof(),
            checkpoint(),
        ],
        vec![expect(PING), send(OK)],
    ]);
    let client = scripted_server
        .builder()
        .max_connection_age(Duration::from_secs(10))
        .build()
        .unwrap();
    let start_time = Instant::now();
    for _ in 0..3 {
        client.ping().await.unwrap();
        sleep(Duration::from_secs(4)).await;
    }
    // The client closed the connection at the age of 10 s, not at its next use.
    scripted_server.reached().await;
    assert_eq!(
        (
            scripted_server.connections(),
            start_time.elapsed().as_secs()
        ),
        (1, 12)
    );
    client.ping().await.unwrap();
    scripted_server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_holds_a_slot_is_not_closed_at_its_maximum_age() {
    let fixture = Fixture::new().await;
    let client = fixture
        .server
        .client_builder()
        .connector(fixture.server.connector());
    let client = client
        .max_connection_age(Duration::from_secs(1))
        .build()
        .unwrap();
    let held = acquire_pool(&client).await;
    sleep(Duration::from_secs(100)).await;
    held.check().unwrap();
    assert_eq!(fixture.server.stats().connections, 1);
    held.release().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.server.stats().connections, 0);
}

// The connection is closed even if the client is never used again.
#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed() {
    let ping = vec![expect(PING), send(OK), expect_eof(), checkpoint()];
    let scripted_server = ScriptedServer::memory([ping.clone(), ping]);
    let client = scripted_server.client();
    let tasks = Handle::current().metrics().num_alive_tasks();
    for _ in 0..2 {
        client.ping().await.unwrap();
        let start_time = Instant::now();
        scripted_server.reached().await;
        assert_eq!(start_time.elapsed().as_secs(), 17);
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    scripted_server.finish().await;
}

// A server before v1.14 does not know `ping`, and may close the connection after its reply.
#[tokio::test(start_paused = true)]
async fn a_ping_accepts_any_reply() {
    let scripted_server = ScriptedServer::memory([
        vec![expect(PING), send("error\n"), expect_eof()],
        vec![expect(PING), send("error\n"), close()],
    ]);
    let client = scripted_server.client();
    client.ping().await.unwrap();
    client.ping().await.unwrap();
    scripted_server.finish().await;
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

// A socket works only while the runtime that created it runs.
#[test]
fn a_client_works_on_one_runtime_after_another() {
    let server_runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let cycle_script = vec![
        expect(PING),
        send(OK),
        expect(ACQUIRE),
        send(GRANT),
        expect(RELEASE),
        send(OK),
        expect(PING),
        send(OK),
    ];
    let two_cycles = [cycle_script.clone(), vec![expect(PING), send(OK)]].concat();
    let scripted_server = server_runtime.block_on(ScriptedServer::tcp([
        two_cycles,
        cycle_script.clone(),
        cycle_script,
    ]));
    let client = scripted_server.client();
    let run_cycle = async |client: &dflock::Client| {
        client.ping().await.unwrap();
        acquire_pool(client).await.release().await.unwrap();
        client.ping().await.unwrap();
    };
    let (first, second) = (runtime(), runtime());
    first.block_on(run_cycle(&client));
    second.block_on(run_cycle(&client));
    // Each runtime reuses its own connection.
    first.block_on(client.ping()).unwrap();
    drop((first, second));
    runtime().block_on(run_cycle(&client));
    server_runtime.block_on(scripted_server.finish());
}

// A timeout reply shows that the connection is alive.
#[tokio::test(start_paused = true)]
async fn a_connection_is_reused_after_a_long_wait_timed_out() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let _held = pool.clone().acquire().await.unwrap();
    assert!(
        pool.acquire_within(Duration::from_secs(18))
            .await
            .unwrap_err()
            .is_timeout()
    );
    // A connection that is too old is closed.
    sleep(Duration::from_millis(5)).await;
    assert_eq!(fixture.server.stats().connections, 2);
}

/// Returns a client with `count` pooled connections that no longer answer. The server expects one
/// more connection, which runs `then`.
async fn client_with_idle_connections(
    count: usize,
    silent: &str,
    then: Script,
) -> (ScriptedServer, dflock::Client) {
    let idle = vec![
        expect("sl\npool\n10 20\n"),
        send(GRANT),
        expect(RELEASE),
        send(OK),
    ];
    let mut scripts = vec![[idle.clone(), vec![expect_eof()]].concat(); count - 1];
    // The pool uses the most recently released connection first.
    scripts.push([idle, vec![expect(silent), expect_eof()]].concat());
    scripts.push(then);
    let scripted_server = ScriptedServer::memory(scripts);
    let client = scripted_server.client();
    let pool = client.semaphore("pool", 20).unwrap();
    let mut slots = Vec::new();
    for _ in 0..count {
        slots.push(pool.clone().acquire().await.unwrap());
    }
    for held in slots {
        held.release().await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    (scripted_server, client)
}

// As after a NAT has dropped its entries, or a virtual IP has moved.
#[tokio::test(start_paused = true)]
async fn silently_dead_idle_connections_cause_one_failure() {
    let success = vec![expect(PING), send(OK)];
    // The first request has a reply timeout, and the second a wait that ends on the client.
    for (request, wait) in [("sl\npool\n3 1\n", 3000), ("sl\npool\n1 1\n", 300)] {
        let (scripted_server, client) =
            client_with_idle_connections(10, request, success.clone()).await;
        let pool = client.semaphore("pool", 1).unwrap();
        pool.acquire_within(Duration::from_millis(wait))
            .await
            .unwrap_err();
        client.ping().await.unwrap();
        scripted_server.finish().await;
    }
    let (scripted_server, client) = client_with_idle_connections(10, PING, success).await;
    assert!(matches!(
        client.ping().await.unwrap_err(),
        Error::Unresponsive { .. }
    ));
    client.ping().await.unwrap();
    scripted_server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_dropped_when_a_holder_detects_a_silent_server() {
    let granted = vec![expect(ACQUIRE), send(GRANT)];
    let success = vec![expect(PING), send(OK)];
    for operation in ["release", "renewal"] {
        let silent = if operation == "release" {
            vec![expect(RELEASE), expect_eof()]
        } else {
            vec![expect(RENEW), expect(RELEASE), expect_eof()]
        };
        let scripted_server = ScriptedServer::memory([
            [granted.clone(), silent].concat(),
            vec![expect(PING), send(OK), expect_eof()],
            success.clone(),
        ]);
        let client = scripted_server
            .builder()
            .heartbeat(Duration::from_secs(2))
            .build()
            .unwrap();
        let held = acquire_pool(&client).await;
        client.ping().await.unwrap();
        if operation == "release" {
            assert!(matches!(
                held.release().await.unwrap_err(),
                Error::Unresponsive { .. }
            ));
        } else {
            assert_eq!(held.lost().await.reason, LostReason::Unreachable);
        }
        client.ping().await.unwrap();
        scripted_server.finish().await;
    }
}

// A connection used while the silent request was pending is not considered dead.
#[tokio::test(start_paused = true)]
async fn a_recently_used_connection_is_kept() {
    let second = Duration::from_secs(1);
    let scripted_server = ScriptedServer::memory([
        vec![
            expect(PING),
            send(OK),
            expect("sl\npool\n3 1\n"),
            checkpoint(),
            expect_eof(),
        ],
        vec![expect(PING), send(OK), expect(PING), send(OK)],
    ]);
    let client = scripted_server.client();
    client.ping().await.unwrap();
    let waiter = tokio::spawn(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(3 * second),
    );
    scripted_server.reached().await;
    sleep(second).await;
    client.ping().await.unwrap();
    waiter.await.unwrap().unwrap_err();
    client.ping().await.unwrap();
    scripted_server.finish().await;
}
