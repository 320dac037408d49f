//! Distributed semaphores and locks on [dflockd](https://github.com/mtingers/dflockd): at most N programs, on any number of machines,
//! hold a slot of a key at once, strictly first come, first served.
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
//! let held = pool.acquire().await?;        // waits in line, 10 s at most
//! held.check()?;                           // still ours? no IO
//! let pool = held.release().await?;        // dropping it gives it back, too
//!
//! let n = pool.with_slot(async |_held| 6 * 7).await?;
//! # assert_eq!(n, 42);
//! # Ok(()) }
//! ```
//!
//! # States
//!
//! A semaphore is idle, in line, or holding a slot, and each is a type of its own: what is a run-time error in other clients does not
//! compile here.
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
//! [`Lock`] is the same with a limit of one and names of its own on the server. `#[dflock::semaphore(key = "worker-pool", limit = 5)]`
//! and `#[dflock::lock(key = "nightly")]` run an `async fn` with a slot.
//!
//! # A slot can be lost
//!
//! It is lent for a lease, which is renewed for as long as you hold it. When that fails, [`check`](Held::check) fails from the moment on in
//! which anybody else may hold it, [`lost`](Held::lost) resolves, [`run`](Held::run) and [`with_slot`](Semaphore::with_slot) stop your
//! future, and `on_lost` is called. A slot that is dropped is free at once; nothing is spawned or blocked on for it.
//!
//! # More
//!
//! | page | answers |
//! |---|---|
//! | [`guide::leases`] | what is promised, and what no lease can promise |
//! | [`guide::fencing`] | what to do where a slot must never be used by two |
//! | [`guide::choosing`] | which lease, which timeouts |
//! | [`guide::cancel_safety`] | what becomes of a slot when a future is dropped |
//! | [`guide::sharding`] | several servers |
//! | [`guide::testing`] | a server in your tests, on a paused clock |
//! | [`telemetry`] | the spans, events and metrics that tell of all this |
//! | [`guide::coming_from`] | the TypeScript, Python and Go clients, call by call |

// The modules, in the order in which one acquire travels:
//
// 1. `semaphore`: what the user holds, one type a state; its builder; `lock`: the same for one
// 2. `slot`: what is asked of the server, and what its answers mean
// 3. `client`: where the servers are; `shard`: which of them a key lives on
// 4. `transport`: a connection, from the pool or new, with TLS over it and the secret shown where there are any; one request, one reply
// 5. `wire`: requests and replies, no IO
// 6. `lease`: the task that keeps a slot and knows when it is lost
// 7. `error`: every way to fail
// 8. `watch`: what is told to tracing and metrics
//
// and, with the feature `macros`, `attributes`: one line above an `async fn`, and `runtime`, which that line calls; with the feature
// `server`, a server that speaks the same wire in the same process; with the feature `cli`, a program, in `bin/dflock`.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "macros")]
mod attributes;
#[cfg(all(feature = "server", dflock_bench))]
#[doc(hidden)]
pub mod bench_support;
mod client;
mod error;
#[cfg(any(test, all(feature = "server", fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(doc, doctest))]
pub mod guide;
mod lease;
mod lock;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod macro_support;
mod mutex;
mod semaphore;
#[cfg(feature = "server")]
pub mod server;
mod shard;
#[cfg(test)]
#[path = "../tests/cli/skipped.rs"]
mod skipped;
mod slot;
#[cfg(any(feature = "stats", feature = "server"))]
mod stats;
pub mod telemetry;
#[cfg(feature = "tower")]
pub mod tower;
mod transport;
mod wire;

#[cfg(feature = "macros")]
pub use attributes::{lock, semaphore};
pub use client::{Client, ClientBuilder};
pub use error::{
    AddressErrorKind, AuthErrorKind, AuthTokenFileErrorKind, ConfigError, ConnectStage, Error,
    ErrorContext, Lost, LostReason, Operation, PemContent, PemErrorKind, PemSectionErrorKind,
    TlsErrorKind, TokenErrorKind,
};
pub use lock::{Lock, LockBuilder};
pub use semaphore::{Enqueued, Held, Idle, Queued, Semaphore, SemaphoreBuilder, State};
pub use shard::{Crc32, Sharding};
#[cfg(any(feature = "stats", feature = "server"))]
pub use stats::{IdleStats, LockStats, SemaphoreStats, Stats};
/// The rustls that [`Tls::from_config`] takes its configuration from.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use tokio_rustls::rustls;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use transport::Tls;
pub use transport::{BoxStream, Clock, ConnectFuture, Connector, Stream};
pub use wire::{InvalidKey, Token};
