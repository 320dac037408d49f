//! Connection between a client and a server.

use tokio::time::Instant;

use super::endpoint::Side;
use super::pipe::Pipe;

pub(super) struct Link {
    pub(super) host: usize,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    /// Index of the server, and the number that it gave the connection.
    pub(super) peer: Option<(usize, u64)>,
    /// Times at which the client and the server closed it.
    pub(super) closed_by_client: Option<Instant>,
    pub(super) closed_by_server: Option<Instant>,
    /// Number of endpoints that were dropped.
    pub(super) dropped_ends: u8,
}

impl Link {
    /// Returns the times at which the server and the client can notice that the other side has
    /// closed.
    pub(super) fn end_arrivals(&self) -> (Option<Instant>, Option<Instant>) {
        (self.up.end_arrives(), self.down.end_arrives())
    }

    /// Returns the pipe towards `to`.
    pub(super) fn pipe_to(&mut self, to: Side) -> &mut Pipe {
        match to {
            Side::Client => &mut self.down,
            Side::Server => &mut self.up,
        }
    }

    pub(super) fn pipe_from(&mut self, from: Side) -> &mut Pipe {
        self.pipe_to(from.other())
    }

    pub(super) fn stall(&mut self, now: Instant, up: bool, down: bool, all: bool) {
        if up {
            self.up.stall(now, all);
        }
        if down {
            self.down.stall(now, all);
        }
    }
}
