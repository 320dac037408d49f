//! Distributed semaphores and locks on [dflockd](https://github.com/mtingers/dflockd): at most N
//! programs, on any number of machines, hold a slot of a key at once, first come, first served.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use dflock::{Client, Semaphore};
//!
//! # let server = dflock::server::Server::start().await?;
//! # let address = server.addr().to_string();
//! let client = Client::builder().servers([address]).build()?;
//! let pool = Semaphore::builder().key("worker-pool").limit(5).client(client).build()?;
//!
//! let held = pool.acquire().await?;        // waits in the queue, 10 s at most
//! held.check()?;                           // fails when the slot is lost; no IO
//! let pool = held.release().await?;        // dropping it frees the slot as well
//!
//! let n = pool.with_slot(async |_held| 6 * 7).await?;
//! # assert_eq!(n, 42);
//! # Ok(()) }
//! ```
//!
//! # States
//!
//! A semaphore is idle, waits in the queue, or holds a slot. Each state is a separate type, so that
//! run-time errors of other clients do not compile here.
//!
//! ```text
//!            acquire, try_acquire, acquire_within
//!          ┌──────────────────────────────────────┐
//!          │                                      ▼
//!   Semaphore<Idle> ── enqueue ─► Enqueued ─► Semaphore<Held>
//!     ▲    ▲                         │            │   ▲
//!     │    │                         ▼            │   │
//!     │    └──────── close ── Semaphore<Queued> ──┼───┘ wait, wait_within
//!     │                                           │
//!     └──────────────── release, close ───────────┘
//! ```
//!
//! [`Lock`] is a semaphore with a limit of one and separate names on the server.
//! `#[dflock::semaphore(key = "worker-pool", limit = 5)]` and `#[dflock::lock(key = "nightly")]` run
//! an `async fn` with a slot.
//!
//! # Lost slots
//!
//! The server grants a slot for a lease, which the client renews for as long as the slot is held. When
//! that fails, [`check`](Held::check) fails from the moment on at which another client may hold the
//! slot. [`lost`](Held::lost) completes, [`run`](Held::run) and [`with_slot`](Semaphore::with_slot)
//! stop their future, and `on_lost` is called. A slot that is dropped is free at once; the drop spawns
//! nothing and blocks on nothing.
//!
//! # More
//!
//! | page | content |
//! |---|---|
//! | [`guide::leases`] | guarantees, and the limits of a lease |
//! | [`guide::fencing`] | protection of a store against late writes |
//! | [`guide::choosing`] | leases and timeouts to choose |
//! | `guide::engines` | dflockd or etcd (feature `etcd`) |
//! | [`guide::cancel_safety`] | the slot of a future that is dropped |
//! | [`guide::sharding`] | several servers |
//! | [`guide::testing`] | a server in your tests, on a paused clock |
//! | [`telemetry`] | spans, events and metrics |
//! | [`guide::coming_from`] | the TypeScript, Python and Go clients, call by call |

// The modules, in the order in which an acquire passes them. `ARCHITECTURE.md` has more.
//
// 1. `semaphore`: the types that users have, one for each state, and their builder; `lock`: the
//    same with a limit of one
// 2. `slot`: the core of both: acquires, waits and releases, with their telemetry
// 3. `client`: the options of a client, which make its engine
// 4. `engine`: the seam: what a lease and a client ask of the servers
// 5. `engine/dflockd`: connections, pools, TLS, authentication, sharding
// 6. `wire`: requests and replies, without IO
// 7. `lease`: the life of a wait and a hold; the task that renews it
// 8. `error`, `telemetry`: for every layer
//
// With the feature `macros`: `attributes` for an `async fn`, and `macro_support`, which they call.
// With `server`: a server for the same wire in the same process. With `cli`: a program, in
// `bin/dflock`.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "macros")]
mod attributes;
#[cfg(all(feature = "server", dflock_bench))]
#[doc(hidden)]
pub mod bench_support;
#[doc(hidden)]
pub mod cli_support;
mod client;
mod clock;
mod driver;
mod engine;
mod error;
#[cfg(test)]
#[cfg(feature = "etcd")]
#[path = "../tests/etcd/cluster.rs"]
mod etcd_cluster;
#[cfg(any(test, all(feature = "server", fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(doc, doctest))]
pub mod guide;
mod holder;
mod lease;
mod lock;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod macro_support;
mod mutex;
mod semaphore;
#[cfg(feature = "server")]
pub mod server;
#[cfg(test)]
#[path = "../tests/cli/skipped.rs"]
mod skipped;
mod slot;
#[cfg(any(feature = "stats", feature = "server"))]
mod stats;
pub mod telemetry;
#[cfg(feature = "tower")]
pub mod tower;
mod wire;

#[cfg(feature = "macros")]
pub use attributes::{lock, semaphore};
pub use client::{Client, ClientBuilder};
pub use clock::Clock;
pub use dflock_duration::{ParseDurationError, parse_duration, parse_duration_or_seconds};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use engine::dflockd::Tls;
pub use engine::dflockd::{BoxStream, ConnectFuture, Connector, Crc32, Sharding, Stream};
pub use error::{
    AddressErrorKind, AuthErrorKind, AuthTokenFileErrorKind, ConfigError, ConnectStage, Error,
    ErrorContext, Lost, LostReason, Operation, PemContent, PemErrorKind, PemSectionErrorKind,
    TlsErrorKind, TokenErrorKind,
};
pub use holder::Holder;
pub use lock::{Lock, LockBuilder};
pub use semaphore::{Enqueued, Held, Idle, Queued, Semaphore, SemaphoreBuilder, State};
#[cfg(any(feature = "stats", feature = "server"))]
pub use stats::{IdleStats, LockStats, SemaphoreStats, Stats};
/// The rustls that [`Tls::from_config`] takes its configuration from.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use tokio_rustls::rustls;
pub use wire::{InvalidKey, Token};
