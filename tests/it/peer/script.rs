//! What a peer hears and says on one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Stage;
use super::door::Socket;

/// The client's requests and the server's replies, as they are on the wire.
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

/// The transcript of one connection. When it is over, the peer listens until the client closes, and must hear nothing more.
pub(crate) type Script = Vec<Step>;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Hear(Vec<u8>),
    HearEnd,
    Say(Vec<u8>),
    Flood,
    HalfClose,
    Close,
    Reset,
    Tell,
    Cue,
}

/// The client sends exactly this next.
pub(crate) fn hear(bytes: impl AsRef<[u8]>) -> Step {
    Step::Hear(bytes.as_ref().to_vec())
}

/// The client closes the connection, and sends nothing before.
pub(crate) fn hear_end() -> Step {
    Step::HearEnd
}

/// The peer sends this, a whole line or not.
pub(crate) fn say(bytes: impl AsRef<[u8]>) -> Step {
    Step::Say(bytes.as_ref().to_vec())
}

/// The peer sends a line without end, until the client closes the connection.
pub(crate) fn flood() -> Step {
    Step::Flood
}

/// The peer says that it will say no more, and goes on hearing.
pub(crate) fn half_close() -> Step {
    Step::HalfClose
}

/// The peer closes the connection.
pub(crate) fn close() -> Step {
    Step::Close
}

/// The peer resets the connection (TCP only).
pub(crate) fn reset() -> Step {
    Step::Reset
}

/// The test is told that the script has come here.
pub(crate) fn tell() -> Step {
    Step::Tell
}

/// The script goes on when the test says so.
pub(crate) fn cue() -> Step {
    Step::Cue
}

/// Plays a script on a connection.
pub(super) async fn act(script: Script, mut socket: Box<dyn Socket>, stage: Arc<Stage>) {
    for step in script {
        match step {
            Step::Hear(bytes) => assert_eq!(
                heard(&mut socket, bytes.len()).await,
                bytes.escape_ascii().to_string()
            ),
            Step::HearEnd => assert_eq!(
                heard(&mut socket, usize::MAX).await,
                "",
                "the connection should end here"
            ),
            Step::Say(bytes) => socket
                .write_all(&bytes)
                .await
                .expect("the client hangs up on the peer"),
            Step::Flood => {
                while let Ok(count) = socket.write(&[b'x'; 4096]).await {
                    stage.flooded.fetch_add(count, Ordering::SeqCst);
                }
            }
            Step::HalfClose => socket.shutdown().await.unwrap(),
            Step::Close => {
                drop(socket);
                return stage.played.add_permits(1);
            }
            Step::Reset => {
                socket.reset();
                return stage.played.add_permits(1);
            }
            Step::Tell => stage.told.add_permits(1),
            Step::Cue => stage.cues.acquire().await.unwrap().forget(),
        }
    }
    stage.played.add_permits(1);
    assert_eq!(
        heard(&mut socket, usize::MAX).await,
        "",
        "the script is over"
    );
}

/// The next `count` bytes, fewer if the connection ends before.
async fn heard(socket: &mut Box<dyn Socket>, count: usize) -> String {
    let mut bytes = Vec::new();
    // a reset is an end, too
    let _ = socket.take(count as u64).read_to_end(&mut bytes).await;
    bytes.escape_ascii().to_string()
}
