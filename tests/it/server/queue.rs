//! Queue of a key: order, blocking and leaving.

use std::time::Duration;

use dflock::server::Server;
use tokio::time::Instant;

use super::raw::{EOF, RawClient, token, wait_until, waiters};

#[tokio::test]
async fn the_queue_is_served_in_order_over_sockets() {
    let server = Server::start().await.unwrap();
    let mut holder = RawClient::tcp(&server).await;
    let mut held = holder.hold("pool", 30).await;
    let mut queued_clients = Vec::new();
    for number in 1..=10 {
        let mut waiter = RawClient::tcp(&server).await;
        waiter.send_request("sl", "pool", "20 1 30").await;
        wait_until(&server, |stats| waiters(stats) == number).await;
        queued_clients.push(waiter);
    }
    for mut next in queued_clients {
        assert_eq!(holder.request("sr", "pool", &held).await, "ok");
        held = token(&next.line().await);
        holder = next;
    }
}

// Covers bug S15.
#[tokio::test(start_paused = true)]
async fn a_slot_is_handed_over_immediately() {
    let server = Server::start().await.unwrap();
    let start_time = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut worker = RawClient::in_memory(&server).await;
        workers.spawn(async move {
            for _ in 0..5 {
                let held = token(&worker.request("sl", "pool", "100 1 100").await);
                assert_eq!(worker.request("sr", "pool", &held).await, "ok");
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    assert!(
        start_time.elapsed() < Duration::from_millis(1),
        "{:?}",
        start_time.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_times_out_after_its_seconds() {
    let server = Server::start().await.unwrap();
    let (mut holder, mut waiter) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    holder.hold("pool", 60).await;
    let start_time = Instant::now();
    assert_eq!(waiter.request("sl", "pool", "3 1 30").await, "timeout");
    assert_eq!(start_time.elapsed().as_secs(), 3);
    assert_eq!(waiter.request("se", "pool", "1 30").await, "queued");
    assert_eq!(waiter.request("sw", "pool", "2").await, "timeout");
    assert_eq!(start_time.elapsed().as_secs(), 5);
    assert_eq!(waiter_count(&server), 0);
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_hands_the_slot_over() {
    let server = Server::start().await.unwrap();
    let (mut holder, mut waiter) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    let held = holder.hold("pool", 2).await;
    let start_time = Instant::now();
    token(&waiter.request("sl", "pool", "10 1 30").await);
    assert!(
        (2..=3).contains(&start_time.elapsed().as_secs()),
        "{:?}",
        start_time.elapsed()
    );
    assert_eq!(holder.request("sn", "pool", &held).await, "error");
}

// Covers bugs S01, N1.
#[tokio::test(start_paused = true)]
async fn a_wait_never_returns_an_expired_token() {
    let server = Server::start().await.unwrap();
    let (mut a, mut b, mut c) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    let held = a.hold("pool", 30).await;
    assert_eq!(b.request("se", "pool", "1 1").await, "queued");
    assert_eq!(a.request("sr", "pool", &held).await, "ok");
    tokio::time::sleep(Duration::from_secs(2)).await;
    c.hold("pool", 30).await;
    assert_eq!(b.request("sw", "pool", "0").await, "error_lease_expired");
    assert_eq!(b.request("sw", "pool", "0").await, "error_not_enqueued");
    assert_eq!(b.request("se", "pool", "1 1").await, "queued");
}

#[tokio::test(start_paused = true)]
async fn a_blocked_request_delays_later_replies() {
    let server = Server::start().await.unwrap();
    let (mut holder, mut waiter) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    let held = holder.hold("pool", 30).await;
    waiter
        .send("ping\n_\n_\nsl\npool\n20 1 30\nping\n_\n_\nzz\nk\n1\n")
        .await;
    // Replies to earlier requests are not delayed.
    assert_eq!(waiter.line().await, "ok");
    waiter.assert_silent().await;
    assert_eq!(holder.request("sr", "pool", &held).await, "ok");
    token(&waiter.line().await);
    assert_eq!(waiter.read_available().await, "ok\nerror\n");
}

// Covers bugs S04, S05.
#[tokio::test]
async fn a_disconnecting_waiter_leaves_the_queue_immediately() {
    for auto_release in [true, false] {
        let server = Server::builder()
            .auto_release(auto_release)
            .build()
            .start()
            .await
            .unwrap();
        let mut holder = RawClient::tcp(&server).await;
        let held = holder.hold("pool", 30).await;
        for pipelined in [0, 100, 20_000] {
            let mut waiter = RawClient::tcp(&server).await;
            waiter.send_request("sl", "pool", "600 1 30").await;
            waiter.send("ping\n_\n_\n".repeat(pipelined)).await;
            wait_until(&server, |stats| waiters(stats) == 1).await;
            drop(waiter);
            wait_until(&server, |stats| {
                waiters(stats) == 0 && stats.connections == 1
            })
            .await;
        }
        assert_eq!(holder.request("sr", "pool", &held).await, "ok");
    }
}

// Covers bug S04. The server detects a disconnect behind any amount of pipelined bytes.
#[tokio::test]
async fn a_flooding_waiter_is_disconnected() {
    let server = Server::start().await.unwrap();
    let mut holder = RawClient::tcp(&server).await;
    holder.hold("pool", 30).await;
    let mut waiter = RawClient::in_memory(&server).await;
    waiter.send_request("sl", "pool", "600 1 30").await;
    wait_until(&server, |stats| waiters(stats) == 1).await;
    let _ = waiter.try_send("ping\n_\n_\n".repeat(100_000)).await;
    assert_eq!(waiter.line().await, "error");
    assert_eq!(waiter_count(&server), 0);
}

#[tokio::test]
async fn a_half_closed_client_leaves_after_its_earlier_requests_are_served() {
    let server = Server::start().await.unwrap();
    let mut leaving_client = RawClient::tcp(&server).await;
    leaving_client.send("ping\n_\n_\nsl\npool\n0 1 30\n").await;
    leaving_client.half_close().await;
    assert_eq!(leaving_client.line().await, "ok");
    token(&leaving_client.line().await);
    assert_eq!(leaving_client.line().await, EOF);

    let mut holder = RawClient::tcp(&server).await;
    holder.hold("pool", 30).await;
    let mut waiter = RawClient::tcp(&server).await;
    waiter.send_request("sl", "pool", "600 1 30").await;
    waiter.half_close().await;
    assert_eq!(waiter.line().await, EOF);
    assert_eq!(waiter_count(&server), 0);
}

#[tokio::test]
async fn closing_a_connection_hands_the_slot_over() {
    let server = Server::start().await.unwrap();
    let mut holder = RawClient::tcp(&server).await;
    holder.hold("pool", 600).await;
    let mut waiter = RawClient::tcp(&server).await;
    waiter.send_request("sl", "pool", "600 1 30").await;
    wait_until(&server, |stats| waiters(stats) == 1).await;
    drop(holder);
    token(&waiter.line().await);
}

fn waiter_count(server: &Server) -> u64 {
    waiters(&server.stats())
}
