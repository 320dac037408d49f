//! Framed connection of the server: requests in, replies out.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::engine::dflockd::BoxStream;
use crate::wire::{ErrorStatus, LineBuffer, MAX_AUTH_TOKEN, MAX_LINE, Malformed, Reply, Request};

/// Size of the buffered replies in bytes from which on they are written.
const FLUSH_THRESHOLD: usize = 64 * 1024;

/// Capacity in bytes of the reply buffer that a connection keeps after a write.
const RETAINED_CAPACITY: usize = 1024;

/// Maximum number of bytes that a client may send behind a request that waits. The limit exists
/// because a server that stops reading would not notice that the client has disconnected.
const MAX_PIPELINED: usize = 256 * 1024;

/// Time for which the server reads on after its last line. Closing a socket with unread bytes
/// resets the connection, and the client could lose that line.
const LINGER: Duration = Duration::from_secs(1);

/// The connection is over: the client disconnected, or the server closes the connection.
#[derive(Debug)]
pub(super) struct Closed;

impl From<io::Error> for Closed {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// A stream of requests and replies. It is not `Debug`, because a request may hold the auth token.
pub(super) struct Connection {
    stream: BoxStream,
    lines: LineBuffer,
    replies: Vec<u8>,
    write_timeout: Duration,
}

/// The lines of a request, as far as they were received. The buffers are reused for every request.
#[derive(Default)]
pub(super) struct RequestBuffer {
    lines: [Vec<u8>; 3],
    /// Number of lines received.
    count: usize,
}

impl RequestBuffer {
    pub(super) fn parse(&self) -> Result<Request<'_>, Malformed> {
        let text = |line| std::str::from_utf8(line).map_err(|_| Malformed);
        let [command, key, argument] = self.lines.each_ref().map(|line| text(line));
        Request::decode(command?, key?, argument?)
    }

    fn is_complete(&self) -> bool {
        self.count == self.lines.len()
    }

    /// Returns the maximum length of the next line.
    fn max_line(&self) -> usize {
        if self.count == 2 && self.lines[0] == b"auth" {
            MAX_AUTH_TOKEN
        } else {
            MAX_LINE
        }
    }

    fn push(&mut self, text: &[u8]) {
        let line = &mut self.lines[self.count];
        line.clear();
        // Free the memory of a long auth token.
        line.shrink_to(MAX_LINE);
        line.extend_from_slice(text);
        self.count += 1;
    }
}

impl Connection {
    pub(super) fn new(stream: BoxStream, write_timeout: Duration) -> Self {
        Self {
            stream,
            lines: LineBuffer::default(),
            replies: Vec::new(),
            write_timeout,
        }
    }

    /// Moves the next received request to `request`; returns `false` when it is not complete yet.
    ///
    /// # Errors
    ///
    /// [`Closed`] when a line is too long.
    pub(super) fn next_request(&mut self, request: &mut RequestBuffer) -> Result<bool, Closed> {
        if request.is_complete() {
            request.count = 0;
        }
        while !request.is_complete() {
            match self.lines.next_line(request.max_line()) {
                Ok(Some(line)) => request.push(line),
                Ok(None) => return Ok(false),
                Err(_) => return Err(self.reject()),
            }
        }
        Ok(true)
    }

    /// Returns whether a part of a request was received.
    pub(super) fn has_partial_request(&self, request: &RequestBuffer) -> bool {
        request.count > 0 || !self.lines.is_empty()
    }

    /// Reads from the stream once.
    ///
    /// # Cancel safety
    ///
    /// A cancelled read loses no bytes.
    pub(super) async fn read(&mut self) -> Result<(), Closed> {
        let count = self.stream.read(self.lines.spare_capacity()).await?;
        self.lines.advance(count);
        if count == 0 { Err(Closed) } else { Ok(()) }
    }

    /// Reads ahead until the client disconnects or has sent more than `MAX_PIPELINED` bytes.
    ///
    /// # Cancel safety
    ///
    /// A cancelled read loses no bytes.
    pub(super) async fn closed(&mut self) -> Closed {
        while self.lines.len() <= MAX_PIPELINED {
            if let Err(closed) = self.read().await {
                return closed;
            }
        }
        self.reject()
    }

    /// Adds a reply to the buffer that the next [`flush`](Self::flush) writes.
    pub(super) fn queue_reply(&mut self, reply: &Reply) {
        reply.encode(&mut self.replies);
    }

    /// Returns whether the buffered replies should be written now.
    pub(super) fn should_flush(&self) -> bool {
        self.replies.len() >= FLUSH_THRESHOLD
    }

    /// Writes the buffered replies after `delay`.
    pub(super) async fn flush(&mut self, delay: Duration) -> Result<(), Closed> {
        if self.replies.is_empty() {
            return Ok(());
        }
        if !delay.is_zero() {
            tokio::select! {
                biased;
                closed = self.closed() => return Err(closed),
                () = sleep(delay) => {}
            }
        }
        // Taken out, so that a flush after a failed one does not write them again.
        let mut replies = std::mem::take(&mut self.replies);
        let stream = &mut self.stream;
        let write = pin!(async {
            stream.write_all(&replies).await?;
            stream.flush().await
        });
        if self.write_timeout.is_zero() {
            write.await?;
        } else {
            timeout(self.write_timeout, write)
                .await
                .map_err(|_| Closed)??;
        }
        if replies.capacity() <= RETAINED_CAPACITY {
            replies.clear();
            self.replies = replies;
        }
        Ok(())
    }

    /// Writes the buffered replies after `delay` and closes the connection.
    pub(super) async fn shutdown(mut self, delay: Duration) {
        let has_replies = !self.replies.is_empty();
        if self.flush(delay).await.is_err() {
            return;
        }
        let shutdown = async {
            // Under the time limit, because a client that does not read can block the
            // `close_notify` of TLS.
            if self.stream.shutdown().await.is_ok() && has_replies {
                let mut discard = [0; 4096];
                while self
                    .stream
                    .read(&mut discard)
                    .await
                    .is_ok_and(|count| count > 0)
                {}
            }
        };
        // The connection is closed in either case.
        let _ = timeout(LINGER, shutdown).await;
    }

    /// Discards all input and queues the reply `error`.
    fn reject(&mut self) -> Closed {
        self.lines = LineBuffer::default();
        self.queue_reply(&Reply::Error(ErrorStatus::Unspecified));
        Closed
    }
}
