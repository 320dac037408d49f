//! The faults, and what each does to a client.

use std::time::Duration;

use crate::span::Span;

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

    /// What hits one client, and not the server with all of them.
    pub(crate) fn is_clients(self) -> bool {
        !matches!(self, Self::ServerStopped | Self::ServerKilled)
    }

    /// The connections of a client end, or its server has forgotten what it granted on them: it must know soon.
    pub(crate) fn severs(self) -> bool {
        matches!(
            self,
            Self::ServerKilled | Self::Cut | Self::Reset | Self::HalfOpen
        )
    }

    /// While it lasts no request is answered: a client that held a slot before must know when its time is over.
    pub(crate) fn silences(self) -> bool {
        let network = matches!(self, Self::StalledUp | Self::StalledDown | Self::Stalled);
        network
            || matches!(
                self,
                Self::ClientStopped | Self::ClientBusy | Self::ServerStopped
            )
    }

    /// While it lasts the end of a connection reaches the client late or not at all.
    pub(crate) fn deafens(self) -> bool {
        let network = matches!(
            self,
            Self::StalledDown | Self::Stalled | Self::Delayed | Self::Trickled
        );
        network || matches!(self, Self::ClientStopped | Self::ClientBusy)
    }
}

/// Something that went wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// `None`: all clients.
    pub(crate) client: Option<usize>,
    /// From when on it was in force: before connections are cut, and when a server that is killed is gone.
    pub(crate) from: Duration,
    /// When nothing of it was left.
    pub(crate) to: Duration,
}

impl Fault {
    pub(crate) fn span(&self) -> Span {
        Span {
            from: self.from,
            to: self.to,
        }
    }

    pub(crate) fn concerns(&self, client: usize) -> bool {
        self.client.is_none_or(|hit| hit == client)
    }
}
