//! The distributed semaphore: idle, in line, or holding a slot.

mod builder;
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

/// A semaphore that programs on many machines share: at most `limit` of them hold a slot of its key at once, first come, first
/// served.
///
/// What can be done depends on the state `S`, and every step takes the semaphore and gives it back in its next state:
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
/// A `Semaphore<Idle>` is cheap to clone. The others own a slot or a place in line, and give it up when they are dropped.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
/// What is an error at run time elsewhere does not compile here:
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

/// A state of a [`Semaphore`] or a lock: [`Idle`], [`Queued`] or [`Held`].
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
    /// The key that is shared.
    #[must_use]
    pub fn key(&self) -> &str {
        self.slot.key()
    }

    /// How many may hold a slot of the key at once.
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
