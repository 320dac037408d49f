//! Errors of requests to a cluster.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};

use crate::engine::dflockd::classify_tls;
use crate::error::{AuthErrorKind, ConnectStage, Error, ErrorContext, TlsErrorKind};

/// The reason for which a request to the cluster failed.
#[derive(Clone, Debug)]
pub(super) struct CallError {
    pub(super) kind: CallErrorKind,
    /// The member to which the reason belongs, of all that were tried.
    pub(super) member: Arc<str>,
    /// A member may have received the request, so that its effect is not known.
    pub(super) uncertain: bool,
}

#[derive(Clone, Debug)]
pub(super) enum CallErrorKind {
    /// No connection to the member.
    Connect(Arc<io::Error>),
    /// No TLS connection to the member.
    Tls(TlsErrorKind, Arc<io::Error>),
    /// No connection within this time.
    ConnectTimeout(Duration),
    /// No response within this time.
    Unresponsive(Duration),
    /// The member belongs to another cluster than the other members.
    ForeignMember,
    /// The member refused the request.
    Refused(Refusal),
}

impl CallErrorKind {
    /// Returns how specific the error is.
    fn weight(&self) -> u8 {
        match self {
            Self::Tls(..) => 2,
            Self::ForeignMember | Self::Refused(_) => 1,
            Self::Connect(_) | Self::ConnectTimeout(_) | Self::Unresponsive(_) => 0,
        }
    }

    /// Returns the error of a stream, if it comes from TLS.
    pub(super) fn from_tls(error: &io::Error) -> Option<Self> {
        let kind = classify_tls(error)?;
        let error = io::Error::new(error.kind(), error.to_string());
        Some(Self::Tls(kind, Arc::new(error)))
    }
}

/// Meaning of a refusal for the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The member cannot serve the request now; another member may.
    Unavailable(String),
    /// The member knows no leader.
    NoLeader,
    /// The token of the user has expired, or the users have changed.
    TokenExpired,
    /// The cluster has users, and the client gave none.
    UserMissing,
    /// The cluster refuses the user or the password.
    WrongUser,
    /// The cluster has no users, and the client gave one.
    UserUnneeded,
    /// The user may not read or write below the prefix.
    PermissionDenied,
    /// There is no such lease.
    LeaseNotFound,
    /// The space of the database is used up.
    NoSpace,
    /// Anything else.
    Other(String),
}

impl Refusal {
    /// Returns the meaning of `status`.
    pub(super) fn new(status: &Status) -> Self {
        let message = status.message();
        match status.code() {
            Code::Unauthenticated => Self::TokenExpired,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound if message.contains("lease not found") => Self::LeaseNotFound,
            Code::ResourceExhausted if message.contains("database space exceeded") => Self::NoSpace,
            Code::InvalidArgument if message.contains("user name is empty") => Self::UserMissing,
            Code::InvalidArgument if message.contains("authentication failed") => Self::WrongUser,
            Code::InvalidArgument if message.contains("auth") && message.contains("revision") => {
                Self::TokenExpired
            }
            Code::FailedPrecondition if message.contains("authentication is not enabled") => {
                Self::UserUnneeded
            }
            Code::Unavailable if message.contains("no leader") => Self::NoLeader,
            // etcd answers `Unknown` to a request that its raft dropped.
            Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::Aborted
            | Code::Internal
            | Code::DeadlineExceeded
            | Code::ResourceExhausted => Self::Unavailable(printable(message)),
            _ => Self::Other(printable(message)),
        }
    }

    fn into_error(self, context: ErrorContext) -> Error {
        let refused = |context, status: &str| Error::Refused {
            context,
            status: status.to_owned(),
        };
        match self {
            Self::NoLeader => Error::NoLeader { context },
            Self::Unavailable(status) => Error::Unavailable { context, status },
            Self::TokenExpired | Self::WrongUser => Error::Auth {
                context,
                kind: AuthErrorKind::Wrong { long: false },
            },
            Self::UserMissing => Error::Auth {
                context,
                kind: AuthErrorKind::Missing,
            },
            Self::UserUnneeded => Error::Auth {
                context,
                kind: AuthErrorKind::Unneeded,
            },
            Self::PermissionDenied => refused(context, "permission denied"),
            Self::LeaseNotFound => refused(context, "lease not found"),
            Self::NoSpace => Error::NoSpace { context },
            Self::Other(status) => refused(context, &status),
        }
    }

    /// Returns whether another attempt may succeed.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NoLeader)
    }
}

impl CallError {
    /// Returns the error of a response of `member` that is not one to the `request`.
    pub(super) fn malformed(member: Arc<str>, request: &str) -> Self {
        let status = format!("a response that does not belong to the request ({request})");
        Self {
            kind: CallErrorKind::Refused(Refusal::Other(status)),
            member,
            uncertain: true,
        }
    }

    /// Returns the more specific error, or the later one.
    pub(super) fn more_specific(known: Option<Self>, error: Self) -> Self {
        let weight = error.kind.weight();
        known
            .filter(|known| known.kind.weight() > weight)
            .unwrap_or(error)
    }

    /// Returns the error of the operation of `context`. It names the member to which the reason
    /// belongs.
    pub(super) fn into_error(self, context: ErrorContext) -> Error {
        let context = ErrorContext {
            server: self.member,
            ..context
        };
        match self.kind {
            CallErrorKind::Connect(error) => {
                let source = io::Error::new(error.kind(), error);
                Error::Connect { context, source }
            }
            CallErrorKind::Tls(kind, error) => Error::Tls {
                context,
                kind,
                source: io::Error::new(error.kind(), error),
            },
            CallErrorKind::ConnectTimeout(limit) => Error::ConnectTimeout {
                context,
                limit,
                stage: ConnectStage::Transport,
            },
            CallErrorKind::Unresponsive(limit) => Error::Unresponsive { context, limit },
            CallErrorKind::ForeignMember => Error::ForeignMember { context },
            CallErrorKind::Refused(refusal) => refusal.into_error(context),
        }
    }

    /// Returns whether the cluster has decided, so that another attempt fails the same way.
    pub(super) fn is_final(&self) -> bool {
        match &self.kind {
            CallErrorKind::Refused(refusal) => {
                !refusal.is_temporary()
                    && !matches!(refusal, Refusal::TokenExpired | Refusal::NoSpace)
            }
            _ => false,
        }
    }

    pub(super) fn is_lease_not_found(&self) -> bool {
        matches!(self.kind, CallErrorKind::Refused(Refusal::LeaseNotFound))
    }
}

/// Returns the start of a message without control characters: errors are printed on terminals.
fn printable(message: &str) -> String {
    let characters = message.chars().filter(|c| !c.is_control());
    characters.take(200).collect()
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.member)?;
        match &self.kind {
            CallErrorKind::Connect(error) => write!(f, "no connection: {error}"),
            CallErrorKind::Tls(kind, error) => write!(f, "no TLS connection: {kind}: {error}"),
            CallErrorKind::ConnectTimeout(limit) => write!(f, "no connection within {limit:?}"),
            CallErrorKind::Unresponsive(limit) => write!(f, "no answer within {limit:?}"),
            CallErrorKind::ForeignMember => f.write_str("it belongs to another cluster"),
            CallErrorKind::Refused(refusal) => write!(f, "{refusal:?}"),
        }
    }
}
