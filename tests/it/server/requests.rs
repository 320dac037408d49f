//! Requests and replies.

use std::time::Duration;

use dflock::server::Server;

use super::raw::{EOF, RawClient, token};

#[tokio::test(start_paused = true)]
async fn replies_to_pipelined_requests_are_written_together() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::in_memory(&server).await;
    let mut holder = RawClient::in_memory(&server).await;
    holder.hold("pool", 600).await;
    // Each write takes a second, so that the test can count them.
    server.faults().delay_replies(Duration::from_secs(1));
    let start_time = tokio::time::Instant::now();
    // A wait of zero does not force an earlier write.
    client
        .send(format!("{}sl\npool\n0 1 30\n", "ping\n_\n_\n".repeat(20)))
        .await;
    assert_eq!(
        client.read_available().await,
        format!("{}timeout\n", "ok\n".repeat(20))
    );
    assert_eq!(start_time.elapsed().as_secs(), 1);
}

// Covers bugs T27, S12.
#[tokio::test]
async fn a_request_may_arrive_byte_by_byte() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::tcp(&server).await;
    for byte in "sl\r\nключ☃\r\n0 1 30\r\n".bytes() {
        client.send([byte]).await;
    }
    token(&client.line().await);
}

#[tokio::test]
async fn invalid_utf_8_is_an_error_and_keeps_the_connection() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::tcp(&server).await;
    for bad in [
        &b"sl\nk\xff\n0 1\n"[..],
        b"\xff\nk\n0 1\n",
        b"sl\nk\n0 \xff\n",
    ] {
        client.send(bad).await;
        assert_eq!(client.line().await, "error");
    }
    client.ping().await;
}

// Covers bug S11.
#[tokio::test]
async fn a_line_has_at_most_256_bytes() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::tcp(&server).await;
    client.hold(&"k".repeat(256), 30).await;
    client.send_request("sl", &"k".repeat(257), "0 1 30").await;
    assert_eq!(client.line().await, "error");
    assert_eq!(client.line().await, EOF);
    // The reply arrives for a line of any length.
    let mut client = RawClient::tcp(&server).await;
    let _ = client.try_send("x".repeat(1_000_000)).await;
    assert_eq!(client.line().await, "error");
    assert_eq!(client.line().await, EOF);
}

// Covers bugs N10, S12.
#[tokio::test]
async fn stats_are_sent_as_json() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::tcp(&server).await;
    token(&client.request("l", "job", "0 30").await);
    client.hold("pool", 30).await;
    let reply = client.request("stats", "_", "_").await;
    assert!(
        reply.starts_with(r#"ok {"connections":1,"locks":[{"key":"job","owner_conn_id":1,"#),
        "{reply}"
    );
    assert!(
        reply.contains(r#""semaphores":[{"key":"pool","limit":1,"holders":1,"waiters":0}]"#),
        "{reply}"
    );
    assert!(
        reply.ends_with(r#""idle_locks":[],"idle_semaphores":[]}"#),
        "{reply}"
    );
}

// Covers bug S16.
#[tokio::test]
async fn clients_without_the_auth_token_are_rejected() {
    let auth_token = "s".repeat(64 * 1024);
    let server = Server::builder()
        .auth_token(&*auth_token)
        .build()
        .start()
        .await
        .unwrap();
    let mut authenticated = RawClient::tcp(&server).await;
    assert_eq!(authenticated.request("auth", "_", &auth_token).await, "ok");
    authenticated.hold("pool", 30).await;
    assert_eq!(
        authenticated.request("auth", "_", &auth_token).await,
        "error"
    );
    authenticated.ping().await;
    for (command, key, argument) in [
        ("auth", "_", "wrong"),
        ("auth", "_", ""),
        ("ping", "_", "_"),
        ("sl", "k", "0 1"),
        ("zz", "", ""),
    ] {
        let mut unauthenticated = RawClient::tcp(&server).await;
        assert_eq!(
            unauthenticated.request(command, key, argument).await,
            "error_auth",
            "{command}"
        );
        assert_eq!(unauthenticated.line().await, EOF);
    }
    let mut unauthenticated = RawClient::tcp(&server).await;
    let _ = unauthenticated
        .try_send(format!("auth\n_\n{auth_token}s\n"))
        .await;
    assert_eq!(unauthenticated.line().await, "error");
    assert_eq!(unauthenticated.line().await, EOF);
}

#[tokio::test]
async fn an_unexpected_auth_token_is_an_error() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::tcp(&server).await;
    assert_eq!(client.request("auth", "_", "unsolicited").await, "error");
    client.ping().await;
}

#[tokio::test(start_paused = true)]
async fn a_seed_determines_the_tokens() {
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let server = Server::builder().build().seed(7).start().await.unwrap();
        let mut client = RawClient::in_memory(&server).await;
        tokens.push(client.hold("pool", 30).await);
    }
    assert_eq!(tokens[0], tokens[1]);
    assert!(tokens[0].starts_with("0000000000100001"), "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn fences_increase_with_every_grant_over_all_keys() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::in_memory(&server).await;
    let mut last = String::new();
    for number in 0..50 {
        let fence = client.hold(&format!("k{number}"), 30).await[..16].to_owned();
        assert!(fence > last);
        last = fence;
    }
}

// Covers bug S13. The read timeout is reported in a last line, on every kind of stream.
#[tokio::test(start_paused = true)]
async fn the_read_timeout_closes_the_connection_and_releases_its_slots() {
    let server = Server::start().await.unwrap();
    let (mut silent, mut waiter) = (
        RawClient::in_memory(&server).await,
        RawClient::in_memory(&server).await,
    );
    silent.hold("pool", 600).await;
    let start_time = tokio::time::Instant::now();
    // A partial request does not reset the read timeout.
    tokio::time::sleep(Duration::from_secs(10)).await;
    silent.send("sn\n").await;
    // Waiting for a reply does not count as silence.
    token(&waiter.request("sl", "pool", "100 1 600").await);
    assert_eq!(start_time.elapsed().as_secs(), 23);
    assert_eq!(silent.line().await, "error");
    assert_eq!(silent.line().await, EOF);
    assert_eq!(waiter.request("sl", "pool", "100 1 600").await, "timeout");
    assert_eq!(start_time.elapsed().as_secs(), 123);
}

#[tokio::test(start_paused = true)]
async fn each_request_restarts_the_read_timeout() {
    let server = Server::start().await.unwrap();
    let mut client = RawClient::in_memory(&server).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(22)).await;
        client.ping().await;
    }
}
