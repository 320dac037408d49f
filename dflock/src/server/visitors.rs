//! Connections that say anything, to sessions at one desk, without a socket.
#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::{JoinHandle, spawn};
use tokio::time::{sleep, timeout};

use super::desk::Desk;
use super::draining::Draining;
use super::session::Session;
use super::table::{Mint, Table};
use super::{Server, Shared};
use crate::wire::Reply;

/// What separates what one visitor says from what the next one says. No text has this byte.
const NEXT: u8 = 0xff;

/// A few requests' worth, so that a full pipe comes soon.
const PIPE: usize = 512;

/// Longer than a session takes when its client has gone, to write its replies and to linger; and too short for anybody else to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Three visitors say the bytes, in turns from one 0xff to the next, and go; an empty turn takes a second. Each hears only replies, and
/// the end; then the desk has nothing of them. A first byte of `!` asks for a secret, `s3cret`; of `*`, for slots that outlive their
/// connection.
pub(crate) async fn visit(bytes: &[u8]) {
    let (secret, auto_release, bytes) = match bytes {
        [b'!', rest @ ..] => ("s3cret", true, rest),
        [b'*', rest @ ..] => ("", false, rest),
        rest => ("", true, rest),
    };
    let shared = shared(secret, auto_release);
    let visitors = [(); 3].map(|()| Visitor::arrive(&shared));
    let [mut first, mut second, mut third] = visitors;
    for (turn, words) in bytes.split(|&b| b == NEXT).enumerate() {
        [&mut first, &mut second, &mut third][turn % 3].say(words).await;
    }
    for visitor in [first, second, third] {
        visitor.leave().await;
    }
    let stats = shared.desk.stats();
    assert_eq!(stats.connections, 0);
    let has_slots = !stats.locks.is_empty() || !stats.semaphores.is_empty();
    assert!(!(auto_release && has_slots), "who has gone holds or waits: {stats:?}");
    assert!(stats.locks.iter().all(|lock| lock.waiters == 0) && stats.semaphores.iter().all(|semaphore| semaphore.waiters == 0));
}

fn shared(secret: &str, auto_release: bool) -> Arc<Shared> {
    let config = Server::builder().auth_token(secret).auto_release(auto_release).max_keys(9).max_waiters(9).build();
    let default_lease = config.validated().expect("these options can be");
    let desk = Desk::new(Table::new(config.rules(), Mint::seeded(1)), config.max_connections);
    Arc::new(Shared { config, default_lease, desk, draining: Draining::default(), condition: Arc::default() })
}

/// One connection: its session, and a reader who takes every reply.
struct Visitor {
    speech: tokio::io::WriteHalf<DuplexStream>,
    heard: JoinHandle<Vec<u8>>,
    session: JoinHandle<()>,
}

impl Visitor {
    fn arrive(shared: &Arc<Shared>) -> Self {
        let (ours, theirs) = duplex(PIPE);
        let (visit, sent_away) = shared.desk.welcome().expect("there is no limit");
        let session = Session::new(Box::new(theirs), visit, Arc::clone(shared));
        let session = spawn(async move {
            // sends nobody away
            let _stay = sent_away;
            session.run().await;
        });
        let (mut replies, speech) = split(ours);
        let heard = spawn(async move {
            let mut heard = Vec::new();
            replies.read_to_end(&mut heard).await.expect("a pipe only ends");
            heard
        });
        Self { speech, heard, session }
    }

    /// Says `words`, and gives the server time to do what it can.
    async fn say(&mut self, words: &[u8]) {
        // who is cut off cannot say more, and who waits in line may not be listened to
        let _ = timeout(PATIENCE, self.speech.write_all(words)).await;
        sleep(if words.is_empty() { Duration::from_secs(1) } else { Duration::from_millis(1) }).await;
    }

    async fn leave(mut self) {
        let _ = self.speech.shutdown().await;
        timeout(PATIENCE, self.session).await.expect("the session hangs").expect("the session panicked");
        let heard = self.heard.await.expect("the reader panicked");
        assert!(heard.is_empty() || heard.ends_with(b"\n"));
        for line in heard.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            assert!(Reply::decode(line).is_ok(), "not a reply: {:?}", String::from_utf8_lossy(line));
        }
    }
}
