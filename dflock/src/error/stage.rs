//! How far a connection came that was not made in time.

use std::fmt;

/// What a new connection was busy with when its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectStage {
    /// To reach the server.
    Reach,
    /// The server was reached; the TLS handshake did not end.
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
