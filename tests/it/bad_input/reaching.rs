//! Servers that cannot be reached, or go away before they have answered.

use std::error::Error as _;
use std::future::pending;
use std::time::Duration;

use dflock::{Client, Clock, Connecting, Connector, Error, Operation};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::reads_well;
use crate::peer::*;

// T06, T14, P27
#[tokio::test]
async fn nobody_listens_and_then_somebody_does() {
    // bound, so that the port is ours; not listening, so that connections are refused
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let pool = Client::builder().servers([address.as_str()]).build().unwrap().semaphore("pool", 1).unwrap();

    let error = pool.clone().acquire().await.unwrap_err();
    assert!(matches!(&error, Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused), "{error:?}");
    assert!(error.is_retryable() && error.source().is_some());
    assert_eq!((error.key(), error.server(), error.operation()), (Some("pool"), Some(address.as_str()), Some(Operation::Acquire)));
    reads_well(&error, &["acquire", "\"pool\"", &address, "`servers`"]);

    let peer = Peer::on(socket.listen(8).unwrap(), [vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)]]);
    pool.acquire().await.unwrap().release().await.unwrap();
    peer.finish().await;
}

/// A network that swallows everything.
struct Blackhole;

impl Connector for Blackhole {
    fn connect<'a>(&'a self, _server: &'a str) -> Connecting<'a> {
        Box::pin(pending())
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// P08, G15
#[tokio::test(start_paused = true)]
async fn connecting_ends_with_the_connect_timeout() {
    let limit = Duration::from_millis(1300);
    let client = Client::builder().connector(Blackhole).connect_timeout(limit).build().unwrap();
    let began = Instant::now();
    let error = client.semaphore("pool", 1).unwrap().acquire().await.unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { .. }), "{error:?}");
    // tokio's timers count in whole milliseconds
    assert!(began.elapsed() >= limit && began.elapsed() <= limit + Duration::from_millis(1), "{:?}", began.elapsed());
    assert!(error.is_retryable() && !error.is_timeout());
    reads_well(&error, &["acquire", "\"pool\"", "127.0.0.1:6388", "1.3s", "`connect_timeout`"]);
}

// T10
#[tokio::test]
async fn a_connection_that_ends_before_its_reply_is_an_error_at_once() {
    for (sent, end) in [("", close()), ("ok 00000000", close()), ("", half_close()), ("ok 00000000", half_close())] {
        let peer = Peer::tcp([vec![hear(ACQUIRE), say(sent), end]]).await;
        let error = peer.pool().acquire().await.unwrap_err();
        assert!(matches!(error, Error::Disconnected { source: None, .. }), "{sent:?}: {error:?}");
        assert!(error.is_retryable());
        reads_well(&error, &["acquire", "\"pool\"", peer.address(), "before the answer"]);
        peer.finish().await;
    }
}

#[tokio::test]
async fn a_reset_is_an_error_that_keeps_its_cause() {
    let peer = Peer::tcp([vec![hear(ACQUIRE), reset()]]).await;
    let error = peer.pool().acquire().await.unwrap_err();
    assert!(matches!(&error, Error::Disconnected { source: Some(source), .. } if source.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(error.source().is_some());
    reads_well(&error, &["acquire", "\"pool\"", peer.address()]);
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_unresponsive_when_its_time_is_over() {
    let peer = Peer::memory([vec![hear(ACQUIRE), hear_end()], vec![hear(PING), hear_end()]]);
    let began = Instant::now();
    let error = peer.pool().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    // ten seconds in line, and one to say so
    assert_eq!(began.elapsed().as_secs(), 11);
    reads_well(&error, &["acquire", "\"pool\"", peer.address(), "11s", "`socket_timeout`"]);
    let error = peer.client().ping().await.unwrap_err();
    reads_well(&error, &["ping on", peer.address(), "5s", "`socket_timeout`"]);
    assert_eq!(error.key(), None);
    peer.finish().await;
}
