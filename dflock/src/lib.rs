//! Distributed semaphores and locks on dflockd.

#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "stats", feature = "server"))]
mod stats;
mod transport;
mod wire;

#[cfg(any(feature = "stats", feature = "server"))]
pub use stats::{IdleStats, LockStats, SemaphoreStats, Stats};
pub use transport::{BoxStream, Clock, Connecting, Connector, Stream};
pub use wire::Token;
