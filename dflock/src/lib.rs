//! A client of the lock server [dflockd](https://github.com/mtingers/dflockd), or of an etcd
//! cluster (feature `etcd`), with distributed semaphores and locks. At most `limit` tasks, on any
//! number of machines, hold a slot of a key at once. The others wait in a queue, first come, first
//! served.
//!
//! It needs a running dflockd, an etcd cluster, or the embedded server of the feature `server`.
//! Programs without async use the module `blocking`, of the feature `blocking`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use dflock::{Client, Semaphore};
//!
//! # let server = dflock::server::Server::start().await?;
//! # let address = server.addr().to_string();
//! // `address` is a `host:port` such as "127.0.0.1:6388".
//! let client = Client::builder().servers([address]).build()?;
//! let pool = Semaphore::builder().key("worker-pool").limit(5).client(client).build()?;
//!
//! let held = pool.acquire().await?;        // waits in the queue, 10 s at most
//! held.check()?;                           // returns an error once the slot is lost; no IO
//! let pool = held.release().await?;        // a drop of `held` would also free the slot
//!
//! let n = pool.with_slot(async |_held| 6 * 7).await?;
//! # assert_eq!(n, 42);
//! # Ok(()) }
//! ```
//!
//! # States
//!
//! A semaphore is idle, waits in the queue, or holds a slot. Each state is a separate type, so the
//! compiler rejects misuse such as a second release. `Enqueued` is an enum: the slot, or a place in
//! the queue.
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
//! [`Lock`] is a semaphore with one slot. On servers from v1.14 on, a lock and a semaphore of the
//! same key are independent. `#[dflock::semaphore(key = "worker-pool", limit = 5)]` and
//! `#[dflock::lock(key = "nightly")]` acquire a slot before an `async fn` and release it
//! afterwards.
//!
//! # Lost slots
//!
//! The server grants a slot for a limited time, the lease. The client renews the lease until the
//! slot is released. If it cannot renew the lease in time, the slot is lost: [`check`](Held::check)
//! returns an error before the server can grant the slot to another client. Then
//! [`lost`](Held::lost) completes, [`run`](Held::run) and [`with_slot`](Semaphore::with_slot) drop
//! their future, and the callback `on_lost` is called.
//!
//! Dropping a [`Held`] sends a release, and on dflockd closes the connection. It spawns no task and
//! does not block. On etcd the session thread sends the release, so call [`Client::close`] last in
//! `main`.
//!
//! # More
//!
//! | page | content |
//! |---|---|
//! | [`guide::leases`] | guarantees, and the limits of a lease |
//! | [`guide::fencing`] | protection of a store against late writes |
//! | [`guide::choosing`] | the choice of the lease and the timeouts |
//! | `guide::engines` | the two engines: dflockd or etcd (feature `etcd`) |
//! | [`guide::cancel_safety`] | effects of dropping a future |
//! | [`guide::sharding`] | several servers |
//! | [`guide::testing`] | a server in your tests, on a paused clock |
//! | [`guide::wishes`] | wishes of users of semaphores and locks, and their solutions here |
#![cfg_attr(
    feature = "blocking",
    doc = "| [`blocking`] | the same API for programs without async |"
)]
//! | [`telemetry`] | spans, events and metrics |
//! | [`guide::coming_from`] | the TypeScript, Python and Go clients, call by call |

// The modules, in the order in which an acquire passes them. `ARCHITECTURE.md` has more.
//
// 1. `semaphore`: the type that users have, with its states and kinds (a lock is a kind), and its
//    builder
// 2. `slot`: its core: acquires, waits and releases, with their telemetry
// 3. `client`: the options of a client, which make its engine
// 4. `engine`: the seam: what a lease and a client ask of the servers
// 5. `engine/dflockd`: connections, pools, TLS, authentication, sharding
// 6. `wire`: requests and replies, without IO
// 7. `lease`: the life of a wait and a hold; the task that renews it
// 8. `error`, `telemetry`: for every layer
//
// With the feature `macros`: `macros` for an `async fn`, and `macro_support`, which they call.
// With `blocking`: the same API for programs without async, on a background thread.
// With `server`: a server for the same wire in the same process.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(feature = "server", dflock_bench))]
#[doc(hidden)]
pub mod bench_support;
#[cfg(feature = "blocking")]
pub mod blocking;
#[doc(hidden)]
pub mod cli_support;
mod client;
mod clock;
mod driver;
mod engine;
mod error;
// Two attributes: clippy does not see `test` in `all`.
#[cfg(test)]
#[cfg(feature = "etcd")]
#[doc(hidden)]
pub mod etcd_cluster;
#[cfg(all(feature = "server", any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(doc, doctest))]
pub mod guide;
mod holder;
mod lease;
mod limit_mismatch;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod macro_support;
#[cfg(feature = "macros")]
mod macros;
mod mutex;
mod semaphore;
#[cfg(feature = "server")]
pub mod server;
#[cfg(test)]
#[doc(hidden)]
pub mod skipped;
mod slot;
#[cfg(any(feature = "stats", feature = "server"))]
mod stats;
pub mod telemetry;
#[cfg(feature = "tower")]
pub mod tower;
mod wire;

pub use client::{Client, ClientBuilder};
pub use clock::Clock;
pub use dflock_duration::{ParseDurationError, parse_duration, parse_duration_or_seconds};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use engine::dflockd::Tls;
pub use engine::dflockd::{BoxStream, ConnectFuture, Connector, Crc32, Sharding, Stream};
pub use error::{
    AddressErrorKind, AuthErrorKind, AuthTokenErrorKind, AuthTokenFileErrorKind, ConfigError,
    ConnectStage, Error, ErrorContext, Lost, LostReason, Operation, PemContent, PemErrorKind,
    PemSectionErrorKind, TlsErrorKind,
};
pub use holder::Holder;
pub use limit_mismatch::LimitMismatch;
#[cfg(feature = "macros")]
pub use macros::{lock, semaphore};
pub use semaphore::{
    Counting, Enqueued, Exclusive, Held, HeldAll, Idle, Kind, Lead, Leader, Leadership, Lock,
    Queued, Semaphore, SemaphoreBuilder, State, acquire_all, acquire_all_within,
};
#[cfg(any(feature = "stats", feature = "server"))]
pub use stats::{IdleStats, LockStats, SemaphoreStats, Stats};
/// The rustls that [`Tls::from_config`] takes its configuration from.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use tokio_rustls::rustls;
pub use wire::{KeyErrorKind, Token};
