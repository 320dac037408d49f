//! Harness that runs a server and its clients, each in a separate process, and injects faults
//! between them.

pub mod clock;
pub mod program;
pub mod proxy;
pub mod raw_client;
pub mod server;

/// A result whose error ends the program.
pub type HarnessResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
