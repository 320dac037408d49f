//! The distributed semaphore and its states.

mod builder;
mod client;
mod enqueued;
mod held;
mod idle;
mod queued;
mod until_lost;

use std::fmt;
use std::sync::Arc;

pub use builder::SemaphoreBuilder;
pub use enqueued::Enqueued;
pub use held::Held;
pub use idle::Idle;
pub use queued::Queued;

use crate::slot::SemaphoreInner;

/// A semaphore shared by programs on many machines.
///
/// At most `limit` of them hold a slot of its key at once. The server grants slots in the order of
/// the queue.
///
/// The type parameter `S` is the state, which determines the methods. Each step consumes the
/// semaphore and returns it in the next state:
///
/// ```text
///            acquire, try_acquire, acquire_within
///          ┌──────────────────────────────────────┐
///          │                                      ▼
///   Semaphore<Idle> ── enqueue ─► Enqueued ─► Semaphore<Held>
///     ▲    ▲                         │            │   ▲
///     │    │                         ▼            │   │
///     │    └──────── close ── Semaphore<Queued> ──┼───┘ wait, wait_within
///     │                                           │
///     └──────────────── release, close ───────────┘
/// ```
///
/// A `Semaphore<Idle>` is cheap to clone. The other states own a slot or a place in the queue, and
/// give it up when they are dropped.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// let pool = client.semaphore("worker-pool", 5)?;
///
/// let held = pool.acquire().await?;
/// assert!(held.check().is_ok());
/// held.release().await?;
/// # Ok(()) }
/// ```
///
/// Misuse such as a second release does not compile:
///
/// ```compile_fail
/// # async fn f(pool: dflock::Semaphore) -> Result<(), dflock::Error> {
/// let held = pool.acquire().await?;
/// held.release().await?;
/// held.release().await?; // use of moved value
/// # Ok(()) }
/// ```
pub struct Semaphore<S: State = Idle> {
    slot: Arc<SemaphoreInner>,
    state: S,
}

/// State of a [`Semaphore`] or a [`Lock`](crate::Lock): [`Idle`], [`Queued`] or [`Held`].
pub trait State: sealed::State {}

impl State for Idle {}
impl State for Queued {}
impl State for Held {}

mod sealed {
    pub trait State: std::fmt::Debug {}
    impl State for super::Idle {}
    impl State for super::Queued {}
    impl State for super::Held {}
}

impl<S: State> Semaphore<S> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.slot.key()
    }

    /// Returns the limit: the number of slots of the key.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.slot.limit()
    }
}

impl<S: State> fmt::Debug for Semaphore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("key", &self.key())
            .field("limit", &self.limit())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
