//! Connection between a client and a server.

use tokio::time::Instant;

use super::end::Side;
use super::pipe::Pipe;

pub(super) struct Link {
    pub(super) host: usize,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    /// Index of the server, and the number that it gave the connection.
    pub(super) peer: Option<(usize, u64)>,
    /// Times at which the client and the server closed it.
    pub(super) closed: Option<Instant>,
    pub(super) hung_up: Option<Instant>,
    /// Number of endpoints that were dropped.
    pub(super) ends: u8,
}

impl Link {
    /// Returns the times at which the server and the client can notice that the other side has
    /// closed.
    pub(super) fn heard(&self) -> (Option<Instant>, Option<Instant>) {
        (self.up.end_arrives(), self.down.end_arrives())
    }

    /// Returns the pipe towards `to`.
    pub(super) fn to(&mut self, to: Side) -> &mut Pipe {
        match to {
            Side::Client => &mut self.down,
            Side::Server => &mut self.up,
        }
    }

    pub(super) fn from(&mut self, from: Side) -> &mut Pipe {
        self.to(from.other())
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
