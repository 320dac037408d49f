//! Fuzz harness for sessions: clients that send arbitrary bytes, without a socket.
#![allow(clippy::expect_used, reason = "test code")]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::{JoinHandle, spawn};
use tokio::time::{sleep, timeout};

use crate::server::{Server, Shared};
use crate::wire::Reply;

/// Separator between the turns of the clients. It occurs in no text.
const SEPARATOR: u8 = 0xff;

/// Capacity of a connection. It is small, so that writes block early.
const DUPLEX_CAPACITY: usize = 512;

/// Time limit for a session. It is longer than a session needs to write its replies and to linger
/// after its client has disconnected.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends `bytes` from three clients in turns, separated by [`SEPARATOR`]; an empty turn takes a
/// second. Every client must receive only replies and the end of the connection, and afterwards the
/// server must have no holds or waiters of them.
///
/// A first byte `!` sets the auth token `s3cret`; `*` disables auto-release.
pub(super) async fn run_session(bytes: &[u8]) {
    let (token, auto_release, bytes) = match bytes {
        [b'!', rest @ ..] => ("s3cret", true, rest),
        [b'*', rest @ ..] => ("", false, rest),
        rest => ("", true, rest),
    };
    let config = Server::builder()
        .auth_token(token)
        .auto_release(auto_release)
        .max_keys(9)
        .max_waiters(9)
        .build();
    let shared = Shared::seeded(config).expect("the options are valid");
    let mut clients = [(); 3].map(|()| FuzzClient::connect(&shared));
    for (turn, bytes) in bytes.split(|&b| b == SEPARATOR).enumerate() {
        clients[turn % 3].send(bytes).await;
    }
    for client in clients {
        client.close().await;
    }
    let stats = shared.stats();
    assert_eq!(stats.connections, 0);
    let has_holds = !stats.locks.is_empty() || !stats.semaphores.is_empty();
    assert!(
        !(auto_release && has_holds),
        "a closed connection holds or waits: {stats:?}"
    );
    let waiters = stats
        .locks
        .iter()
        .map(|lock| lock.waiters)
        .chain(stats.semaphores.iter().map(|semaphore| semaphore.waiters));
    assert_eq!(
        waiters.sum::<u64>(),
        0,
        "a closed connection waits: {stats:?}"
    );
}

/// A client with its session and a task that reads all replies.
struct FuzzClient {
    writer: tokio::io::WriteHalf<DuplexStream>,
    received: JoinHandle<Vec<u8>>,
    session: JoinHandle<()>,
}

impl FuzzClient {
    fn connect(shared: &Arc<Shared>) -> Self {
        let (client, server) = duplex(DUPLEX_CAPACITY);
        let session = spawn(Arc::clone(shared).serve(Box::new(server)));
        let (mut reader, writer) = split(client);
        let received = spawn(async move {
            let mut received = Vec::new();
            reader
                .read_to_end(&mut received)
                .await
                .expect("an in-memory stream has no errors");
            received
        });
        Self {
            writer,
            received,
            session,
        }
    }

    /// Sends `bytes` and lets the server handle them.
    async fn send(&mut self, bytes: &[u8]) {
        // The write fails when the server has closed the connection, and blocks when the client
        // waits in a queue.
        let _ = timeout(TIMEOUT, self.writer.write_all(bytes)).await;
        let pause = if bytes.is_empty() {
            Duration::from_secs(1)
        } else {
            Duration::from_millis(1)
        };
        sleep(pause).await;
    }

    async fn close(mut self) {
        let _ = self.writer.shutdown().await;
        timeout(TIMEOUT, self.session)
            .await
            .expect("the session hangs")
            .expect("the session panicked");
        let received = self.received.await.expect("the reader panicked");
        assert!(received.is_empty() || received.ends_with(b"\n"));
        for line in received
            .split(|&b| b == b'\n')
            .filter(|line| !line.is_empty())
        {
            assert!(
                Reply::decode(line).is_ok(),
                "not a reply: {:?}",
                String::from_utf8_lossy(line)
            );
        }
    }
}
