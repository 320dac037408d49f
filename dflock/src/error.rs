//! The errors of this crate.

mod address;
mod config;
mod connect;
mod context;
pub(crate) mod invisible;
mod lost;
mod pem;

use std::io;
use std::time::Duration;

pub use address::AddressErrorKind;
#[cfg(any(feature = "server", feature = "tls", feature = "tls-aws-lc"))]
pub(crate) use address::public_part;
pub(crate) use address::strip_user_info;
pub use config::{AuthTokenErrorKind, AuthTokenFileErrorKind, ConfigError};
pub use connect::{AuthErrorKind, ConnectStage, TlsErrorKind};
pub use context::{ErrorContext, Operation};
pub use lost::{Lost, LostReason};
pub use pem::{PemContent, PemErrorKind, PemSectionErrorKind};

use crate::wire::{ErrorStatus, Reply};

/// An error of a request to a server, or of a held slot.
///
/// The message names the operation, the key, the server and a remedy. No error holds a secret.
///
/// Match on the variants, or use the predicates, such as [`is_timeout`](Self::is_timeout),
/// [`is_lost`](Self::is_lost), [`is_retryable`](Self::is_retryable) and
/// [`is_auth`](Self::is_auth).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option or an argument is invalid. Nothing was sent.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// No slot became free in time. The request has left the queue.
    #[error(
        "{context}: {}; try again, or wait longer with `acquire_timeout`",
        timeout_message(*waited)
    )]
    Timeout {
        /// The operation that failed.
        context: ErrorContext,
        /// The time that the operation waited.
        waited: Duration,
    },

    /// A held slot was lost.
    #[error(transparent)]
    Lost(#[from] Lost),

    /// The slot was granted, but its lease expired before the grant arrived. It was never held.
    #[error(
        "{context}: the lease of the granted slot expired before the grant arrived; try again, \
         with a longer `lease_ttl` if this repeats"
    )]
    LeaseExpired {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// The key is in use with another limit.
    ///
    /// The limit stays while the key is in use, on dflockd for a further minute.
    #[error(
        "{context}: {}; all users of a key must give the same limit; another one is accepted once \
         the key is idle, on dflockd after a minute",
        limit_mismatch_message(*ours, *theirs)
    )]
    LimitMismatch {
        /// The operation that failed.
        context: ErrorContext,
        /// The limit of the request.
        ours: u32,
        /// The limit of the key, if the server names it.
        theirs: Option<u32>,
    },

    /// The server has reached its maximum number of keys.
    #[error(
        "{context}: the server has reached its maximum number of keys; use fewer, or raise its \
         `--max-locks`"
    )]
    TooManyKeys {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// The queue of the key is full.
    #[error(
        "{context}: the queue of this key is full; try again later, or raise the server's \
         `--max-waiters`"
    )]
    TooManyWaiters {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// Authentication with the auth token failed.
    #[error("{context}: {kind}")]
    Auth {
        /// The operation that failed.
        context: ErrorContext,
        /// The reason of the failure.
        kind: AuthErrorKind,
    },

    /// The server is shutting down.
    #[error("{context}: the server is shutting down; try again when it is back")]
    Draining {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// The client is closed.
    ///
    /// [`Client::close`](crate::Client::close) ends waits for a slot, and later ones.
    #[error("{context}: the client is closed; build another client to acquire slots")]
    Closed {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// The server is not the leader of its cluster.
    ///
    /// The client connects to configured servers only, so it does not follow the reply.
    #[error(
        "{context}: the server does not lead its cluster{}; configure the leader in `servers`",
        leader_hint(leader.as_deref())
    )]
    NotLeader {
        /// The operation that failed.
        context: ErrorContext,
        /// The leader, if the server names it.
        leader: Option<String>,
    },

    /// The server refused the request with a status that this version has no variant for.
    #[error("{context}: the server answered `{status}`; check its log")]
    Refused {
        /// The operation that failed.
        context: ErrorContext,
        /// The status in the reply.
        status: String,
    },

    /// The connection to the server failed.
    #[error("{context}: no connection; check that the server runs and that `servers` names it")]
    Connect {
        /// The operation that failed.
        context: ErrorContext,
        /// The error of the operating system.
        source: io::Error,
    },

    /// Connecting took longer than `connect_timeout`, or than the wait of an acquire if that is
    /// shorter. On etcd the limit is a fifth of `socket_timeout`, or `connect_timeout` if that is
    /// shorter.
    #[error(
        "{context}: no connection within {limit:?}; {stage}, or raise `connect_timeout`, or on \
         etcd `socket_timeout`, of which one member has a fifth{}",
        acquire_timeout_hint(context.operation)
    )]
    ConnectTimeout {
        /// The operation that failed.
        context: ErrorContext,
        /// The time limit.
        limit: Duration,
        /// The step that did not finish.
        stage: ConnectStage,
    },

    /// The TLS handshake with the server failed. The connection was closed.
    #[error("{context}: no TLS connection: {kind}")]
    Tls {
        /// The operation that failed.
        context: ErrorContext,
        /// The reason of the failure.
        kind: TlsErrorKind,
        /// The error of the TLS library.
        source: io::Error,
    },

    /// The server did not answer in time. The connection was closed.
    ///
    /// The limit is `socket_timeout`, or, for an acquire, its wait plus at most one second.
    #[error(
        "{context}: no answer within {limit:?}; the connection was closed; \
         check the server, or raise `socket_timeout`{}",
        acquire_timeout_hint(context.operation)
    )]
    Unresponsive {
        /// The operation that failed.
        context: ErrorContext,
        /// The time limit.
        limit: Duration,
    },

    /// The connection ended before the answer came.
    #[error(
        "{context}: the connection ended before the answer came; {}",
        disconnect_hint(context.operation)
    )]
    Disconnected {
        /// The operation that failed.
        context: ErrorContext,
        /// The error of the operating system, or the start of an unfinished reply. `None` when the
        /// server closed the connection in an orderly way.
        source: Option<io::Error>,
    },

    /// The reply to `stats` is longer than the limit, and the connection was closed.
    ///
    /// The limit is [`max_stats_size`](crate::ClientBuilder::max_stats_size).
    #[error(
        "{context}: the reply is longer than {limit} bytes; raise `max_stats_size` of the client"
    )]
    StatsTooLarge {
        /// The operation that failed.
        context: ErrorContext,
        /// The longest reply that is read, in bytes.
        limit: usize,
    },

    /// The engine of the client cannot serve the call.
    #[error(
        "{context}: {engine} does not support this; a client of an etcd cluster does (feature \
         `etcd`, `servers` with `etcd://host:port`)"
    )]
    Unsupported {
        /// The operation that failed.
        context: ErrorContext,
        /// The engine: `dflockd` or `etcd`.
        engine: &'static str,
    },

    /// The place in the queue was taken away: its entry was deleted, or its lease has ended.
    #[error("{context}: the place in the queue was revoked, or its lease has ended; join again")]
    Revoked {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// The cluster has no leader.
    #[error(
        "{context}: the etcd cluster has no leader; check that more than half of its members run \
         and reach each other"
    )]
    NoLeader {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// The members of the cluster could not serve the request in time.
    #[error("{context}: etcd answered {status:?}; try again, and check its log if this repeats")]
    Unavailable {
        /// The operation that failed.
        context: ErrorContext,
        /// The status of etcd.
        status: String,
    },

    /// The space of the cluster is used up (`NOSPACE`).
    #[error(
        "{context}: the database of etcd has used up its space; compact and defragment it, and \
         disarm the alarm `NOSPACE`"
    )]
    NoSpace {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// The member belongs to another cluster than the other configured members.
    #[error(
        "{context}: this member belongs to another etcd cluster than the others; give `servers` \
         the members of one cluster"
    )]
    ForeignMember {
        /// The operation that failed.
        context: ErrorContext,
    },

    /// A key in the queue was not written by this library.
    #[error(
        "{context}: the etcd key {key:?} has a value of another program; delete it, or choose \
         another `etcd_prefix`"
    )]
    ForeignValue {
        /// The operation that failed.
        context: ErrorContext,
        /// The key in etcd.
        key: String,
    },

    /// The reply is not valid for the request. The connection was closed.
    #[error(
        "{context}: the server answered {received:?}, which is no reply to {}; {}",
        context.operation,
        protocol_hint(received)
    )]
    Protocol {
        /// The operation that failed.
        context: ErrorContext,
        /// The start of the reply.
        received: String,
    },
}

impl Error {
    /// Returns the key of the failed operation, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Lost(lost) => Some(&lost.key),
            _ => self.context()?.key.as_deref(),
        }
    }

    /// Returns the server of the failed operation, `host:port`.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Lost(lost) => Some(&lost.server),
            _ => Some(&self.context()?.server),
        }
    }

    /// Returns the operation that failed, if the error is of one.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        Some(self.context()?.operation)
    }

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
            Self::Tls { kind, .. } => *kind == TlsErrorKind::ConnectionClosed,
            Self::Config(_)
            | Self::Lost(_)
            | Self::LimitMismatch { .. }
            | Self::Auth { .. }
            | Self::Closed { .. }
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

    /// Returns whether the client was closed with [`Client::close`](crate::Client::close).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Returns whether the server does not lead its cluster.
    #[must_use]
    pub fn is_not_leader(&self) -> bool {
        matches!(self, Self::NotLeader { .. })
    }

    /// Returns the error for a reply other than the expected one.
    pub(crate) fn from_reply(context: ErrorContext, reply: &Reply) -> Self {
        let Reply::Error(status) = reply else {
            let mut line = Vec::new();
            reply.encode(&mut line);
            return Self::Protocol {
                context,
                received: line_prefix(line.trim_ascii_end()),
            };
        };
        match status {
            // A client with an auth token authenticates before any other request.
            ErrorStatus::Auth => Self::Auth {
                context,
                kind: AuthErrorKind::Missing,
            },
            ErrorStatus::MaxLocks => Self::TooManyKeys { context },
            ErrorStatus::MaxWaiters => Self::TooManyWaiters { context },
            ErrorStatus::LeaseExpired => Self::LeaseExpired { context },
            ErrorStatus::Draining => Self::Draining { context },
            ErrorStatus::NotLeader(leader) => Self::NotLeader {
                context,
                leader: leader.as_deref().map(str::to_owned),
            },
            // A status without a separate variant. The message shows it.
            status => Self::Refused {
                context,
                status: status.to_string(),
            },
        }
    }

    /// Returns the error without text from the server, which may repeat the auth token.
    pub(crate) fn without_server_text(self) -> Self {
        let placeholder = || "(not shown: it may repeat the auth token)".to_owned();
        match self {
            Self::NotLeader { context, .. } => Self::NotLeader {
                context,
                leader: None,
            },
            Self::Refused { context, .. } => Self::Refused {
                context,
                status: placeholder(),
            },
            Self::Protocol { context, received } => {
                // The start of a TLS alert repeats no token, and `protocol_hint` needs it.
                let received = if received.starts_with(TLS_ALERT) {
                    TLS_ALERT.to_owned()
                } else {
                    placeholder()
                };
                Self::Protocol { context, received }
            }
            Self::Disconnected {
                context,
                source: Some(source),
            } if source.kind() == io::ErrorKind::UnexpectedEof => Self::Disconnected {
                context,
                source: Some(source.kind().into()),
            },
            error => error,
        }
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
            | Self::Closed { context }
            | Self::NotLeader { context, .. }
            | Self::Refused { context, .. }
            | Self::Connect { context, .. }
            | Self::ConnectTimeout { context, .. }
            | Self::Tls { context, .. }
            | Self::Unresponsive { context, .. }
            | Self::Disconnected { context, .. }
            | Self::StatsTooLarge { context, .. }
            | Self::Unsupported { context, .. }
            | Self::Revoked { context }
            | Self::NoLeader { context }
            | Self::Unavailable { context, .. }
            | Self::NoSpace { context }
            | Self::ForeignMember { context }
            | Self::ForeignValue { context, .. }
            | Self::Protocol { context, .. } => Some(context),
        }
    }
}

/// The first bytes of a TLS alert.
const TLS_ALERT: &str = "\u{15}\u{3}";

/// Returns a remedy for the reply that starts with `received`.
fn protocol_hint(received: &str) -> &'static str {
    let word = received.split(' ').next().unwrap_or_default();
    if received.starts_with(TLS_ALERT) {
        "this is a TLS alert: give the client `tls`, or name a dflockd server without TLS in \
         `servers`"
    } else if received.starts_with("HTTP/") {
        "this is HTTP: check that `servers` names the host and port of a dflockd server"
    } else if matches!(word, "ok" | "acquired" | "queued" | "timeout") || word.starts_with("error")
    {
        "check that `servers` names a dflockd server itself, of a version that this client knows"
    } else {
        "check that `servers` names the host and port of a dflockd server"
    }
}

/// Returns the first characters of a received line, for a message.
///
/// They are enough to recognise a protocol, and fewer than a token has.
pub(crate) fn line_prefix(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(24).collect()
}

fn disconnect_hint(operation: Operation) -> &'static str {
    match operation {
        Operation::Release => {
            "the server frees the slot when it notices, after its lease at the latest"
        }
        _ => "try again; if this repeats, check the server's log, and whether it speaks TLS",
    }
}

/// Returns the mention of `acquire_timeout` for the operations that it limits, too.
fn acquire_timeout_hint(operation: Operation) -> &'static str {
    match operation {
        Operation::Acquire | Operation::Auth => ", or `acquire_timeout` if that is shorter",
        _ => "",
    }
}

fn timeout_message(waited: Duration) -> String {
    if waited.is_zero() {
        "no slot is free now".to_owned()
    } else {
        format!("no slot became free within {waited:?}")
    }
}

fn limit_mismatch_message(ours: u32, theirs: Option<u32>) -> String {
    match theirs {
        Some(theirs) => format!("the key is in use with the limit {theirs}, not {ours}"),
        None => format!("the key is in use with another limit than {ours}"),
    }
}

fn leader_hint(leader: Option<&str>) -> String {
    leader.map_or_else(String::new, |leader| format!(", {leader} does"))
}
