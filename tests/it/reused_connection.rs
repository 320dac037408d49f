//! Holds on a reused connection, which has a background task.
//!
//! They behave like the first hold of a connection, which has no task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::{Held, LostReason, Semaphore};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{Fixture, server};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a slot on a connection that carried `before` holds, each held for `time`.
async fn acquire_on_reused_connection(
    pool: &Semaphore,
    before: u32,
    time: Duration,
) -> Semaphore<Held> {
    for _ in 0..before {
        let held = pool.clone().acquire().await.unwrap();
        sleep(time).await;
        held.release().await.unwrap();
    }
    pool.clone().acquire().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed() {
    for (lease, hold) in [
        (1, 0),
        (1, 300),
        (1, 5000),
        (4, 1900),
        (33, 0),
        (33, 7000),
        (3600, 30_000),
    ] {
        let fixture = Fixture::new().await;
        let lease = Duration::from_secs(lease);
        let pool = Semaphore::builder()
            .key("pool")
            .limit(1)
            .lease_ttl(lease)
            .client(fixture.client.clone())
            .build()
            .unwrap();
        let held = acquire_on_reused_connection(&pool, 3, Duration::from_millis(hold)).await;
        sleep(100 * SECOND).await;
        held.check()
            .unwrap_or_else(|lost| panic!("{lease:?}, {hold} ms: {lost}"));
        assert_eq!(
            (fixture.holders("pool"), fixture.server.stats().connections),
            (1, 1)
        );
        held.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_is_reported_immediately() {
    let fixture = Fixture::new().await;
    let loss_count = Arc::new(AtomicU32::new(0));
    let count = loss_count.clone();
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .client(fixture.client.clone());
    let pool = pool
        .on_lost(move |_| _ = count.fetch_add(1, Ordering::Relaxed))
        .build()
        .unwrap();
    let held = acquire_on_reused_connection(&pool, 3, Duration::ZERO).await;
    let start = Instant::now();
    fixture.server.faults().disconnect("pool");
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    sleep(Duration::from_millis(1)).await;
    assert!(start.elapsed() < Duration::from_millis(5));
    assert_eq!(loss_count.load(Ordering::Relaxed), 1);
    assert!(held.release().await.unwrap_err().is_lost());
    assert_eq!(loss_count.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_loses_the_slot_before_its_lease_expires() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = acquire_on_reused_connection(&pool, 3, Duration::ZERO).await;
    let frozen = Instant::now();
    fixture.server.faults().freeze();
    assert_eq!(held.lost().await.reason, LostReason::Unreachable);
    assert!(
        frozen.elapsed() <= Duration::from_secs_f64(22.78),
        "{:?}",
        frozen.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn renew_sends_a_request() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = acquire_on_reused_connection(&pool, 3, Duration::ZERO).await;
    sleep(SECOND).await;
    let before = held.remaining();
    timeout(SECOND, held.renew()).await.unwrap().unwrap();
    assert!(held.remaining() > before);
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drop_releases_the_slot_immediately() {
    for auto_release in [true, false] {
        let fixture = Fixture::with_config(server().auto_release(auto_release).build()).await;
        let pool = fixture.client.semaphore("pool", 1).unwrap();
        drop(acquire_on_reused_connection(&pool, 3, Duration::ZERO).await);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(
            (fixture.holders("pool"), fixture.server.stats().connections),
            (0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_one_task_that_ends_with_it() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    acquire_on_reused_connection(&pool, 1, Duration::ZERO)
        .await
        .release()
        .await
        .unwrap();
    let idle = tasks();
    for _ in 0..100 {
        let held = pool.clone().acquire().await.unwrap();
        assert_eq!(tasks(), idle);
        held.release().await.unwrap();
        assert_eq!(tasks(), idle);
    }
    drop(pool.clone().acquire().await.unwrap());
    sleep(Duration::from_millis(1)).await;
    // The session on the server has ended as well.
    assert!(tasks() <= idle - 2, "{} of {idle}", tasks());
}

/// Replies `ok` to every request until the client disconnects.
async fn reply_ok(mut stream: TcpStream) {
    let mut request = [0; 256];
    while let Ok(count @ 1..) = stream.read(&mut request).await {
        let reply = if request[..count].starts_with(b"sl") {
            "ok 00000000000000010123456789abcdef 30\n"
        } else {
            "ok\n"
        };
        tokio::io::AsyncWriteExt::write_all(&mut stream, reply.as_bytes())
            .await
            .unwrap();
    }
}

// Server and client use different runtimes, so that only the end of the client's runtime can close
// the socket.
#[test]
fn the_socket_closes_when_its_runtime_ends() {
    let theirs = Builder::new_current_thread().enable_all().build().unwrap();
    let listener = theirs.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let client = dflock::Client::builder().servers([addr]).build().unwrap();
    let pool = client.semaphore("pool", 1).unwrap();
    let ours = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let held =
        ours.spawn(async move { acquire_on_reused_connection(&pool, 3, Duration::ZERO).await });
    let stream = theirs.block_on(async { listener.accept().await.unwrap().0 });
    let scripted_server = theirs.spawn(reply_ok(stream));
    let held = theirs.block_on(held).unwrap();
    held.check().unwrap();
    drop(ours);
    theirs.block_on(async {
        timeout(10 * SECOND, scripted_server)
            .await
            .unwrap()
            .unwrap();
    });
    assert_eq!(held.check().unwrap_err().reason, LostReason::Disconnected);
}
