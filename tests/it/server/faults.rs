//! Injected faults.

use std::io::ErrorKind;
use std::time::Duration;

use dflock::Connector;
use dflock::server::Server;
use tokio::time::{Instant, sleep};

use super::raw::{EOF, RawClient, token};

#[tokio::test(start_paused = true)]
async fn expire_returns_whether_a_lease_existed() {
    let server = Server::start().await.unwrap();
    for key in ["no-such-key", "not a key", ""] {
        assert!(!server.faults().expire(key), "{key:?}");
    }
    let mut client = RawClient::in_memory(&server).await;
    client.hold("pool", 30).await;
    assert!(!server.faults().expire("poool"));
    assert!(server.faults().expire("pool"));
    // The server remembers the key, which has no holder.
    assert!(!server.faults().expire("pool"));
    client.send_request("l", "pool", "0 1").await;
    assert!(client.line().await.starts_with("ok "));
    assert!(server.faults().expire("pool"), "a lock");
    // The lease had expired already.
    client.hold("pool", 1).await;
    sleep(Duration::from_millis(1001)).await;
    assert!(!server.faults().expire("pool"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_can_be_expired_immediately() {
    let server = Server::start().await.unwrap();
    let (mut holder, mut waiter) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    let held = holder.hold("pool", 600).await;
    waiter.send_request("sl", "pool", "100 1 600").await;
    waiter.assert_silent().await;
    let start_time = Instant::now();
    assert!(server.faults().expire("pool"));
    assert!(!server.faults().expire("other"));
    assert!(!server.faults().expire("not a key"));
    token(&waiter.line().await);
    assert_eq!(start_time.elapsed(), Duration::ZERO);
    assert_eq!(holder.request("sn", "pool", &held).await, "error");
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_key_can_be_closed() {
    let server = Server::start().await.unwrap();
    let (mut holder, mut waiter, mut other) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    holder.hold("pool", 600).await;
    other.hold("other", 600).await;
    waiter.send_request("sl", "pool", "100 1 600").await;
    waiter.assert_silent().await;
    server.faults().disconnect("pool");
    assert_eq!(holder.line().await, EOF);
    assert_eq!(waiter.line().await, EOF);
    other.ping().await;
    assert_eq!(server.stats().semaphores.len(), 1);
    server.faults().disconnect_all();
    assert_eq!(other.line().await, EOF);
    assert_eq!(
        (server.stats().connections, server.stats().semaphores.len()),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_does_nothing_and_catches_up_after_thawing() {
    let server = Server::start().await.unwrap();
    let (mut holder, mut waiter) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    let held = holder.hold("pool", 2).await;
    waiter.send_request("sl", "pool", "100 1 30").await;
    waiter.assert_silent().await;

    server.faults().freeze();
    let mut late = RawClient::in_memory(&server).await;
    let mut late_over_tcp = RawClient::tcp(&server).await;
    late.send_request("ping", "_", "_").await;
    late_over_tcp.send_request("ping", "_", "_").await;
    holder.send_request("sn", "pool", &held).await;
    sleep(Duration::from_secs(15)).await;
    // The lease does not expire, and no reply is sent.
    waiter.assert_silent().await;
    late.assert_silent().await;
    late_over_tcp.assert_silent().await;
    holder.assert_silent().await;

    server.faults().thaw();
    token(&waiter.line().await);
    assert_eq!(holder.line().await, "error");
    assert_eq!(late.line().await, "ok");
    assert_eq!(late_over_tcp.line().await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_read_timeout_while_frozen_is_reported_after_thawing() {
    let server = Server::start().await.unwrap();
    let (mut silent, mut talking) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    silent.ping().await;
    talking.ping().await;
    server.faults().freeze();
    sleep(Duration::from_mins(1)).await;
    talking.send_request("ping", "_", "_").await;
    server.faults().thaw();
    assert_eq!(talking.line().await, "ok");
    assert_eq!(silent.line().await, "error");
    assert_eq!(silent.line().await, EOF);
}

#[tokio::test]
async fn new_connections_can_be_rejected() {
    let server = Server::start().await.unwrap();
    let mut before = RawClient::tcp(&server).await;
    before.ping().await;
    server.faults().refuse_connections(true);
    let error = server.connector().connect("in-memory").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(RawClient::tcp(&server).await.line().await, EOF);
    before.ping().await;
    server.faults().refuse_connections(false);
    RawClient::tcp(&server).await.ping().await;
    RawClient::in_memory(&server).await.ping().await;
}

#[tokio::test(start_paused = true)]
async fn replies_can_be_delayed() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::in_memory(&server).await;
    server.faults().delay_replies(Duration::from_secs(2));
    let start_time = Instant::now();
    client.send("ping\n_\n_\nzz\n_\n_\n").await;
    assert_eq!(
        (client.line().await, client.line().await),
        ("ok".into(), "error".into())
    );
    assert_eq!(start_time.elapsed().as_secs(), 2);
    // A request sent during the delay is answered in its turn.
    client.send_request("ping", "_", "_").await;
    sleep(Duration::from_secs(1)).await;
    client.send_request("zz", "_", "_").await;
    assert_eq!(
        (client.line().await, client.line().await),
        ("ok".into(), "error".into())
    );
    assert_eq!(start_time.elapsed().as_secs(), 6);
    // A disconnect during the delay is detected immediately.
    client.send_request("sl", "pool", "0 1 600").await;
    sleep(Duration::from_millis(10)).await;
    drop(client);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(
        (server.stats().connections, server.stats().semaphores.len()),
        (0, 0)
    );
    server.faults().delay_replies(Duration::ZERO);
    let start_time = Instant::now();
    RawClient::in_memory(&server).await.ping().await;
    assert_eq!(start_time.elapsed(), Duration::ZERO);
}

// With auto-release off, closing a connection releases nothing.
#[tokio::test(start_paused = true)]
async fn a_release_behind_a_delayed_reply_is_applied() {
    let server = Server::builder()
        .auto_release(false)
        .build()
        .start()
        .await
        .unwrap();
    let mut client = RawClient::in_memory(&server).await;
    let held = client.hold("pool", 600).await;
    server.faults().delay_replies(Duration::from_secs(2));
    client.send_request("sn", "pool", &held).await;
    client.assert_silent().await;
    client.send_request("sr", "pool", &held).await;
    drop(client);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        server.stats().semaphores.len(),
        0,
        "the slot is held: {:?}",
        server.stats()
    );
}
