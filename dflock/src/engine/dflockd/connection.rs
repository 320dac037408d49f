//! One connection to a server: sends requests and receives replies.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Handle, Id};
use tokio::task::unconstrained;
use tokio::time::Instant as TokioInstant;
use zeroize::{Zeroize, Zeroizing};

use super::lazy_timer::LazyTimer;
use super::{BoxStream, ConnectionError};
use crate::clock::Instant;
use crate::wire::{LineBuffer, MAX_REPLY, MAX_STATS, Reply, Request};

/// The first bytes of a TLS alert. No reply begins with them.
const TLS_ALERT: &[u8] = b"\x15\x03";

/// The first bytes of a reply to `stats`. No other reply begins with them.
const STATS: &[u8] = b"ok {";

/// A connection to a server.
///
/// [`call`](Self::call) takes the connection and returns it with the reply. A cancelled call drops
/// the connection, so that a late reply cannot answer the next request. `Drop` writes the buffered
/// requests as far as the socket accepts them without blocking, and closes the socket.
pub(crate) struct Connection {
    stream: BoxStream,
    /// Requests that are not written yet.
    write_buf: Zeroizing<Vec<u8>>,
    /// The number of bytes of `write_buf` that are written.
    written: usize,
    /// `write_buf` contains the auth token, so it is wiped and not only cleared.
    has_auth_token: bool,
    read_buf: LineBuffer,
    /// The longest reply to `stats`, in bytes.
    max_stats_size: usize,
    /// The longest reply in bytes, if the last request is `stats`.
    stats_limit: Option<usize>,
    /// The number of replies that have not been received yet.
    pending_replies: usize,
    /// The connection has ended or sent something invalid, and is not used again.
    failed: bool,
    /// Wakes the task that polls the connection: for the time limit of a call, or for a renewal.
    timer: LazyTimer,
    /// The start of the last call. Reading the clock again costs more than what it is needed for.
    called_at: Option<TokioInstant>,
    /// The runtime that drives the socket.
    runtime: Option<Id>,
    /// The pool does not reuse the connection from here on.
    reuse_until: Instant,
    /// A value that the owner keeps with the connection, and that is dropped with it.
    extension: Option<Box<dyn Any + Send>>,
}

impl Connection {
    /// Returns a connection over `stream`. It is boxed because every hold and call moves it.
    pub(crate) fn new(stream: BoxStream, reuse_until: Instant) -> Box<Self> {
        Box::new(Self {
            stream,
            write_buf: Zeroizing::default(),
            written: 0,
            has_auth_token: false,
            read_buf: LineBuffer::default(),
            max_stats_size: MAX_STATS,
            stats_limit: None,
            pending_replies: 0,
            failed: false,
            timer: LazyTimer::default(),
            called_at: None,
            runtime: Handle::try_current().ok().map(|handle| handle.id()),
            reuse_until,
            extension: None,
        })
    }

    /// Sets the longest reply to `stats` that is read, in bytes.
    pub(crate) fn set_max_stats_size(&mut self, bytes: usize) {
        self.max_stats_size = bytes;
    }

    /// Buffers `request`. [`poll_reply`](Self::poll_reply) writes it.
    pub(crate) fn send(&mut self, request: &Request<'_>) {
        request.encode(&mut self.write_buf);
        self.has_auth_token |= matches!(request, Request::Auth { .. });
        self.stats_limit = matches!(request, Request::Stats).then_some(self.max_stats_size);
        self.pending_replies += 1;
    }

    /// Writes the buffered requests and reads the next reply.
    pub(crate) fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Reply, ConnectionError>> {
        let write_error = match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        // A server that closes the connection may have sent a reason before: read it even if the
        // write failed, because otherwise the reason is lost.
        match (self.poll_read_reply(cx), write_error) {
            (Poll::Ready(Err(ConnectionError::Closed)) | Poll::Pending, Some(error)) => {
                Poll::Ready(Err(self.fail(ConnectionError::Io(error))))
            }
            (Poll::Ready(Ok(reply)), _) if self.pending_replies == 0 => {
                Poll::Ready(Err(self.unsolicited(&reply)))
            }
            (Poll::Ready(Ok(reply)), _) => {
                self.pending_replies -= 1;
                Poll::Ready(Ok(reply))
            }
            (other, _) => other,
        }
    }

    /// Reads the reply to the last request, and discards the replies to earlier ones.
    pub(crate) fn poll_last_reply(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Reply, ConnectionError>> {
        loop {
            let reply = ready!(self.poll_reply(cx));
            if reply.is_err() || self.pending_replies == 0 {
                return Poll::Ready(reply);
            }
        }
    }

    /// Returns the number of replies that have not been received yet.
    pub(super) fn pending_replies(&self) -> usize {
        self.pending_replies
    }

    /// Returns the reply to the last request if it has been received but not read. For use in
    /// `Drop`.
    pub(crate) fn try_last_reply(&mut self) -> Option<Reply> {
        if self.failed || self.pending_replies == 0 {
            return None;
        }
        match poll_once_in_drop(|cx| self.poll_last_reply(cx)) {
            Poll::Ready(reply) => reply.ok(),
            Poll::Pending => None,
        }
    }

    /// Completes when the connection has failed while no reply is pending: the server closed it,
    /// or sent an unsolicited line.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        Poll::Ready(match ready!(self.poll_read_reply(cx)) {
            Ok(reply) => self.unsolicited(&reply),
            Err(error) => error,
        })
    }

    /// Notes that a call begins, and returns the time at which it fails with this time limit. `None`
    /// if that is too far in the future to be represented.
    pub(super) fn start_call(&mut self, limit: Duration) -> Option<TokioInstant> {
        self.called_at
            .insert(TokioInstant::now())
            .checked_add(limit)
    }

    /// Completes at `deadline`.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: TokioInstant) -> Poll<()> {
        self.timer.poll_elapsed(cx, deadline)
    }

    /// Completes within `delay`, which counts from the start of the last call.
    pub(crate) fn poll_delay(&mut self, cx: &mut Context<'_>, delay: Duration) -> Poll<()> {
        let start = *self.called_at.get_or_insert_with(TokioInstant::now);
        self.timer.poll_elapsed(cx, start + delay)
    }

    /// Frees the timer until the next call. Otherwise its waker keeps the memory of the task that
    /// polled it last, and a slot that is held for long keeps that of the task that acquired it.
    pub(crate) fn free_timer(&mut self) {
        self.timer = LazyTimer::default();
    }

    /// Moves the timer to `runtime`, the runtime of the caller: the one that made the connection
    /// may have stopped. The connection is then not reused.
    pub(crate) fn rebind_runtime(&mut self, runtime: Id) {
        if self.runtime != Some(runtime) {
            self.free_timer();
            self.runtime = None;
        }
    }

    /// Returns the runtime on which the connection can be reused: the one that made it.
    pub(crate) fn runtime(&self) -> Option<Id> {
        self.runtime
    }

    /// Returns the time from which on the connection is not reused.
    pub(crate) fn reuse_until(&self) -> Instant {
        self.reuse_until
    }

    /// Returns the value that the owner keeps with the connection, if it is a `T`.
    pub(crate) fn extension<T: Any>(&mut self) -> Option<&mut T> {
        self.extension.as_mut()?.downcast_mut()
    }

    /// Stores `value` with the connection, in place of the previous one.
    pub(crate) fn set_extension<T: Any + Send>(&mut self, value: T) {
        self.extension = Some(Box::new(value));
    }

    /// Returns whether no reply is pending and nothing is buffered. No IO.
    pub(crate) fn is_idle(&self) -> bool {
        // A partial line is no failure yet, but it would become the start of the next reply.
        let is_empty = self.write_buf.is_empty() && self.read_buf.is_empty();
        !self.failed && self.pending_replies == 0 && is_empty
    }

    /// Returns whether the connection can serve another request: it is idle, and the server has
    /// neither closed it nor sent anything.
    pub(crate) fn is_reusable(&mut self) -> bool {
        self.is_idle()
            && poll_once(|cx| self.poll_closed(cx)).is_pending()
            && self.read_buf.is_empty()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_buf.is_empty() || self.failed {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.write_buf.len() {
            let unwritten = &self.write_buf[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, unwritten)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if std::mem::take(&mut self.has_auth_token) {
            self.write_buf.zeroize();
        } else {
            self.write_buf.clear();
        }
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_read_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, ConnectionError>> {
        if self.failed {
            return Poll::Ready(Err(ConnectionError::Closed));
        }
        loop {
            // Most polls find nothing, with an empty buffer.
            if !self.read_buf.is_empty()
                && let Some(reply) = self.decode_reply().transpose()
            {
                return Poll::Ready(reply.map_err(|error| self.fail(error)));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => {
                    let closed = ConnectionError::closed(self.read_buf.remaining());
                    return Poll::Ready(Err(self.fail(closed)));
                }
                Ok(count) => self.read_buf.advance(count),
                Err(error) => return Poll::Ready(Err(self.fail(ConnectionError::Io(error)))),
            }
        }
    }

    /// Returns the next reply in the read buffer, or `None` if it is not complete yet.
    fn decode_reply(&mut self) -> Result<Option<Reply>, ConnectionError> {
        // Only a reply to `stats` may be longer than the limit. A server that sends another long
        // line therefore cannot exhaust the memory.
        let is_stats = self.read_buf.remaining().starts_with(STATS);
        let stats_limit = self.stats_limit.filter(|_| is_stats);
        let max = stats_limit.unwrap_or(MAX_REPLY);
        match self.read_buf.next_line(max) {
            Ok(Some(line)) => {
                let reply = Reply::decode(line).map_err(|_| ConnectionError::protocol(line));
                if stats_limit.is_some() {
                    // An idle connection would keep the memory for as long as it is idle.
                    self.read_buf.shrink();
                }
                return reply.map(Some);
            }
            Ok(None) => {}
            Err(_) => {
                let rest = self.read_buf.remaining();
                return Err(stats_limit.map_or_else(
                    || ConnectionError::too_long(rest),
                    ConnectionError::StatsTooLarge,
                ));
            }
        }
        // A TLS server answers a client that does not speak TLS with an alert. It has no line end,
        // so without this check the client would wait for one until its time limit.
        if self.read_buf.remaining().starts_with(TLS_ALERT) {
            return Err(ConnectionError::protocol(self.read_buf.remaining()));
        }
        Ok(None)
    }

    /// Reads into the read buffer and returns the number of bytes.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(self.read_buf.spare_capacity());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Fails the connection because of a `reply` that belongs to no request.
    fn unsolicited(&mut self, reply: &Reply) -> ConnectionError {
        let mut line = Vec::new();
        reply.encode(&mut line);
        self.fail(ConnectionError::protocol(line.trim_ascii_end()))
    }

    fn fail(&mut self, error: ConnectionError) -> ConnectionError {
        self.failed = true;
        error
    }
}

impl fmt::Debug for Connection {
    /// Shows neither buffer: they may hold the auth token and lock tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("pending_replies", &self.pending_replies)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Drop for Connection {
    /// Does not block and needs no runtime. Bytes that the socket does not accept at once are
    /// discarded.
    fn drop(&mut self) {
        if self.failed {
            return;
        }
        let _ = poll_once_in_drop(|cx| self.poll_flush(cx));
        // With unread bytes in its buffer the system would reset the connection, and the server
        // would lose the release that was just written.
        let _ = poll_once_in_drop(|cx| self.poll_fill(cx));
        let _ = poll_once_in_drop(|cx| Pin::new(&mut self.stream).poll_shutdown(cx));
    }
}

/// Polls once, outside of tokio's coop budget, which may be used up.
pub(super) fn poll_once<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let once = pin!(unconstrained(poll_fn(poll)));
    once.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once, for use in `Drop`. A panic of a user-supplied stream is caught, because it would
/// abort the program if the drop was part of an unwinding.
fn poll_once_in_drop<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    catch_unwind(AssertUnwindSafe(|| poll_once(poll))).unwrap_or(Poll::Pending)
}
