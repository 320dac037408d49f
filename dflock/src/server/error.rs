//! Why a server did not start.

use std::io;

use crate::error::ConfigError;

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
    /// No client could reach a server with these options.
    #[error("no client could use a server with these options")]
    Client(#[from] ConfigError),
    /// This is not called on a tokio runtime, or on one without timers or IO.
    #[error(transparent)]
    Runtime(ConfigError),
    /// The system has no random numbers to make tokens of.
    #[error("the system has no random numbers")]
    #[non_exhaustive]
    NoRandomness {
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
