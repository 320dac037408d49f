//! Conversion of unexpected replies of the server to [`Error`].

use std::io;

use super::{AuthErrorKind, Error, ErrorContext};
use crate::wire::{ErrorStatus, Reply};

impl Error {
    /// Returns the error for a reply that does not grant the request.
    pub(crate) fn unexpected(context: ErrorContext, reply: &Reply) -> Self {
        let Reply::Error(status) = reply else {
            let mut line = Vec::new();
            reply.encode(&mut line);
            return Self::Protocol {
                context,
                received: excerpt(line.trim_ascii_end()),
            };
        };
        match status {
            // A client with an auth token has authenticated before any other request.
            ErrorStatus::Auth => Self::Auth {
                context,
                fault: AuthErrorKind::Missing,
            },
            ErrorStatus::MaxLocks => Self::TooManyKeys { context },
            ErrorStatus::MaxWaiters => Self::TooManyWaiters { context },
            ErrorStatus::LeaseExpired => Self::LeaseExpired { context },
            ErrorStatus::Draining => Self::Draining { context },
            ErrorStatus::NotLeader(leader) => Self::NotLeader {
                context,
                leader: leader.as_deref().map(str::to_owned),
            },
            ErrorStatus::Unspecified
            | ErrorStatus::LimitMismatch
            | ErrorStatus::NotEnqueued
            | ErrorStatus::AlreadyEnqueued
            | ErrorStatus::Unknown(_) => Self::Refused {
                context,
                status: status.to_string(),
            },
        }
    }

    /// Returns the error without text of the server, which may repeat the auth token.
    pub(crate) fn unquoted(self) -> Self {
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
}

/// The first bytes of a TLS alert.
const TLS_ALERT: &str = "\u{15}\u{3}";

/// Returns a remedy for the reply that starts with `received`.
pub(super) fn protocol_hint(received: &str) -> &'static str {
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

/// Returns the start of a received line.
///
/// It is long enough to recognise a protocol, and shorter than a token.
pub(crate) fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(24).collect()
}
