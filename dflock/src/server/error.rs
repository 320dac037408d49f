//! Errors of a server that did not start.

use std::io;

use crate::error::ConfigError;

/// An error that prevents a server from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An option has a value that is not allowed.
    #[error("invalid {option} ({given}): it must be {allowed}")]
    #[non_exhaustive]
    InvalidOption {
        /// The option of [`ServerConfig`](super::ServerConfig).
        option: &'static str,
        /// The given value. An auth token is not shown.
        given: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}")]
    #[non_exhaustive]
    Bind {
        /// The given address, without user info.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// No client could be built for a server with these options.
    #[error("no client can use a server with these options")]
    Client(#[from] ConfigError),
    /// The call was made outside of a tokio runtime, or on one without timers or IO.
    #[error(transparent)]
    Runtime(ConfigError),
    /// The operating system has no random numbers, which tokens need.
    #[error("the operating system has no random numbers")]
    #[non_exhaustive]
    NoRandomness {
        /// The error of the operating system.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
