//! Kinds of faults, and their effects on a client.

use std::time::Duration;

use crate::interval::Interval;

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    ClientStopped,
    ClientKilled,
    ClientBusy,
    ServerStopped,
    ServerKilled,
    Closed,
    Reset,
    HalfOpen,
    StalledUp,
    StalledDown,
    Stalled,
    Delayed,
    Trickled,
    LeaderKilled,
    LeaderStopped,
    LeaderTerminated,
    FollowerKilled,
    FollowerStopped,
    CutOff,
    PartlyCutOff,
    Slowed,
}

impl FaultKind {
    /// The faults of the engine dflockd.
    pub(crate) const DFLOCKD: [Self; 13] = [
        Self::ClientStopped,
        Self::ClientKilled,
        Self::ClientBusy,
        Self::ServerStopped,
        Self::ServerKilled,
        Self::Closed,
        Self::Reset,
        Self::HalfOpen,
        Self::StalledUp,
        Self::StalledDown,
        Self::Stalled,
        Self::Delayed,
        Self::Trickled,
    ];

    /// The faults of the engine etcd.
    pub(crate) const ETCD: [Self; 12] = [
        Self::LeaderKilled,
        Self::LeaderStopped,
        Self::LeaderTerminated,
        Self::FollowerKilled,
        Self::FollowerStopped,
        Self::ClientStopped,
        Self::ClientKilled,
        Self::ClientBusy,
        Self::CutOff,
        Self::PartlyCutOff,
        Self::Reset,
        Self::Slowed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientStopped => "client SIGSTOP, SIGCONT",
            Self::ClientKilled => "client SIGKILL",
            Self::ClientBusy => "client's executor blocked",
            Self::ServerStopped => "server SIGSTOP, SIGCONT",
            Self::ServerKilled => "server SIGKILL, restart",
            Self::Closed => "connections closed",
            Self::Reset => "connections reset",
            Self::HalfOpen => "half open, server not notified",
            Self::StalledUp => "stalled, to the server",
            Self::StalledDown => "stalled, to the client",
            Self::Stalled => "stalled, both ways",
            Self::Delayed => "delayed 20 to 700 ms",
            Self::Trickled => "one byte at a time",
            Self::LeaderKilled => "leader SIGKILL, restart",
            Self::LeaderStopped => "leader SIGSTOP, SIGCONT",
            Self::LeaderTerminated => "leader SIGTERM, restart",
            Self::FollowerKilled => "follower SIGKILL, restart",
            Self::FollowerStopped => "follower SIGSTOP, SIGCONT",
            Self::CutOff => "client cut off from all members",
            Self::PartlyCutOff => "client cut off from one member",
            Self::Slowed => "delayed 200 ms each way",
        }
    }

    /// Returns whether it affects one client only. The other kinds affect the server.
    pub(crate) fn is_client_fault(self) -> bool {
        !matches!(
            self,
            Self::ServerStopped
                | Self::ServerKilled
                | Self::LeaderKilled
                | Self::LeaderStopped
                | Self::LeaderTerminated
                | Self::FollowerKilled
                | Self::FollowerStopped
        )
    }

    /// Returns whether it ends the connections of a client, or makes the server forget the grants
    /// on them. The client must notice this soon.
    pub(crate) fn ends_connections(self) -> bool {
        matches!(
            self,
            Self::ServerKilled | Self::Closed | Self::Reset | Self::HalfOpen
        )
    }

    /// Returns whether no request is answered meanwhile. A client that held a slot before must
    /// notice when the time of the slot is over.
    pub(crate) fn blocks_replies(self) -> bool {
        let network = matches!(self, Self::StalledUp | Self::StalledDown | Self::Stalled);
        network
            || matches!(
                self,
                Self::ClientStopped | Self::ClientBusy | Self::ServerStopped
            )
    }

    /// Returns whether the end of a connection reaches the client late or not at all meanwhile.
    pub(crate) fn delays_disconnect(self) -> bool {
        let network = matches!(
            self,
            Self::StalledDown | Self::Stalled | Self::Delayed | Self::Trickled
        );
        network || matches!(self, Self::ClientStopped | Self::ClientBusy)
    }
}

/// A fault that was injected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The affected client; `None` for all clients.
    pub(crate) client: Option<usize>,
    /// Start of the effect: before connections are closed, and after a killed server has ended.
    pub(crate) from: Duration,
    /// End of all effects.
    pub(crate) to: Duration,
}

impl Fault {
    pub(crate) fn interval(&self) -> Interval {
        Interval {
            from: self.from,
            to: self.to,
        }
    }

    pub(crate) fn affects(&self, client: usize) -> bool {
        self.client.is_none_or(|hit| hit == client)
    }
}
