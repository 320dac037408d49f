//! Raw client, which sends given bytes and reads lines.

use std::time::Duration;

use dflock::Connector;
use dflock::server::Server;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Connection of a raw client.
pub(super) struct RawClient(BufReader<dflock::BoxStream>);

/// Value that [`RawClient::line`] returns at the end of the connection.
pub(super) const EOF: &str = "EOF";

impl RawClient {
    pub(super) async fn in_memory(server: &Server) -> Self {
        Self(BufReader::new(
            server.connector().connect("in-memory").await.unwrap(),
        ))
    }

    pub(super) async fn tcp(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    /// Sends the three lines of a request.
    pub(super) async fn send_request(&mut self, command: &str, key: &str, argument: &str) {
        self.send(format!("{command}\n{key}\n{argument}\n")).await;
    }

    /// Sends a request and returns its reply.
    pub(super) async fn request(&mut self, command: &str, key: &str, argument: &str) -> String {
        self.send_request(command, key, argument).await;
        self.line().await
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends `bytes` to a server that may have closed the connection.
    pub(super) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    pub(super) async fn line(&mut self) -> String {
        let mut line = String::new();
        match self.0.read_line(&mut line).await {
            Ok(0) | Err(_) => EOF.to_owned(),
            Ok(_) => line.trim_end_matches('\n').to_owned(),
        }
    }

    /// Returns the bytes of one read.
    pub(super) async fn read_available(&mut self) -> String {
        let mut bytes = vec![0; 64 * 1024];
        let count = self.0.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    /// Asserts that no line arrives for a second.
    pub(super) async fn assert_silent(&mut self) {
        let received = tokio::time::timeout(Duration::from_secs(1), self.line()).await;
        assert!(received.is_err(), "{received:?}");
    }

    /// Closes the sending direction.
    pub(super) async fn half_close(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Acquires `key` as a semaphore of limit 1 and returns the token.
    pub(super) async fn hold(&mut self, key: &str, lease: u64) -> String {
        token(&self.request("sl", key, &format!("0 1 {lease}")).await)
    }

    /// Waits until the server has handled all earlier requests of this connection.
    pub(super) async fn ping(&mut self) {
        assert_eq!(self.request("ping", "_", "_").await, "ok");
    }
}

/// Returns the token of `ok TOKEN LEASE`.
pub(super) fn token(reply: &str) -> String {
    match reply.split(' ').collect::<Vec<_>>()[..] {
        ["ok" | "acquired", token, _] if token.len() == 32 => token.to_owned(),
        _ => panic!("no token in {reply:?}"),
    }
}

/// Waits until the statistics of the server match `condition`.
pub(super) async fn wait_until(server: &Server, condition: impl Fn(&dflock::Stats) -> bool) {
    let polling = async {
        while !condition(&server.stats()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), polling)
        .await
        .unwrap_or_else(|_| panic!("{:?}", server.stats()));
}

/// Returns the number of waiters over all semaphores.
pub(super) fn waiters(stats: &dflock::Stats) -> u64 {
    stats
        .semaphores
        .iter()
        .map(|semaphore| semaphore.waiters)
        .sum()
}
