//! One connection between a client and a server.

use tokio::time::Instant;

use super::end::Side;
use super::pipe::Pipe;

pub(super) struct Link {
    pub(super) host: usize,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    /// Which server it goes to, and the server's number for it.
    pub(super) peer: Option<(usize, u64)>,
    /// When the client closed it, and when the server did.
    pub(super) closed: Option<Instant>,
    pub(super) hung_up: Option<Instant>,
    /// Whether both ends have let go of it.
    pub(super) ends: u8,
}

impl Link {
    /// When each side can know that the other has ended it.
    pub(super) fn heard(&self) -> (Option<Instant>, Option<Instant>) {
        (self.up.end_arrives(), self.down.end_arrives())
    }

    /// What goes to `to`.
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
