//! How a server ends.

use std::io::ErrorKind;
use std::time::Duration;

use dflock::Connector;
use dflock::server::Server;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::raw::{EOF, Raw, token, until, waiters};

// S23
#[tokio::test(start_paused = true)]
async fn shutting_down_tells_waiters_and_waits_for_holders() {
    let server = Server::start().await.unwrap();
    let connector = server.connector();
    let (mut holder, mut blocked, mut queued, mut idle) = (
        Raw::in_memory(&server).await,
        Raw::in_memory(&server).await,
        Raw::in_memory(&server).await,
        Raw::in_memory(&server).await,
    );
    let held = holder.hold("pool", 600).await;
    blocked.ask("sl", "pool", "100 1 600").await;
    assert_eq!(queued.hear("se", "pool", "1 30").await, "queued");
    queued.ask("sw", "pool", "100").await;
    idle.ping().await;
    until(&server, |stats| waiters(stats) == 2).await;

    let began = Instant::now();
    let shutdown = tokio::spawn(server.shutdown());
    for waiter in [&mut blocked, &mut queued] {
        assert_eq!(waiter.line().await, "error_draining");
        assert_eq!(waiter.line().await, EOF);
    }
    assert_eq!(idle.line().await, EOF);
    assert_eq!(holder.hear("sl", "other", "0 1 30").await, "error_draining");
    assert_eq!(holder.hear("se", "other", "1 30").await, "error_draining");
    assert_eq!(holder.hear("sn", "pool", &held).await, "ok 33");
    assert!(!shutdown.is_finished());
    assert_eq!(holder.hear("sr", "pool", &held).await, "ok");
    assert_eq!(holder.line().await, EOF);
    // nobody has closed a connection but the server
    shutdown.await.unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        connector.connect("in-memory").await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_it_shuts_down_is_turned_away_at_once() {
    let server = Server::start().await.unwrap();
    let connector = server.connector();
    let mut holder = Raw::in_memory(&server).await;
    holder.hold("pool", 5).await;
    let began = Instant::now();
    let late = async {
        // it has not been told yet that nobody is let in any more
        let mut late = connector.connect("in-memory").await.unwrap();
        assert_eq!(late.read(&mut [0]).await.unwrap(), 0);
        began.elapsed()
    };
    let ((), turned_away) = tokio::join!(biased; server.shutdown(), late);
    assert!(turned_away < Duration::from_millis(10), "{turned_away:?}");
    assert!(began.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_holders_only_so_long() {
    let server = Server::builder()
        .shutdown_timeout(Duration::from_secs(7))
        .build()
        .start()
        .await
        .unwrap();
    let mut holder = Raw::in_memory(&server).await;
    holder.hold("pool", 600).await;
    let began = Instant::now();
    server.faults().freeze();
    server.shutdown().await;
    assert_eq!(began.elapsed().as_secs(), 7);
    assert_eq!(holder.line().await, EOF);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_a_silent_holder_until_its_lease_ends() {
    let server = Server::start().await.unwrap();
    let mut holder = Raw::in_memory(&server).await;
    holder.hold("pool", 5).await;
    let began = Instant::now();
    server.shutdown().await;
    assert!(
        (5..=7).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(holder.line().await, EOF);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_is_thawed_to_shut_down() {
    let server = Server::start().await.unwrap();
    let mut idle = Raw::in_memory(&server).await;
    idle.ping().await;
    server.faults().freeze();
    let began = Instant::now();
    server.shutdown().await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(idle.line().await, EOF);
}

#[tokio::test]
async fn dropping_it_stops_everything() {
    let server = Server::start().await.unwrap();
    let (addr, connector) = (server.addr(), server.connector());
    let (mut holder, mut waiter) = (Raw::tcp(&server).await, Raw::in_memory(&server).await);
    holder.hold("pool", 600).await;
    waiter.ask("sl", "pool", "100 1 600").await;
    until(&server, |stats| waiters(stats) == 1).await;
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
    let mut client = Raw::tcp(&server).await;
    token(&client.hear("sl", "pool", "0 1 30").await);
    server.faults().disconnect_all();
    server.shutdown().await;
    assert!(connector.connect("in-memory").await.is_err());
}
