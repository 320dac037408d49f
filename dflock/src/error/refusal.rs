//! What a server's no means to who asked.

use std::io;

use super::{AuthErrorKind, Error, ErrorContext};
use crate::wire::{Reply, Status};

impl Error {
    /// The error for a reply that is not what was asked for.
    pub(crate) fn unexpected(context: ErrorContext, reply: &Reply) -> Self {
        let Reply::Refused(status) = reply else {
            let mut line = Vec::new();
            reply.encode(&mut line);
            return Self::Protocol {
                context,
                received: excerpt(line.trim_ascii_end()),
            };
        };
        match status {
            // a secret that the client has was taken or refused before any other request
            Status::Auth => Self::Auth {
                context,
                fault: AuthErrorKind::Missing,
            },
            Status::MaxLocks => Self::TooManyKeys { context },
            Status::MaxWaiters => Self::TooManyWaiters { context },
            Status::LeaseExpired => Self::LeaseExpired { context },
            Status::Draining => Self::Draining { context },
            Status::NotLeader(leader) => Self::NotLeader {
                context,
                leader: leader.as_deref().map(str::to_owned),
            },
            Status::Error
            | Status::LimitMismatch
            | Status::NotEnqueued
            | Status::AlreadyEnqueued
            | Status::Unknown(_) => Self::Refused {
                context,
                status: status.to_string(),
            },
        }
    }

    /// The same without the server's own words, which may repeat the secret that they answer.
    pub(crate) fn unquoted(self) -> Self {
        let unquoted = || "(not shown: it answers the secret)".to_owned();
        match self {
            Self::NotLeader { context, .. } => Self::NotLeader {
                context,
                leader: None,
            },
            Self::Refused { context, .. } => Self::Refused {
                context,
                status: unquoted(),
            },
            Self::Protocol { context, received } => {
                // the beginning of a TLS alert is no word of the server's, and says what to do
                let received = if received.starts_with(TLS_ALERT) {
                    TLS_ALERT.to_owned()
                } else {
                    unquoted()
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

/// Returns what to do about a server that said `heard`.
pub(super) fn advice(heard: &str) -> &'static str {
    let word = heard.split(' ').next().unwrap_or_default();
    if heard.starts_with(TLS_ALERT) {
        "this is a TLS alert: give the client `tls`, or name a dflockd server without TLS in `servers`"
    } else if heard.starts_with("HTTP/") {
        "this is HTTP: check that `servers` names the host and port of a dflockd server"
    } else if matches!(word, "ok" | "acquired" | "queued" | "timeout") || word.starts_with("error")
    {
        "check that `servers` names a dflockd server itself, of a version that this client knows"
    } else {
        "check that `servers` names the host and port of a dflockd server"
    }
}

/// The beginning of a line that was heard: enough to recognise a protocol by, and never a whole token.
pub(crate) fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(24).collect()
}
