//! Predicates on errors.

use super::{Error, Operation, TlsErrorKind};

impl Error {
    /// Returns whether no slot became free in time.
    ///
    /// Returns false for other time limits (to connect, to answer), also when they end the wait of
    /// an acquire: the state of the slots is not known then.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// Returns whether a held slot was lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Returns whether the same call may succeed when it is repeated.
    ///
    /// Returns false for errors of a release, because a release is never repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            _ if self.operation() == Some(Operation::Release) => false,
            Self::Timeout { .. }
            | Self::LeaseExpired { .. }
            | Self::TooManyKeys { .. }
            | Self::TooManyWaiters { .. }
            | Self::Draining { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Unresponsive { .. }
            | Self::Revoked { .. }
            | Self::NoLeader { .. }
            | Self::Unavailable { .. }
            | Self::Disconnected { .. } => true,
            // A server that restarts causes the same error.
            Self::Tls { fault, .. } => *fault == TlsErrorKind::ConnectionClosed,
            Self::Config(_)
            | Self::Lost(_)
            | Self::LimitMismatch { .. }
            | Self::Auth { .. }
            | Self::NotLeader { .. }
            | Self::Refused { .. }
            | Self::StatsTooLarge { .. }
            | Self::Unsupported { .. }
            | Self::NoSpace { .. }
            | Self::ForeignMember { .. }
            | Self::ForeignValue { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// Returns whether authentication with the auth token failed.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        matches!(self, Self::Auth { .. })
    }

    /// Returns whether the key is in use with another limit.
    #[must_use]
    pub fn is_limit_mismatch(&self) -> bool {
        matches!(self, Self::LimitMismatch { .. })
    }

    /// Returns whether the server has reached its maximum number of keys.
    #[must_use]
    pub fn is_too_many_keys(&self) -> bool {
        matches!(self, Self::TooManyKeys { .. })
    }

    /// Returns whether the queue of the key is full.
    #[must_use]
    pub fn is_too_many_waiters(&self) -> bool {
        matches!(self, Self::TooManyWaiters { .. })
    }

    /// Returns whether the lease expired before the grant arrived.
    #[must_use]
    pub fn is_lease_expired(&self) -> bool {
        matches!(self, Self::LeaseExpired { .. })
    }

    /// Returns whether the server is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// Returns whether the server does not lead its cluster.
    #[must_use]
    pub fn is_not_leader(&self) -> bool {
        matches!(self, Self::NotLeader { .. })
    }
}
