//! Steps of a script: the bytes received and sent on one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Checkpoints;
use super::endpoint::Socket;

/// Token of every grant below. The other constants are requests and replies as sent on the wire.
pub(crate) const TOKEN: &str = "00000000000000010123456789abcdef";
pub(crate) const ACQUIRE: &str = "sl\npool\n10 1\n";
pub(crate) const TRY_ACQUIRE: &str = "sl\npool\n0 1\n";
pub(crate) const ENQUEUE: &str = "se\npool\n1\n";
pub(crate) const WAIT: &str = "sw\npool\n9223372036\n";
pub(crate) const RENEW: &str = "sn\npool\n00000000000000010123456789abcdef\n";
pub(crate) const RELEASE: &str = "sr\npool\n00000000000000010123456789abcdef\n";
pub(crate) const PING: &str = "ping\n_\n_\n";
pub(crate) const STATS: &str = "stats\n_\n_\n";
pub(crate) const AUTH: &str = "auth\n_\nhush\n";
pub(crate) const GRANT: &str = "ok 00000000000000010123456789abcdef 30\n";
pub(crate) const ACQUIRED: &str = "acquired 00000000000000010123456789abcdef 30\n";
pub(crate) const OK: &str = "ok\n";

/// The transcript of one connection.
///
/// After the last step, the server reads until the client closes the connection. Any further byte
/// fails the test.
pub(crate) type Script = Vec<Step>;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Expect(Vec<u8>),
    ExpectEof,
    Send(Vec<u8>),
    Flood,
    HalfClose,
    Close,
    Reset,
    Checkpoint,
    WaitForTest,
}

/// Expects exactly these bytes from the client.
pub(crate) fn expect(bytes: impl AsRef<[u8]>) -> Step {
    Step::Expect(bytes.as_ref().to_vec())
}

/// Expects that the client closes the connection without sending another byte.
pub(crate) fn expect_eof() -> Step {
    Step::ExpectEof
}

/// Sends these bytes, which need not be a complete line.
pub(crate) fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// Sends an endless line until the client closes the connection.
pub(crate) fn flood() -> Step {
    Step::Flood
}

/// Shuts down the server's sending direction and continues to read.
pub(crate) fn half_close() -> Step {
    Step::HalfClose
}

/// Closes the connection.
pub(crate) fn close() -> Step {
    Step::Close
}

/// Resets the connection (TCP only).
pub(crate) fn reset() -> Step {
    Step::Reset
}

/// Completes one [`reached`](super::ScriptedServer::reached) of the test.
pub(crate) fn checkpoint() -> Step {
    Step::Checkpoint
}

/// Waits for one [`resume`](super::ScriptedServer::resume) of the test.
pub(crate) fn wait_for_test() -> Step {
    Step::WaitForTest
}

/// Runs a script on a connection.
pub(super) async fn run(
    script: Script,
    mut socket: Box<dyn Socket>,
    checkpoints: Arc<Checkpoints>,
) {
    for step in script {
        match step {
            Step::Expect(bytes) => assert_eq!(
                receive(&mut socket, bytes.len()).await,
                bytes.escape_ascii().to_string()
            ),
            Step::ExpectEof => assert_eq!(
                receive(&mut socket, usize::MAX).await,
                "",
                "the client must close the connection here"
            ),
            Step::Send(bytes) => socket
                .write_all(&bytes)
                .await
                .expect("the client must not close the connection yet"),
            Step::Flood => {
                while let Ok(count) = socket.write(&[b'x'; 4096]).await {
                    checkpoints.flooded.fetch_add(count, Ordering::SeqCst);
                }
            }
            Step::HalfClose => socket.shutdown().await.unwrap(),
            Step::Close => {
                drop(socket);
                return checkpoints.completed.add_permits(1);
            }
            Step::Reset => {
                socket.reset();
                return checkpoints.completed.add_permits(1);
            }
            Step::Checkpoint => checkpoints.reached.add_permits(1),
            Step::WaitForTest => checkpoints.resumed.acquire().await.unwrap().forget(),
        }
    }
    checkpoints.completed.add_permits(1);
    assert_eq!(
        receive(&mut socket, usize::MAX).await,
        "",
        "the client must send nothing after the script"
    );
}

/// Reads `count` bytes, or fewer if the connection ends first.
async fn receive(socket: &mut Box<dyn Socket>, count: usize) -> String {
    let mut bytes = Vec::new();
    // A reset ends the connection as well, so the error is ignored.
    let _ = socket.take(count as u64).read_to_end(&mut bytes).await;
    bytes.escape_ascii().to_string()
}
