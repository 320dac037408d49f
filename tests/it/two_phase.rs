//! Two-phase acquisition: enqueue, other work, wait.

use std::time::Duration;

use dflock::{Client, Enqueued, Held, Queued, Semaphore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::{advance, sleep};

use crate::fixture::{Fixture, server};

async fn enqueue_queued(pool: &Semaphore) -> Semaphore<Queued> {
    match pool.clone().enqueue().await.unwrap() {
        Enqueued::Queued(queued) => queued,
        Enqueued::Acquired(_) => panic!("a slot was free"),
    }
}

async fn enqueue_acquired(pool: &Semaphore) -> Semaphore<Held> {
    match pool.clone().enqueue().await.unwrap() {
        Enqueued::Acquired(held) => held,
        Enqueued::Queued(_) => panic!("no slot was free"),
    }
}

#[tokio::test(start_paused = true)]
async fn enqueue_acquires_a_free_slot() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = enqueue_acquired(&pool).await;
    held.check().unwrap();
    // The connection can join the same queue again.
    held.release().await.unwrap();
    enqueue_acquired(&pool).await.release().await.unwrap();
    assert_eq!(fixture.server.stats().connections, 1);
    let held = pool.enqueue().await.unwrap().wait().await.unwrap();
    held.check().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_becomes_a_slot() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let queued = enqueue_queued(&pool).await;
    assert_eq!(
        (queued.key(), queued.limit(), queued.is_granted()),
        ("pool", 1, false)
    );
    held.release().await.unwrap();
    let held = queued.wait().await.unwrap();
    assert_eq!(held.remaining().as_secs(), 22);
    held.release().await.unwrap();
}

// Covers bugs N5, T01, T08. A queued request does not time out, and the promoted slot is kept.
#[tokio::test(start_paused = true)]
async fn a_queue_position_is_kept_during_other_work() {
    let fixture = Fixture::new().await;
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(Duration::from_secs(2))
        .client(fixture.client.clone())
        .build()
        .unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let queued = enqueue_queued(&pool).await;
    sleep(Duration::from_secs(100)).await;
    assert!(!queued.is_granted());
    held.release().await.unwrap();
    sleep(Duration::from_secs(100)).await;
    assert!(queued.is_granted());
    assert!(pool.clone().try_acquire().await.unwrap_err().is_timeout());
    queued.wait().await.unwrap().release().await.unwrap();
}

// Covers bugs N5, T08.
#[tokio::test(start_paused = true)]
async fn a_queue_position_and_its_slot_are_kept_within_any_read_timeout() {
    for read_timeout in [2, 3, 5, 11, 23] {
        let fixture = Fixture::with_config(
            server()
                .read_timeout(Duration::from_secs(read_timeout))
                .build(),
        )
        .await;
        for lease in [1, 2, 7, 46, 3600, 86_400] {
            let case = format!("{lease} s, read timeout {read_timeout} s");
            let builder = Semaphore::builder()
                .key("pool")
                .limit(1)
                .client(fixture.client.clone());
            let pool = builder
                .lease_ttl(Duration::from_secs(lease))
                .build()
                .unwrap();
            let held = pool.clone().acquire().await.unwrap();
            let waiter = enqueue_queued(&pool).await;
            sleep(Duration::from_mins(2)).await;
            assert_eq!(
                (fixture.holders("pool"), fixture.waiters("pool")),
                (1, 1),
                "{case}"
            );
            held.release().await.unwrap();
            sleep(Duration::from_mins(2)).await;
            assert!(waiter.is_granted(), "{case}");
            waiter
                .wait_within(Duration::ZERO)
                .await
                .unwrap()
                .release()
                .await
                .unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_leaves_the_queue() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let waiter = enqueue_queued(&pool).await;
    assert_eq!(fixture.waiters("pool"), 1);
    let start = tokio::time::Instant::now();
    assert!(
        waiter
            .wait_within(Duration::from_millis(1500))
            .await
            .unwrap_err()
            .is_timeout()
    );
    assert_eq!(start.elapsed().as_millis(), 1500);
    let waiter = enqueue_queued(&pool).await;
    assert!(waiter.wait().await.unwrap_err().is_timeout());
    assert!(
        enqueue_queued(&pool)
            .await
            .wait_within(Duration::ZERO)
            .await
            .unwrap_err()
            .is_timeout()
    );
    sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.waiters("pool"), 0);
    held.release().await.unwrap();
    pool.try_acquire().await.unwrap();
}

// Covers bug G24.
#[tokio::test(start_paused = true)]
async fn leaving_the_queue_works_before_and_after_the_grant() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let (before, after, next) = (
        enqueue_queued(&pool).await,
        enqueue_queued(&pool).await,
        enqueue_queued(&pool).await,
    );
    let idle = before.close();
    assert_eq!(idle.key(), "pool");
    held.release().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert!(after.is_granted());
    drop(after);
    next.wait().await.unwrap();
}

// With auto-release off, the server keeps the slots of a dropped connection. The client must
// release them explicitly.
#[tokio::test(start_paused = true)]
async fn a_dropped_grant_is_released_without_auto_release() {
    let fixture = Fixture::with_config(server().auto_release(false).build()).await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let waiter = enqueue_queued(&pool).await;
    held.release().await.unwrap();
    while !waiter.is_granted() {
        tokio::task::yield_now().await;
    }
    drop(waiter);
    sleep(Duration::from_millis(1)).await;
    pool.try_acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn wait_fails_when_the_granted_slot_was_lost() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let waiter = enqueue_queued(&pool).await;
    held.release().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    fixture.server.faults().disconnect("pool");
    sleep(Duration::from_millis(1)).await;
    assert!(!waiter.is_granted());
    assert!(waiter.wait().await.unwrap_err().is_lost());
}

#[tokio::test(start_paused = true)]
async fn wait_fails_when_the_connection_closes() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let (waiting, later) = (enqueue_queued(&pool).await, enqueue_queued(&pool).await);
    let waiting = tokio::spawn(waiting.wait_within(Duration::from_secs(1000)));
    advance(Duration::from_secs(1)).await;
    fixture.server.faults().disconnect_all();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(
        error.is_retryable() && matches!(error, dflock::Error::Disconnected { .. }),
        "{error:?}"
    );
    let error = later.wait().await.unwrap_err();
    assert!(
        matches!(error, dflock::Error::Disconnected { .. }),
        "{error:?}"
    );
    assert!(held.is_lost());
}

// Covers bug S23.
#[tokio::test(start_paused = true)]
async fn wait_fails_when_the_server_shuts_down() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let waiter = enqueue_queued(&pool).await;
    let waiting = tokio::spawn(pool.clone().acquire());
    sleep(Duration::from_millis(1)).await;
    let shutdown = tokio::spawn(fixture.server.shutdown());
    assert!(matches!(
        waiter.wait().await.unwrap_err(),
        dflock::Error::Draining { .. }
    ));
    assert!(matches!(
        waiting.await.unwrap().unwrap_err(),
        dflock::Error::Draining { .. }
    ));
    held.release().await.unwrap();
    shutdown.await.unwrap();
}

// Covers bug S08. The server remembers an enqueue until its connection ends.
#[tokio::test]
async fn a_queue_can_be_joined_again_on_a_server_that_remembers_enqueues() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder()
        .servers([server.local_addr().unwrap().to_string()])
        .build()
        .unwrap();
    let server_task = tokio::spawn(async move {
        let granted = format!("acquired {} 33", "0".repeat(32));
        for replies in [
            ["se", &*granted, "sr", "ok", "se", "error_already_enqueued"].as_slice(),
            &["se", &*granted, "sr", "ok"],
        ] {
            let mut stream = BufReader::new(server.accept().await.unwrap().0);
            for step in replies.chunks(2) {
                let mut request = String::new();
                for _ in 0..3 {
                    stream.read_line(&mut request).await.unwrap();
                }
                assert_eq!(request.lines().next(), Some(step[0]));
                stream
                    .write_all(format!("{}\n", step[1]).as_bytes())
                    .await
                    .unwrap();
            }
        }
    });
    let pool = client.semaphore("pool", 1).unwrap();
    enqueue_acquired(&pool).await.release().await.unwrap();
    enqueue_acquired(&pool).await.release().await.unwrap();
    server_task.await.unwrap();
}
