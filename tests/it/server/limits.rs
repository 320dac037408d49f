//! Limits of connections, memory and keys.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use dflock::server::{Server, ServerError};

use super::raw::{EOF, RawClient, token, wait_until};

// Covers bug S07.
#[tokio::test]
async fn a_connection_above_the_limit_is_closed() {
    let server = Server::builder()
        .max_connections(2)
        .build()
        .start()
        .await
        .unwrap();
    let (mut first, mut second) = (
        RawClient::tcp(&server).await,
        RawClient::in_memory(&server).await,
    );
    first.ping().await;
    second.ping().await;
    for mut third in [
        RawClient::tcp(&server).await,
        RawClient::in_memory(&server).await,
    ] {
        assert_eq!(third.line().await, EOF);
    }
    assert_eq!(server.stats().connections, 2);
    drop(first);
    wait_until(&server, |stats| stats.connections == 1).await;
    RawClient::tcp(&server).await.ping().await;
}

// Covers bug T48.
#[tokio::test]
async fn ten_thousand_connections_leak_nothing() {
    let server = Server::builder().max_keys(1).build().start().await.unwrap();
    for number in 0..10_000 {
        let mut client = if number % 50 == 0 {
            RawClient::tcp(&server).await
        } else {
            RawClient::in_memory(&server).await
        };
        if number % 10 == 0 {
            token(&client.request("sl", "pool", "20 1 30").await);
        }
    }
    wait_until(&server, |stats| {
        stats.connections == 0 && stats.semaphores.is_empty()
    })
    .await;
    assert_eq!(server.stats().idle_semaphores.len(), 1);
}

// Covers bug S22.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_replies_is_disconnected() {
    for (write_timeout, seconds) in [(Duration::ZERO, None), (Duration::from_secs(5), Some(5))] {
        let server = Server::builder()
            .write_timeout(write_timeout)
            .build()
            .start()
            .await
            .unwrap();
        let mut non_reading = RawClient::in_memory(&server).await;
        non_reading.hold("pool", 600).await;
        let start_time = tokio::time::Instant::now();
        non_reading.send("stats\n_\n_\n".repeat(4_000)).await;
        let mut next = RawClient::in_memory(&server).await;
        let reply = next.request("sl", "pool", "100 1 30").await;
        if let Some(seconds) = seconds {
            token(&reply);
            assert_eq!(start_time.elapsed().as_secs(), seconds);
        } else {
            assert_eq!(reply, "timeout");
            assert!(non_reading.line().await.starts_with("ok {"));
        }
    }
}

// Covers bug N6.
#[tokio::test(start_paused = true)]
async fn a_limit_is_remembered_for_a_minute() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::in_memory(&server).await;
    let held = client.hold("pool", 30).await;
    assert_eq!(client.request("sr", "pool", &held).await, "ok");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(
            client.request("sl", "pool", "0 2 30").await,
            "error_limit_mismatch"
        );
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    token(&client.request("sl", "pool", "0 2 30").await);
}

// Covers bug S21.
#[tokio::test]
async fn the_server_listens_on_ipv6() {
    match Server::builder().bind("[::1]:0").build().start().await {
        Ok(server) => {
            assert_eq!(server.addr().ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
            RawClient::tcp(&server).await.ping().await;
        }
        // Some machines have no IPv6.
        Err(error) => assert_eq!(error.to_string(), "cannot listen on [::1]:0"),
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = Server::start().await.unwrap();
    let address = server.addr().to_string();
    let error = Server::builder()
        .bind(&*address)
        .build()
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    assert!(
        matches!(
            &error,
            ServerError::Bind { source, .. }
                if source.kind() == std::io::ErrorKind::AddrInUse
        ),
        "{error:?}"
    );
}

#[test]
fn a_server_is_send_and_sync() {
    fn is_shared<T: Send + Sync + 'static>(_: Option<T>) {}
    fn is_sent<T: Send>(_: T) {}
    is_shared(None::<Server>);
    is_shared(None::<ServerError>);
    is_shared(None::<dflock::server::MemoryConnector>);
    is_sent(Server::start());
    is_sent(async { Server::start().await.unwrap().shutdown().await });
}
