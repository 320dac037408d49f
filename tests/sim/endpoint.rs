//! Stream of one end of a connection, used by a client or by the server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::net::Net;
use super::pipe::{ReadOutcome, Segment};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

pub(super) struct Endpoint {
    net: Arc<Net>,
    link: usize,
    side: Side,
    /// Timer for the arrival of the next segment.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl Endpoint {
    pub(super) fn new(net: &Arc<Net>, link: usize, side: Side) -> Self {
        Self {
            net: Arc::clone(net),
            link,
            side,
            arrival: None,
        }
    }

    fn finish(&self) {
        let now = Instant::now();
        let state = &mut *self.net.lock();
        if !state.links[self.link].pipe_from(self.side).closed {
            state.send(self.link, self.side, Segment::Fin, now);
        }
        let link = &mut state.links[self.link];
        match self.side {
            Side::Client => link.closed_by_client.get_or_insert(now),
            Side::Server => link.closed_by_server.get_or_insert(now),
        };
    }
}

impl AsyncRead for Endpoint {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let found = {
                let (link, side) = (self.link, self.side);
                let state = &mut *self.net.lock();
                state.links[link].pipe_to(side).read(
                    Instant::now(),
                    buffer.initialize_unfilled(),
                    cx.waker(),
                )
            };
            match found {
                ReadOutcome::Bytes(count) => buffer.advance(count),
                ReadOutcome::Fin => {}
                ReadOutcome::Reset => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                ReadOutcome::Nothing => return Poll::Pending,
                ReadOutcome::NotBefore(at) => {
                    let arrival = self
                        .arrival
                        .get_or_insert_with(|| Box::pin(sleep_until(at)));
                    if arrival.deadline() != at {
                        arrival.as_mut().reset(at);
                    }
                    ready!(arrival.as_mut().poll(cx));
                    continue;
                }
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let state = &mut *self.net.lock();
        let link = &mut state.links[self.link];
        if link.pipe_to(self.side).is_reset(now) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        // After a reset that has not arrived here yet, written bytes are discarded silently.
        if !link.pipe_from(self.side).closed {
            state.send(self.link, self.side, Segment::Bytes(bytes.to_vec()), now);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.finish();
        let link = &mut self.net.lock().links[self.link];
        link.dropped_ends += 1;
        link.pipe_to(self.side).close_reader();
    }
}
