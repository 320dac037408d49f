//! Distributed semaphores and locks on dflockd.
//!
//! The modules, in the order in which one acquire travels:
//!
//! 1. `semaphore`: what the user holds, one type a state; its builder; `lock`: the same for one
//! 2. `slot`: what is asked of the server, and what its answers mean
//! 3. `client`: where the servers are; `shard`: which of them a key lives on
//! 4. `transport`: a connection, from the pool or new; one request, one reply
//! 5. `wire`: requests and replies, no IO
//! 6. `lease`: the task that keeps a slot and knows when it is lost
//! 7. `error`: every way to fail
//! 8. [`watch`]: the spans, events and numbers that tell of all this
//!
//! and, with the feature `server`, a server that speaks the same wire in the same process.

mod client;
mod error;
#[cfg(all(feature = "server", any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod lock;
mod mutex;
mod semaphore;
#[cfg(feature = "server")]
pub mod server;
mod shard;
mod slot;
#[cfg(any(feature = "stats", feature = "server"))]
mod stats;
#[cfg(feature = "tower")]
pub mod tower;
mod transport;
pub mod watch;
mod wire;

pub use client::{Client, ClientBuilder};
pub use error::{AddressFault, Attempt, AuthFault, ConfigError, Error, Lost, LostReason, Operation, SecretFault};
pub use lock::{Lock, LockBuilder};
pub use semaphore::{Enqueued, Held, Idle, Queued, Semaphore, SemaphoreBuilder, State};
pub use shard::{Crc32, Sharding};
#[cfg(any(feature = "stats", feature = "server"))]
pub use stats::{IdleStats, LockStats, SemaphoreStats, Stats};
pub use transport::{BoxStream, Clock, Connecting, Connector, Stream};
pub use wire::{InvalidKey, Token};
