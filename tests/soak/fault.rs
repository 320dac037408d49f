//! The faults, and what each does to a client.

use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ClientStopped,
    ClientKilled,
    ClientBusy,
    ServerStopped,
    ServerKilled,
    Cut,
    Reset,
    HalfOpen,
    StalledUp,
    StalledDown,
    Stalled,
    Delayed,
    Trickled,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::ClientStopped,
        Self::ClientKilled,
        Self::ClientBusy,
        Self::ServerStopped,
        Self::ServerKilled,
        Self::Cut,
        Self::Reset,
        Self::HalfOpen,
        Self::StalledUp,
        Self::StalledDown,
        Self::Stalled,
        Self::Delayed,
        Self::Trickled,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientStopped => "client SIGSTOP, SIGCONT",
            Self::ClientKilled => "client SIGKILL",
            Self::ClientBusy => "client's executor blocked",
            Self::ServerStopped => "server SIGSTOP, SIGCONT",
            Self::ServerKilled => "server SIGKILL, restart",
            Self::Cut => "connections cut",
            Self::Reset => "connections reset",
            Self::HalfOpen => "half open: only the client hears",
            Self::StalledUp => "stalled, to the server",
            Self::StalledDown => "stalled, to the client",
            Self::Stalled => "stalled, both ways",
            Self::Delayed => "delayed 20 to 700 ms",
            Self::Trickled => "one byte at a time",
        }
    }

    /// While it lasts the client's program does not run.
    pub(crate) fn numbs(self) -> bool {
        matches!(self, Self::ClientStopped | Self::ClientBusy)
    }

    /// While it lasts the end of a connection reaches the client late or not at all.
    pub(crate) fn deafens(self) -> bool {
        matches!(self, Self::StalledDown | Self::Stalled | Self::Delayed | Self::Trickled)
    }

    /// The server sees connections end, or has forgotten what it granted on them.
    pub(crate) fn severs(self) -> bool {
        matches!(self, Self::ServerKilled | Self::Cut | Self::Reset)
    }
}

/// Something that went wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// `None`: all clients.
    pub(crate) client: Option<usize>,
    pub(crate) from: Duration,
    /// When it was healed.
    pub(crate) to: Duration,
    /// When the server forgot what it had granted, if it did.
    pub(crate) severed: Option<Duration>,
}

impl Fault {
    pub(crate) fn concerns(&self, client: usize) -> bool {
        self.client.is_none_or(|hit| hit == client)
    }
}
