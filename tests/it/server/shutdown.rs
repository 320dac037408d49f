//! Shutdown of the embedded server.

use std::io::ErrorKind;
use std::time::Duration;

use dflock::Connector;
use dflock::server::Server;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::raw::{EOF, RawClient, token, wait_until, waiters};

// Covers bug S23.
#[tokio::test(start_paused = true)]
async fn shutdown_notifies_waiters_and_waits_for_holders() {
    let server = Server::start().await.unwrap();
    let connector = server.connector();
    let (mut holder, mut blocked, mut queued, mut idle) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    let held = holder.hold("pool", 600).await;
    blocked.send_request("sl", "pool", "100 1 600").await;
    assert_eq!(queued.request("se", "pool", "1 30").await, "queued");
    queued.send_request("sw", "pool", "100").await;
    idle.ping().await;
    wait_until(&server, |stats| waiters(stats) == 2).await;

    let start_time = Instant::now();
    let shutdown = tokio::spawn(server.shutdown());
    for waiter in [&mut blocked, &mut queued] {
        assert_eq!(waiter.line().await, "error_draining");
        assert_eq!(waiter.line().await, EOF);
    }
    assert_eq!(idle.line().await, EOF);
    assert_eq!(
        holder.request("sl", "other", "0 1 30").await,
        "error_draining"
    );
    assert_eq!(
        holder.request("se", "other", "1 30").await,
        "error_draining"
    );
    assert_eq!(holder.request("sn", "pool", &held).await, "ok 33");
    assert!(!shutdown.is_finished());
    assert_eq!(holder.request("sr", "pool", &held).await, "ok");
    assert_eq!(holder.line().await, EOF);
    // Only the server has closed connections.
    shutdown.await.unwrap();
    assert!(
        start_time.elapsed() < Duration::from_millis(10),
        "{:?}",
        start_time.elapsed()
    );
    assert_eq!(
        connector.connect("in-memory").await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test(start_paused = true)]
async fn new_clients_are_rejected_during_shutdown() {
    let server = Server::start().await.unwrap();
    let connector = server.connector();
    let mut holder = RawClient::in_memory(&server).await;
    holder.hold("pool", 5).await;
    let start_time = Instant::now();
    let late = async {
        // The connector does not know yet that the server accepts no connections.
        let mut late = connector.connect("in-memory").await.unwrap();
        assert_eq!(late.read(&mut [0]).await.unwrap(), 0);
        start_time.elapsed()
    };
    let ((), turned_away) = tokio::join!(biased; server.shutdown(), late);
    assert!(turned_away < Duration::from_millis(10), "{turned_away:?}");
    assert!(start_time.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_holders_until_its_timeout() {
    let server = Server::builder()
        .shutdown_timeout(Duration::from_secs(7))
        .build()
        .start()
        .await
        .unwrap();
    let mut holder = RawClient::in_memory(&server).await;
    holder.hold("pool", 600).await;
    let start_time = Instant::now();
    server.faults().freeze();
    server.shutdown().await;
    assert_eq!(start_time.elapsed().as_secs(), 7);
    assert_eq!(holder.line().await, EOF);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_a_silent_holder_until_its_lease_expires() {
    let server = Server::start().await.unwrap();
    let mut holder = RawClient::in_memory(&server).await;
    holder.hold("pool", 5).await;
    let start_time = Instant::now();
    server.shutdown().await;
    assert!(
        (5..=7).contains(&start_time.elapsed().as_secs()),
        "{:?}",
        start_time.elapsed()
    );
    assert_eq!(holder.line().await, EOF);
}

#[tokio::test(start_paused = true)]
async fn shutdown_thaws_a_frozen_server() {
    let server = Server::start().await.unwrap();
    let mut idle = RawClient::in_memory(&server).await;
    idle.ping().await;
    server.faults().freeze();
    let start_time = Instant::now();
    server.shutdown().await;
    assert!(
        start_time.elapsed() < Duration::from_secs(1),
        "{:?}",
        start_time.elapsed()
    );
    assert_eq!(idle.line().await, EOF);
}

#[tokio::test]
async fn dropping_the_server_stops_everything() {
    let server = Server::start().await.unwrap();
    let (addr, connector) = (server.addr(), server.connector());
    let (mut holder, mut waiter) = (
        RawClient::tcp(&server).await,
        RawClient::in_memory(&server).await,
    );
    holder.hold("pool", 600).await;
    waiter.send_request("sl", "pool", "100 1 600").await;
    wait_until(&server, |stats| waiters(stats) == 1).await;
    drop(server);
    assert_eq!(holder.line().await, EOF);
    assert_eq!(waiter.line().await, EOF);
    assert!(TcpStream::connect(addr).await.is_err());
    assert!(connector.connect("in-memory").await.is_err());
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert_eq!(tasks, 0);
}

#[tokio::test]
async fn a_connector_outlives_its_server_and_keeps_nothing_alive() {
    let server = Server::start().await.unwrap();
    let connector = server.connector();
    let mut client = RawClient::tcp(&server).await;
    token(&client.request("sl", "pool", "0 1 30").await);
    server.faults().disconnect_all();
    server.shutdown().await;
    assert!(connector.connect("in-memory").await.is_err());
}
