//! The bytes of one connection: requests in, replies out, and whether anybody is there.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::transport::BoxStream;
use crate::wire::{Lines, MAX_LINE, MAX_SECRET, Malformed, Reply, Request, Status};

/// Replies are written in one go up to about this many bytes.
const BATCH: usize = 64 * 1024;

/// How much memory for replies stays with a connection.
const KEPT: usize = 1024;

/// What a client may send behind a request that waits. Unread bytes would hide that it has gone, so who sends more is cut off.
const MAX_AHEAD: usize = 256 * 1024;

/// How long a connection that the server ends is read on, so that the last line arrives: closing with unread bytes resets it.
const LINGER: Duration = Duration::from_secs(1);

/// The connection is over: the client has gone, or is not to be listened to any longer.
#[derive(Debug)]
pub(super) struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// The client's end of a connection. What it says may be the secret, so nothing here is `Debug`.
pub(super) struct Peer {
    stream: BoxStream,
    lines: Lines,
    replies: Vec<u8>,
    write_timeout: Duration,
}

/// The three lines of a request, or those that are here. Its memory serves one request after the other.
#[derive(Default)]
pub(super) struct Letter {
    lines: [Vec<u8>; 3],
    /// How many lines are here.
    count: usize,
}

impl Letter {
    pub(super) fn open(&self) -> Result<Request<'_>, Malformed> {
        let [command, key, argument] = self.lines.each_ref().map(|line| std::str::from_utf8(line).map_err(|_| Malformed));
        Request::decode(command?, key?, argument?)
    }

    fn is_whole(&self) -> bool {
        self.count == self.lines.len()
    }

    /// How long the next line may be.
    fn cap(&self) -> usize {
        if self.count == 2 && self.lines[0] == b"auth" { MAX_SECRET } else { MAX_LINE }
    }

    fn push(&mut self, text: &[u8]) {
        let line = &mut self.lines[self.count];
        line.clear();
        // a secret may have been long
        line.shrink_to(MAX_LINE);
        line.extend_from_slice(text);
        self.count += 1;
    }
}

impl Peer {
    pub(super) fn new(stream: BoxStream, write_timeout: Duration) -> Self {
        Self { stream, lines: Lines::default(), replies: Vec::new(), write_timeout }
    }

    /// Whether the next request is here already, whole: then `letter` is it. A line that is too long ends the connection.
    pub(super) fn next(&mut self, letter: &mut Letter) -> Result<bool, Over> {
        if letter.is_whole() {
            letter.count = 0;
        }
        while !letter.is_whole() {
            match self.lines.take(letter.cap()) {
                Ok(Some(line)) => letter.push(line),
                Ok(None) => return Ok(false),
                Err(_) => return Err(self.cut_off()),
            }
        }
        Ok(true)
    }

    /// Whether a part of a request is here.
    pub(super) fn has_begun(&self, letter: &Letter) -> bool {
        letter.count > 0 || !self.lines.is_empty()
    }

    /// Reads what comes next.
    ///
    /// Cancel safe: nothing is lost.
    pub(super) async fn read(&mut self) -> Result<(), Over> {
        let count = self.stream.read(self.lines.room()).await?;
        self.lines.filled(count);
        if count == 0 { Err(Over) } else { Ok(()) }
    }

    /// Reads ahead until the client has gone, or is to be cut off.
    pub(super) async fn gone(&mut self) -> Over {
        while self.lines.len() <= MAX_AHEAD {
            if let Err(over) = self.read().await {
                return over;
            }
        }
        self.cut_off()
    }

    /// Adds a reply to those that the next [`flush`](Self::flush) writes.
    pub(super) fn say(&mut self, reply: &Reply) {
        reply.encode(&mut self.replies);
    }

    /// Whether there is so much to write that it should be done now.
    pub(super) fn is_full(&self) -> bool {
        self.replies.len() >= BATCH
    }

    /// Writes the replies, `delay` from now.
    pub(super) async fn flush(&mut self, delay: Duration) -> Result<(), Over> {
        if self.replies.is_empty() {
            return Ok(());
        }
        if !delay.is_zero() {
            tokio::select! {
                biased;
                over = self.gone() => return Err(over),
                () = sleep(delay) => {}
            }
        }
        // they are not written again if this fails
        let mut replies = std::mem::take(&mut self.replies);
        let stream = &mut self.stream;
        let write = pin!(async {
            stream.write_all(&replies).await?;
            stream.flush().await
        });
        if self.write_timeout.is_zero() {
            write.await?;
        } else {
            timeout(self.write_timeout, write).await.map_err(|_| Over)??;
        }
        if replies.capacity() <= KEPT {
            replies.clear();
            self.replies = replies;
        }
        Ok(())
    }

    /// Writes what is left to say, and ends the connection.
    pub(super) async fn part(mut self, delay: Duration) {
        let has_last_line = !self.replies.is_empty();
        if self.flush(delay).await.is_err() {
            return;
        }
        let end = async {
            // TLS has a word for the end, which a client that does not read may hold up
            if self.stream.shutdown().await.is_ok() && has_last_line {
                let mut scrap = [0; 4096];
                while self.stream.read(&mut scrap).await.is_ok_and(|count| count > 0) {}
            }
        };
        // either way it ends here
        let _ = timeout(LINGER, end).await;
    }

    fn cut_off(&mut self) -> Over {
        // nothing behind it is looked at
        self.lines = Lines::default();
        self.say(&Reply::Refused(Status::Error));
        Over
    }
}
