//! The distributed semaphore, its states and its kinds.

mod all;
mod builder;
mod client;
mod held;
mod idle;
mod kind;
mod lead;
mod queued;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use all::{HeldAll, acquire_all, acquire_all_within};
pub use builder::SemaphoreBuilder;
pub use held::Held;
pub use idle::Idle;
pub use kind::{Counting, Exclusive, Kind, Lock};
pub use lead::{Lead, Leader, Leadership};
pub use queued::{Enqueued, Queued};

use crate::slot::SemaphoreInner;
use crate::wire::Primitive;

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
/// The type parameter `K` is the kind: a [`Counting`] semaphore has a limit, and an [`Exclusive`]
/// one is a [`Lock`]. Both have the same methods.
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
pub struct Semaphore<S: State = Idle, K: Kind = Counting> {
    slot: Arc<SemaphoreInner>,
    state: S,
    kind: PhantomData<K>,
}

/// State of a [`Semaphore`]: [`Idle`], [`Queued`] or [`Held`].
pub trait State: sealed::State {}

impl State for Idle {}
impl State for Queued {}
impl State for Held {}

mod sealed {
    pub trait State: std::fmt::Debug {
        /// Returns the limit that the server accepted, or `None` before a request.
        fn accepted_limit(&self) -> Option<u32>;
    }

    impl State for super::Idle {
        fn accepted_limit(&self) -> Option<u32> {
            None
        }
    }

    impl State for super::Queued {
        fn accepted_limit(&self) -> Option<u32> {
            Some(self.limit())
        }
    }

    impl State for super::Held {
        fn accepted_limit(&self) -> Option<u32> {
            Some(self.limit())
        }
    }
}

impl<S: State, K: Kind> Semaphore<S, K> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.slot.key()
    }

    /// Returns the limit: the number of slots of the key, which is 1 for a lock.
    ///
    /// With [`LimitMismatch::Adopt`](crate::LimitMismatch::Adopt), a semaphore that holds a slot or
    /// waits for one has the limit of the server.
    #[must_use]
    pub fn limit(&self) -> u32 {
        let own = || self.slot.primitive().limit().get();
        self.state.accepted_limit().unwrap_or_else(own)
    }
}

impl<S: State, K: Kind> fmt::Debug for Semaphore<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = match self.slot.primitive() {
            Primitive::Lock => f.debug_struct("Lock"),
            Primitive::Semaphore(_) => f.debug_struct("Semaphore"),
        };
        debug.field("key", &self.key());
        if let Primitive::Semaphore(_) = self.slot.primitive() {
            debug.field("limit", &self.limit());
        }
        debug.field("state", &self.state).finish_non_exhaustive()
    }
}
