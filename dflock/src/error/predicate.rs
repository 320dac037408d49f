//! What can be asked of an error without a match on it.

use super::{Error, Operation, TlsErrorKind};

impl Error {
    /// Whether no slot came free in time. Other limits of time (to connect, for an answer) are not this,
    /// also where the wait of an acquire was over meanwhile: nothing is known of the slots then.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// Whether a slot that was held is gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Whether the same call may succeed when it is made again. A release is made once, whatever comes of it.
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
            | Self::Disconnected { .. } => true,
            // a server that starts again looks the same
            Self::Tls { fault, .. } => *fault == TlsErrorKind::ConnectionClosed,
            Self::Config(_)
            | Self::Lost(_)
            | Self::LimitMismatch { .. }
            | Self::Auth { .. }
            | Self::NotLeader { .. }
            | Self::Refused { .. }
            | Self::StatsTooLarge { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// Whether the server and the client do not agree about the shared secret.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        matches!(self, Self::Auth { .. })
    }

    /// Whether the key is in use with another limit.
    #[must_use]
    pub fn is_limit_mismatch(&self) -> bool {
        matches!(self, Self::LimitMismatch { .. })
    }

    /// Whether the server keeps no more keys.
    #[must_use]
    pub fn is_too_many_keys(&self) -> bool {
        matches!(self, Self::TooManyKeys { .. })
    }

    /// Whether the line for the key is full.
    #[must_use]
    pub fn is_too_many_waiters(&self) -> bool {
        matches!(self, Self::TooManyWaiters { .. })
    }

    /// Whether a lease had ended before the grant could be believed.
    #[must_use]
    pub fn is_lease_expired(&self) -> bool {
        matches!(self, Self::LeaseExpired { .. })
    }

    /// Whether the server is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// Whether the server does not lead its cluster.
    #[must_use]
    pub fn is_not_leader(&self) -> bool {
        matches!(self, Self::NotLeader { .. })
    }
}
