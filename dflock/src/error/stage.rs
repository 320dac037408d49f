//! The step at which connecting timed out.

use std::fmt;

/// The step at which connecting timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectStage {
    /// Reaching the server.
    Reach,
    /// The TLS handshake, after the server was reached.
    Tls,
}

impl fmt::Display for ConnectStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reach => "check the network",
            Self::Tls => "the server was reached; check that it speaks TLS on this port",
        })
    }
}
