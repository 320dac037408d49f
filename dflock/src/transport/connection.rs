//! One connection: requests out, replies in, and nothing owed when it is handed on.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Handle, Id};
use zeroize::{Zeroize, Zeroizing};

use super::attendant::Attendant;
use super::bell::{Bell, Duty, Gone};
use super::deadline::Deadline;
use super::once::{at_once, in_parting};
use super::{BoxStream, Fault, Instant};
use crate::wire::{Lines, MAX_REPLY, MAX_STATS, Reply, Request};

/// How the alerts of TLS begin, and no reply of ours.
const TLS_ALERT: &[u8] = b"\x15\x03";

/// The first bytes of a reply to `stats`, and of no other.
const STATS: &[u8] = b"ok {";

/// A connection to a server.
///
/// `call` takes it and gives it back only when its reply came: a call that is cut off drops it. Dropping it writes
/// what is queued as far as the socket takes it without waiting, and closes it.
pub(crate) struct Connection {
    stream: BoxStream,
    /// Rings for the stream, when there may be something to read, and for the alarm.
    bell: Arc<Bell>,
    /// That of the bell.
    waker: Waker,
    /// Requests that are not written yet.
    out: Zeroizing<Vec<u8>>,
    /// How much of `out` is written.
    written: usize,
    /// Whether the shared secret is in `out`.
    has_secret: bool,
    lines: Lines,
    /// The longest reply to `stats`, in bytes.
    max_stats_size: usize,
    /// The longest reply in bytes, if the request that was sent last is `stats`.
    stats_limit: Option<usize>,
    /// There may be more to read, though the bell has not rung.
    unread: bool,
    /// How many replies have not come yet.
    owed: usize,
    /// Nothing more can be written or believed.
    broken: bool,
    deadline: Deadline,
    runtime: Option<Id>,
    /// A point before the name of the server was looked up.
    opened: Instant,
    /// From the first hold on.
    attendant: Option<Attendant>,
}

impl Connection {
    /// On the heap: it goes through many hands.
    pub(crate) fn new(stream: BoxStream, opened: Instant) -> Box<Self> {
        let bell = Arc::<Bell>::default();
        Box::new(Self {
            stream,
            waker: bell.clone().into(),
            bell,
            out: Zeroizing::default(),
            written: 0,
            has_secret: false,
            lines: Lines::default(),
            max_stats_size: MAX_STATS,
            stats_limit: None,
            unread: true,
            owed: 0,
            broken: false,
            deadline: Deadline::default(),
            runtime: Handle::try_current().ok().map(|handle| handle.id()),
            opened,
            attendant: None,
        })
    }

    /// Sets the longest reply to `stats` that is read, in bytes.
    pub(crate) fn set_max_stats_size(&mut self, bytes: usize) {
        self.max_stats_size = bytes;
    }

    /// Queues `request`; [`poll_reply`](Self::poll_reply) writes it.
    pub(crate) fn send(&mut self, request: &Request<'_>) {
        request.encode(&mut self.out);
        self.has_secret |= matches!(request, Request::Auth { .. });
        self.stats_limit = matches!(request, Request::Stats).then_some(self.max_stats_size);
        self.owed += 1;
    }

    /// Writes what is queued and reads the next reply.
    pub(crate) fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Fault>> {
        // a peer that closes may have said why: read its last line before believing the failed write
        let unwritten = match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => None,
            Poll::Ready(Err(error)) => Some(error),
            Poll::Pending => {
                // the stream may have to read before it can write, and know only who writes now
                self.unread = true;
                None
            }
        };
        match (self.look_for_line(), unwritten) {
            (Poll::Ready(Err(Fault::Closed)) | Poll::Pending, Some(error)) => Poll::Ready(Err(self.fail(Fault::Io(error)))),
            (Poll::Ready(Ok(reply)), _) if self.owed == 0 => Poll::Ready(Err(self.unasked(&reply))),
            (Poll::Pending, None) => {
                self.bell.listen(cx.waker());
                Poll::Pending
            }
            (Poll::Ready(Ok(reply)), _) => {
                self.owed -= 1;
                Poll::Ready(Ok(reply))
            }
            (fault, _) => fault,
        }
    }

    /// The reply to what was sent last; those before are passed over.
    pub(crate) fn poll_last_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Fault>> {
        loop {
            let reply = ready!(self.poll_reply(cx));
            if reply.is_err() || self.owed == 0 {
                return Poll::Ready(reply);
            }
        }
    }

    /// The reply to what was sent last, for whoever leaves: if it is here already, and nobody has read it.
    pub(crate) fn hear_last(&mut self) -> Option<Reply> {
        if self.broken || self.owed == 0 {
            return None;
        }
        match in_parting(|cx| self.poll_last_reply(cx)) {
            Poll::Ready(reply) => reply.ok(),
            Poll::Pending => None,
        }
    }

    /// Has the alarm ring on `runtime`, which this is called on: the one that the connection was made on may not be driven any more.
    /// Then it serves nobody after this.
    pub(crate) fn set_alarm_on(&mut self, runtime: Id) {
        if self.runtime != Some(runtime) {
            self.deadline = Deadline::default();
            self.runtime = None;
        }
    }

    /// The runtime that it can be used on again: the one that it was made on.
    pub(crate) fn runtime(&self) -> Option<Id> {
        self.runtime
    }

    /// Returns a point before the name of its server was looked up.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Resolves when the connection is of no more use, while nothing is owed on it: it ended, or a line came that nobody asked for.
    pub(crate) fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let fault = self.look_for_fault();
        if fault.is_pending() {
            self.bell.listen(cx.waker());
        }
        fault
    }

    /// Leaves the connection to a task that sleeps for at most `nap`, or until there is something to read, and then sees to `duty`.
    pub(crate) fn entrust(&mut self, duty: Arc<dyn Duty>, nap: Duration) -> Result<(), Gone> {
        self.attendant.get_or_insert_with(|| Attendant::start(self.bell.clone()));
        let sleeps = self.bell.entrust(duty)?;
        self.deadline.ring_within(&self.bell, nap);
        if sleeps && (self.look_for_fault().is_ready() || self.poll_deadline().is_ready()) {
            self.attend_now();
        }
        Ok(())
    }

    /// Whoever waits has waited for long enough when `limit` has passed from now on.
    pub(super) fn set_deadline(&mut self, limit: Duration) {
        self.deadline.set(&self.bell, limit);
    }

    /// Resolves when the deadline that was set last has passed; or else the bell will ring.
    pub(super) fn poll_deadline(&mut self) -> Poll<()> {
        self.deadline.poll(&self.bell)
    }

    /// Has the duty that it was left with seen to now.
    pub(crate) fn attend_now(&self) {
        self.bell.attend();
    }

    /// Takes the connection back. Whether the duty that it was left with had not begun.
    pub(crate) fn relieve(&self) -> bool {
        self.bell.relieve()
    }

    /// Whether nothing is owed on it, as far as is known without IO.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_paid = self.owed == 0 || cfg!(dflock_mutant = "pool_reuse_with_reply_owed");
        // half a line is no fault yet, but it would be the beginning of the next reply
        !self.broken && is_paid && self.out.is_empty() && self.lines.is_empty()
    }

    /// Whether it can carry another holder's requests: nothing is owed, and the peer has neither closed it nor spoken.
    pub(crate) fn is_fit(&mut self) -> bool {
        if cfg!(dflock_mutant = "pool_reuse_with_reply_owed") {
            self.owed = 0;
        }
        self.is_quiet() && at_once(|_| self.look_for_fault()).is_pending() && self.lines.is_empty()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() || self.broken {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.out.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // it may have been the secret
        if std::mem::take(&mut self.has_secret) {
            self.out.zeroize();
        } else {
            self.out.clear();
        }
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// A fault that is there; or else the bell will ring.
    fn look_for_fault(&mut self) -> Poll<Fault> {
        Poll::Ready(match ready!(self.look_for_line()) {
            Ok(reply) => self.unasked(&reply),
            Err(fault) => fault,
        })
    }

    /// A line that is there; or else the bell will ring.
    fn look_for_line(&mut self) -> Poll<Result<Reply, Fault>> {
        if self.broken {
            return Poll::Ready(Err(Fault::Closed));
        }
        loop {
            // other lines are never this long, so a peer that sends them gets no more memory
            let stats_limit = self.stats_limit.filter(|_| self.lines.rest().starts_with(STATS));
            match self.lines.take(stats_limit.unwrap_or(MAX_REPLY)) {
                Ok(Some(line)) => {
                    let reply = Reply::decode(line).map_err(|_| Fault::garbage(line));
                    if stats_limit.is_some() {
                        // an idle connection would keep the room for as long as it is idle
                        self.lines.shrink();
                    }
                    return Poll::Ready(reply.map_err(|fault| self.fail(fault)));
                }
                Ok(None) => {}
                Err(_) => {
                    let fault = stats_limit.map_or_else(|| Fault::endless(self.lines.rest()), Fault::StatsTooLarge);
                    return Poll::Ready(Err(self.fail(fault)));
                }
            }
            // a TLS server that was not spoken to in TLS says so in no whole line
            if self.lines.rest().starts_with(TLS_ALERT) {
                let alert = Fault::garbage(self.lines.rest());
                return Poll::Ready(Err(self.fail(alert)));
            }
            match ready!(self.read_more()) {
                Ok(0) => {
                    let closed = Fault::closed(self.lines.rest());
                    return Poll::Ready(Err(self.fail(closed)));
                }
                Ok(count) => self.lines.filled(count),
                Err(error) => return Poll::Ready(Err(self.fail(Fault::Io(error)))),
            }
        }
    }

    /// Reads into the room of the lines, if there may be something; or else the bell will ring.
    fn read_more(&mut self) -> Poll<io::Result<usize>> {
        if !self.bell.has_rung() && !self.unread {
            return Poll::Pending;
        }
        let mut room = ReadBuf::new(self.lines.room());
        let read = Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&self.waker), &mut room);
        let count = room.filled().len();
        self.unread = read.is_ready();
        read.map_ok(|()| count)
    }

    fn unasked(&mut self, reply: &Reply) -> Fault {
        let mut line = Vec::new();
        reply.encode(&mut line);
        self.fail(Fault::garbage(line.trim_ascii_end()))
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.broken = true;
        fault
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // neither the secret on its way out nor a token on its way in
        f.debug_struct("Connection").field("owed", &self.owed).field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    /// Blocks on nothing and needs no runtime: what cannot be written at once is not written.
    fn drop(&mut self) {
        if self.broken {
            return;
        }
        let _ = in_parting(|cx| self.poll_flush(cx));
        // unread bytes would make the system reset the connection, and the peer lose what was just written
        let _ = in_parting(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(self.lines.room())));
        let _ = in_parting(|cx| Pin::new(&mut self.stream).poll_shutdown(cx));
    }
}
