//! Errors of a connection.

use std::io;
use std::time::Duration;

use super::tls;
use crate::error::{Error, ErrorContext, line_prefix};

/// Reason for which a connection cannot be used any more.
#[derive(Debug)]
pub(crate) enum ConnectionError {
    /// The server closed it.
    Closed,
    /// An error of the operating system.
    Io(io::Error),
    /// The received bytes are not valid in the protocol, or belong to no request.
    Protocol(String),
    /// The reply to `stats` has more than this many bytes.
    StatsTooLarge(usize),
    /// No reply was received in this time.
    Timeout(Duration),
}

impl ConnectionError {
    /// Returns whether the connection ended, so that another one may succeed.
    pub(crate) fn is_disconnect(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_))
    }

    /// Returns the error of the operation of `context`.
    pub(crate) fn into_error(self, context: ErrorContext) -> Error {
        match self {
            Self::Closed => Error::Disconnected {
                context,
                source: None,
            },
            // A TLS server rejects the certificate of a client only after the handshake.
            Self::Io(source) => match tls::classify(&source) {
                Some(kind) => Error::Tls {
                    context,
                    kind,
                    source,
                },
                None => Error::Disconnected {
                    context,
                    source: Some(source),
                },
            },
            Self::Protocol(received) => Error::Protocol { context, received },
            Self::StatsTooLarge(limit) => Error::StatsTooLarge { context, limit },
            Self::Timeout(limit) => Error::Unresponsive { context, limit },
        }
    }

    pub(super) fn protocol(line: &[u8]) -> Self {
        Self::Protocol(line_prefix(line))
    }

    /// Returns the error for a line that begins with `start` and exceeds the longest reply.
    pub(super) fn too_long(start: &[u8]) -> Self {
        Self::Protocol(format!(
            "{}.. (over 1 MiB without a line feed)",
            line_prefix(start)
        ))
    }

    /// Returns the error for a connection that the server closed after `unfinished`, a part of a
    /// line.
    pub(super) fn closed(unfinished: &[u8]) -> Self {
        if unfinished.is_empty() {
            return Self::Closed;
        }
        let what = format!(
            "the server closed it in the middle of a reply, after {:?}",
            line_prefix(unfinished)
        );
        Self::Io(io::Error::new(io::ErrorKind::UnexpectedEof, what))
    }
}
