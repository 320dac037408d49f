//! Guarantees of a hold over TLS.

use std::time::Duration;

use dflock::server::{Server, ServerConfig};
use dflock::{Client, Enqueued, Error, LostReason};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use super::test_ca::TestCa;
use crate::fixture::acquire_pool;

/// Returns a server with TLS and a client that reaches it in memory.
async fn start(config: ServerConfig) -> (Server, Client) {
    let server = config.start().await.unwrap();
    let client = server
        .client_builder()
        .connector(server.connector())
        .build()
        .unwrap();
    (server, client)
}

macro_rules! server {
    ($($option:ident($value:expr)),*) => {
        Server::builder().tls(TestCa::new().server())$(.$option($value))*.build()
    };
}

// Covers bug T49.
#[tokio::test]
async fn a_dropped_slot_goes_to_the_next_waiter_with_and_without_auto_release() {
    for auto_release in [true, false] {
        let server = server!(auto_release(auto_release)).start().await.unwrap();
        let pool = server.client().semaphore("pool", 1).unwrap();
        let held = pool.clone().acquire().await.unwrap();
        let Enqueued::Queued(next) = pool.enqueue().await.unwrap() else {
            panic!("the slot is taken")
        };
        drop(held);
        // Without the release the lease would last 33 s.
        next.wait().await.unwrap().release().await.unwrap();
    }
}

// The drop itself writes the TLS close, without an executor.
#[test]
fn dropping_a_slot_outside_its_executor_releases_it() {
    let outside = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = outside
        .block_on(server!(auto_release(false)).start())
        .unwrap();
    let client = server.client();
    let stopped = Builder::new_current_thread().enable_all().build().unwrap();
    let held = stopped
        .block_on(client.semaphore("pool", 1).unwrap().acquire())
        .unwrap();
    drop(held);
    outside
        .block_on(async { client.semaphore("pool", 1).unwrap().acquire().await })
        .unwrap();
    drop(stopped);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_slots_dropped_together_are_all_released() {
    let (server, client) = start(server!(auto_release(false))).await;
    let pool = client.semaphore("pool", 200).unwrap();
    let mut holds = Vec::new();
    for _ in 0..200 {
        holds.push(pool.clone().acquire().await.unwrap());
    }
    drop(holds);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        server
            .stats()
            .semaphores
            .iter()
            .map(|semaphore| semaphore.holders)
            .sum::<u64>(),
        0
    );
}

// Covers bugs T02, N2, N3, N5. Leases of any length, and a place in the queue.
#[tokio::test(start_paused = true)]
async fn leases_are_renewed_and_queue_positions_are_kept() {
    let (_server, client) = start(server!()).await;
    for lease in [1, 33, 300] {
        let lease = Duration::from_secs(lease);
        let pool = dflock::Semaphore::builder()
            .key("pool")
            .limit(1)
            .lease_ttl(lease)
            .client(client.clone())
            .build()
            .unwrap();
        let held = pool.clone().acquire().await.unwrap();
        let Enqueued::Queued(next) = pool.clone().enqueue().await.unwrap() else {
            panic!("the slot is taken")
        };
        sleep(Duration::from_mins(2)).await;
        held.check().unwrap();
        held.release().await.unwrap();
        next.wait().await.unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn connections_are_reused() {
    let server = server!().start().await.unwrap();
    let client = server.client();
    let mut pool = client.semaphore("pool", 1).unwrap();
    for _ in 0..20 {
        pool = pool.acquire().await.unwrap().release().await.unwrap();
        client.ping().await.unwrap();
        assert_eq!(server.stats().connections, 1);
    }
}

// Covers bugs N7, G10. The reply exceeds one TLS record and 64 KiB.
#[tokio::test]
async fn a_long_reply_is_read_completely() {
    const KEYS: usize = 700;
    let server = server!().start().await.unwrap();
    let client = server.client();
    for number in 0..KEYS {
        let key = format!("{number:0>100}");
        client
            .semaphore(key, 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    let stats = client.stats().await.unwrap().remove(0);
    assert_eq!(stats.idle_semaphores.len(), KEYS);
    assert_eq!(server.stats().connections, 1);
}

// Covers bugs P12, T07. The server never acknowledges.
#[tokio::test(start_paused = true)]
async fn a_release_on_a_frozen_server_times_out() {
    let (server, client) = start(server!()).await;
    let pool = client.semaphore("pool", 3).unwrap();
    let (first, second, third) = (
        pool.clone().acquire().await.unwrap(),
        pool.clone().acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
    );
    server.faults().freeze();
    let start = Instant::now();
    drop(first);
    second.close();
    assert!(start.elapsed().is_zero());
    third.release().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 5);
}

// Covers bug T10. The connection ends without a TLS close.
#[tokio::test(start_paused = true)]
async fn a_disconnect_loses_the_slot_immediately() {
    let (server, client) = start(server!()).await;
    let held = acquire_pool(&client).await;
    server.faults().disconnect("pool");
    let start = Instant::now();
    let lost = held.lost().await;
    assert_eq!(lost.reason, LostReason::Disconnected);
    assert!(start.elapsed() < Duration::from_millis(5));
    // Covers bug T12.
    acquire_pool(&client).await.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiters_are_notified_of_a_shutdown() {
    let (server, client) = start(server!()).await;
    let pool = client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let waiting = tokio::spawn(pool.acquire());
    sleep(Duration::from_millis(1)).await;
    let stopping = tokio::spawn(server.shutdown());
    assert!(matches!(
        waiting.await.unwrap(),
        Err(Error::Draining { .. })
    ));
    held.release().await.unwrap();
    stopping.await.unwrap();
}
