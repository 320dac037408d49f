//! Why a connection is of no more use.

use std::io;
use std::time::Duration;

use super::tls;
use crate::error::{Error, ErrorContext, excerpt};

/// Why a connection is of no more use.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The peer closed it.
    Closed,
    /// The system says so.
    Io(io::Error),
    /// What was heard is not of the protocol, or nobody asked for it.
    Garbage(String),
    /// The reply to `stats` has more than this many bytes.
    StatsTooLarge(usize),
    /// No reply came in this time.
    Silence(Duration),
}

impl Fault {
    /// Whether the connection itself ended, so that another may do better.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_))
    }

    /// The error of who tried `at`.
    pub(crate) fn into_error(self, context: ErrorContext) -> Error {
        match self {
            Self::Closed => Error::Disconnected {
                context,
                source: None,
            },
            // what a TLS server thinks of a client's certificate is heard only after the handshake
            Self::Io(source) => match tls::fault(&source) {
                Some(fault) => Error::Tls {
                    context,
                    fault,
                    source,
                },
                None => Error::Disconnected {
                    context,
                    source: Some(source),
                },
            },
            Self::Garbage(received) => Error::Protocol { context, received },
            Self::StatsTooLarge(limit) => Error::StatsTooLarge { context, limit },
            Self::Silence(limit) => Error::Unresponsive { context, limit },
        }
    }

    pub(super) fn garbage(line: &[u8]) -> Self {
        Self::Garbage(excerpt(line))
    }

    /// Returns the fault of a line that grew over the longest reply, and began with `start`.
    pub(super) fn endless(start: &[u8]) -> Self {
        Self::Garbage(format!(
            "{}.. (over 1 MiB without a line feed)",
            excerpt(start)
        ))
    }

    /// Returns the fault of a connection that the peer closed behind `unfinished`, a part of a line.
    pub(super) fn closed(unfinished: &[u8]) -> Self {
        if unfinished.is_empty() {
            return Self::Closed;
        }
        let what = format!(
            "the server closed it in the middle of a reply, after {:?}",
            excerpt(unfinished)
        );
        Self::Io(io::Error::new(io::ErrorKind::UnexpectedEof, what))
    }
}
