//! Every way to fail: by whose fault, and what to do about it.

mod address;
mod auth;
mod config;
mod context;
pub(crate) mod invisible;
mod lost;
mod pem;
mod predicate;
mod refusal;
mod stage;
mod tls;

use std::io;
use std::time::Duration;

pub use address::AddressErrorKind;
pub(crate) use address::after_user_info;
#[cfg(any(feature = "server", feature = "tls", feature = "tls-aws-lc"))]
pub(crate) use address::public_part;
pub use auth::AuthErrorKind;
pub use config::{AuthTokenFileErrorKind, ConfigError, TokenErrorKind};
pub use context::{ErrorContext, Operation};
pub use lost::{Lost, LostReason};
pub use pem::{PemContent, PemErrorKind, PemSectionErrorKind};
pub(crate) use refusal::excerpt;
pub use stage::ConnectStage;
pub use tls::TlsErrorKind;

/// What went wrong, with which key, on which server, and what to do.
///
/// Match on the variants, or ask the predicates, such as [`is_timeout`](Self::is_timeout), [`is_lost`](Self::is_lost),
/// [`is_retryable`](Self::is_retryable) and [`is_auth`](Self::is_auth). No error holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's configuration or argument cannot work. Nothing was sent.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// No slot came free in time. The place in line is given up.
    #[error("{context}: {}; try again, or wait longer with `acquire_timeout`", in_vain(*waited))]
    Timeout {
        /// What was tried.
        context: ErrorContext,
        /// How long it was waited for.
        waited: Duration,
    },

    /// The slot was held and is gone.
    #[error(transparent)]
    Lost(#[from] Lost),

    /// The slot was granted, but its lease had ended before the grant could be believed. It was never held.
    #[error(
        "{context}: the lease of the granted slot had ended before the grant arrived; try again, with a longer `lease_ttl` if this repeats"
    )]
    LeaseExpired {
        /// What was tried.
        context: ErrorContext,
    },

    /// The key is in use with another limit. The server keeps a key's limit until nobody has used the key for a minute.
    #[error("{context}: {}; all users of a key must give the same limit, and another is taken only when the key was idle for a minute", limits(*ours, *theirs))]
    LimitMismatch {
        /// What was tried.
        context: ErrorContext,
        /// The limit that was asked for.
        ours: u32,
        /// The limit that the key has, where the server tells.
        theirs: Option<u32>,
    },

    /// The server keeps no more keys.
    #[error(
        "{context}: the server keeps as many keys as it may; use fewer, or raise its `--max-locks`"
    )]
    TooManyKeys {
        /// What was tried.
        context: ErrorContext,
    },

    /// The line for this key is full.
    #[error(
        "{context}: the line for this key is full; try again later, or raise the server's `--max-waiters`"
    )]
    TooManyWaiters {
        /// What was tried.
        context: ErrorContext,
    },

    /// The server and the client do not agree about the shared secret.
    #[error("{context}: {fault}")]
    Auth {
        /// What was tried.
        context: ErrorContext,
        /// In what they do not agree.
        fault: AuthErrorKind,
    },

    /// The server is shutting down.
    #[error("{context}: the server is shutting down; try again when it is back")]
    Draining {
        /// What was tried.
        context: ErrorContext,
    },

    /// The server is not the leader of its cluster. Only configured servers are ever connected to.
    #[error("{context}: the server does not lead its cluster{}; configure the leader in `servers`", leads(leader.as_deref()))]
    NotLeader {
        /// What was tried.
        context: ErrorContext,
        /// Who leads, as the server says.
        leader: Option<String>,
    },

    /// The server refused for a reason that this version has no better name for.
    #[error("{context}: the server answered `{status}`; see its log")]
    Refused {
        /// What was tried.
        context: ErrorContext,
        /// What it answered.
        status: String,
    },

    /// No connection could be made.
    #[error("{context}: no connection; check that the server runs and that `servers` names it")]
    Connect {
        /// What was tried.
        context: ErrorContext,
        /// What the system said.
        source: io::Error,
    },

    /// No connection could be made in time: within `connect_timeout`, or within the wait of an acquire
    /// if that is shorter.
    #[error(
        "{context}: no connection within {limit:?}; {stage}, or raise `connect_timeout`{}",
        or_wait(context.operation)
    )]
    ConnectTimeout {
        /// What was tried.
        context: ErrorContext,
        /// The time it had.
        limit: Duration,
        /// How far it came.
        stage: ConnectStage,
    },

    /// The server was reached, and TLS found something wrong. The connection was closed.
    #[error("{context}: no TLS connection: {fault}")]
    Tls {
        /// What was tried.
        context: ErrorContext,
        /// What is wrong.
        fault: TlsErrorKind,
        /// What TLS said.
        source: io::Error,
    },

    /// The server did not answer in time: within `socket_timeout`, or within the wait of an acquire and
    /// at most a second. The connection was closed.
    #[error(
        "{context}: no answer within {limit:?}; the connection was closed; \
         check the server, or raise `socket_timeout`{}",
        or_wait(context.operation)
    )]
    Unresponsive {
        /// What was tried.
        context: ErrorContext,
        /// The time it had.
        limit: Duration,
    },

    /// The connection ended before the answer came.
    #[error("{context}: the connection ended before the answer came; {}", after_the_end(context.operation))]
    Disconnected {
        /// What was tried.
        context: ErrorContext,
        /// What the system said, or what came of the reply; `None` when the server closed it in order.
        source: Option<io::Error>,
    },

    /// The reply to `stats` is longer than [`max_stats_size`](crate::ClientBuilder::max_stats_size).
    /// The connection was closed.
    #[error(
        "{context}: the reply is longer than {limit} bytes; raise `max_stats_size` of the client"
    )]
    StatsTooLarge {
        /// What was tried.
        context: ErrorContext,
        /// The longest reply that is read, in bytes.
        limit: usize,
    },

    /// What the server said is not of the protocol. The connection was closed.
    #[error("{context}: the server answered {received:?}, which is no reply to {}; {}", context.operation, refusal::advice(received))]
    Protocol {
        /// What was tried.
        context: ErrorContext,
        /// What was heard, shortened.
        received: String,
    },
}

impl Error {
    /// The key that it was about, if it was about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Lost(lost) => Some(&lost.key),
            _ => self.context()?.key.as_deref(),
        }
    }

    /// The server that was asked, `host:port`.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Lost(lost) => Some(&lost.server),
            _ => Some(&self.context()?.server),
        }
    }

    /// What was tried.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        Some(self.context()?.operation)
    }

    fn context(&self) -> Option<&ErrorContext> {
        match self {
            Self::Config(_) | Self::Lost(_) => None,
            Self::Timeout { context, .. }
            | Self::LeaseExpired { context }
            | Self::LimitMismatch { context, .. }
            | Self::TooManyKeys { context }
            | Self::TooManyWaiters { context }
            | Self::Auth { context, .. }
            | Self::Draining { context }
            | Self::NotLeader { context, .. }
            | Self::Refused { context, .. }
            | Self::Connect { context, .. }
            | Self::ConnectTimeout { context, .. }
            | Self::Tls { context, .. }
            | Self::Unresponsive { context, .. }
            | Self::Disconnected { context, .. }
            | Self::StatsTooLarge { context, .. }
            | Self::Protocol { context, .. } => Some(context),
        }
    }
}

fn after_the_end(tried: Operation) -> &'static str {
    match tried {
        Operation::Release => {
            "the server frees the slot when it notices, after its lease at the latest"
        }
        _ => "try again; if this repeats, see the server's log, and whether it speaks TLS",
    }
}

/// The limit that the wait of an acquire sets to connecting and to the server's answers.
fn or_wait(tried: Operation) -> &'static str {
    match tried {
        Operation::Acquire | Operation::Auth => ", or `acquire_timeout` if that is shorter",
        _ => "",
    }
}

fn in_vain(waited: Duration) -> String {
    if waited.is_zero() {
        "no slot is free now".to_owned()
    } else {
        format!("no slot came free within {waited:?}")
    }
}

fn limits(ours: u32, theirs: Option<u32>) -> String {
    match theirs {
        Some(theirs) => format!("the key is in use with the limit {theirs}, not {ours}"),
        None => format!("the key is in use with another limit than {ours}"),
    }
}

fn leads(leader: Option<&str>) -> String {
    leader.map_or_else(String::new, |leader| format!(", {leader} does"))
}
