//! Why a server did not start.

use std::io;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An option has a value that it cannot have.
    #[error("{option} cannot be {given}; it is {allowed}")]
    #[non_exhaustive]
    InvalidOption {
        /// Which option of [`ServerConfig`](super::ServerConfig).
        option: &'static str,
        /// What it was given. A secret is not shown.
        given: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    #[non_exhaustive]
    Bind {
        /// The address as it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no random numbers to make tokens of.
    #[error("the system has no random numbers")]
    #[non_exhaustive]
    NoRandomness {
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
