//! The same API for programs without async.
//!
//! A [`Client`] has a background thread that renews the leases, keeps places in queues and reports
//! losses. It does so while the threads of the program are busy. The thread ends after the last
//! clone of the client and the last semaphore of it are dropped. Clones share the thread and the
//! connections, so make one client for a program.
//!
//! The options are those of the async builders: [`ClientBuilder::build_blocking`] and
//! [`SemaphoreBuilder::build_blocking`] end them.
//!
//! ```
//! use std::time::Duration;
//! use dflock::{Client, Semaphore};
//!
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # let server = runtime.block_on(dflock::server::Server::start())?;
//! # let address = server.addr().to_string();
//! // `address` is a `host:port` such as "127.0.0.1:6388".
//! let client = Client::builder().servers([address]).build_blocking()?;
//! let pool = Semaphore::builder()
//!     .key("worker-pool")
//!     .limit(5)
//!     .lease_ttl(Duration::from_secs(20))
//!     .build_blocking(&client)?;
//!
//! let held = pool.acquire()?; // waits in the queue, 10 s at most
//! held.check()?; // returns an error once the slot is lost; no IO
//! let pool = held.release()?; // a drop of `held` would also free the slot
//!
//! let n = pool.with_slot(|_held| 6 * 7)?;
//! # assert_eq!(n, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inside of an async runtime
//!
//! As with `reqwest::blocking`, calls that wait **panic inside of an async runtime of tokio**,
//! because they would stop its other tasks. Use the [async API](crate) there, or move the calls to
//! [`tokio::task::spawn_blocking`]. Such calls say so under "Panics". The panic hook prints a panic
//! of tokio first. All other calls, and the drop of any value, work everywhere.
//!
//! # Differences
//!
//! The promises are the same: a drop frees a slot at once, on any thread, and a loss is reported
//! when it occurs. On etcd the drop is sent by a thread: call [`Client::close`] last in `main`.
//! These are the differences:
//!
//! - A closure cannot be stopped. [`with_slot`](Semaphore::with_slot) and [`lead`](Semaphore::lead)
//!   run their body to its end. The body calls [`check`](Held::check) before each step that needs
//!   the slot. There is no `run`.
//! - [`lost_within`](Held::lost_within) waits for a loss with a time limit, in place of `lost`. The
//!   callback `on_lost` runs on the background thread.
//! - A call that waits cannot be cancelled. [`Client::close`] on another thread ends all waits.
//! - [`lead`](Semaphore::lead) has no `watch` and no `resign`.
//! - There is no default client, and there are no attributes.
//! - There is no warning about a thread that waits for a slot it holds itself.
//! - A forked process (`fork` without `exec`) has no background thread. Make the client after the
//!   `fork`.
//!
//! [`ClientBuilder::build_blocking`]: crate::ClientBuilder::build_blocking
//! [`SemaphoreBuilder::build_blocking`]: crate::SemaphoreBuilder::build_blocking

mod acquire_many;
mod all;
mod background;
mod client;
mod held;
mod idle;
mod queued;
mod semaphore;

pub use all::{HeldAll, acquire_all, acquire_all_within};
pub use client::Client;
pub use held::Held;
pub use idle::Idle;
pub use queued::{Enqueued, Queued};
pub use semaphore::{Lock, Semaphore, State};
