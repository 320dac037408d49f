//! The queued state, the methods that wait for the slot, and the outcome of an enqueue.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::time::Duration;

use super::{Counting, Held, Idle, Kind, Semaphore};
use crate::error::Error;
use crate::lease::LeaseHandle;
use crate::slot::SemaphoreInner;
use crate::wire::Grant;

/// State of a semaphore that waits in the queue.
///
/// The place in the queue is kept even while the semaphore is not polled. A slot that becomes free
/// is accepted at once, and its lease is renewed until [`wait`](Semaphore::wait) returns it.
/// Dropping the semaphore leaves the queue, and releases a granted slot.
#[derive(Debug)]
pub struct Queued {
    hold: LeaseHandle,
}

impl Queued {
    pub(super) fn new(hold: LeaseHandle) -> Self {
        Self { hold }
    }

    pub(super) fn limit(&self) -> u32 {
        self.hold.config().slot.primitive.limit().get()
    }

    pub(crate) fn position(&self, slot: &SemaphoreInner) -> Result<u64, Error> {
        slot.position(&self.hold)
    }

    pub(crate) fn is_granted(&self) -> bool {
        self.hold.is_held()
    }
}

impl<K: Kind> Semaphore<Queued, K> {
    /// Waits for the slot, for at most `acquire_timeout` (10 s by default) from this call.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if no slot became free in time; the place in the queue is given up.
    /// [`Error::Lost`] if a slot was granted and lost before this call. [`Error::LeaseExpired`] if
    /// the grant arrived after its lease had expired. [`Error::Disconnected`], [`Error::Draining`]
    /// and others if the server disconnected or refused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the slot or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::Enqueued;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let first = pool.clone().acquire().await?;
    /// if let Enqueued::Queued(queued) = pool.enqueue().await? {
    ///     first.release().await?;
    ///     let second = queued.wait().await?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn wait(self) -> Result<Semaphore<Held, K>, Error> {
        let wait = self.slot.acquire_timeout();
        self.wait_within(wait).await
    }

    /// Like [`wait`](Self::wait), for at most `wait`. With zero, it returns the slot only if it is
    /// already granted.
    ///
    /// # Errors
    ///
    /// See [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// See [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::Enqueued;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let first = pool.clone().acquire().await?;
    /// if let Enqueued::Queued(queued) = pool.enqueue().await? {
    ///     let second = queued.wait_within(std::time::Duration::from_millis(20)).await;
    ///     assert!(second.unwrap_err().is_timeout());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn wait_within(self, wait: Duration) -> Result<Semaphore<Held, K>, Error> {
        let grant = self.slot.wait(&self.state.hold, wait).await?;
        Ok(self.into_held(grant))
    }

    /// Waits for the slot without a time limit, and runs `meanwhile` until the wait is over.
    pub(crate) async fn wait_with(
        self,
        meanwhile: impl AsyncFnOnce(&Self) -> Infallible,
    ) -> Result<Semaphore<Held, K>, Error> {
        let grant = tokio::select! {
            biased;
            grant = self.slot.wait(&self.state.hold, Duration::MAX) => grant?,
            never = meanwhile(&self) => match never {},
        };
        Ok(self.into_held(grant))
    }

    fn into_held(self, grant: Grant) -> Semaphore<Held, K> {
        Semaphore {
            slot: self.slot,
            state: Held::new((self.state.hold, grant)),
            kind: PhantomData,
        }
    }

    /// Returns whether the slot is granted, so that [`wait`](Self::wait) returns at once. No IO.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.state.is_granted()
    }

    /// Returns how many slots must be released before this one is granted: 1 for the next in the
    /// queue, and 0 if it is granted.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] on dflockd, which does not report it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[expect(clippy::unused_async, reason = "an engine may have to ask its server")]
    pub async fn position(&self) -> Result<u64, Error> {
        self.state.position(&self.slot)
    }

    /// Leaves the queue, and gives up the slot if it was granted in the meantime.
    pub fn close(self) -> Semaphore<Idle, K> {
        Semaphore::new(self.slot)
    }
}

/// Outcome of [`Semaphore::enqueue`].
#[derive(Debug)]
#[must_use = "a slot or a place in the queue is given up when it is dropped"]
pub enum Enqueued<K: Kind = Counting> {
    /// A slot was free, and is now held.
    Acquired(Semaphore<Held, K>),
    /// All slots are taken; the semaphore waits in the queue.
    Queued(Semaphore<Queued, K>),
}

impl<K: Kind> Enqueued<K> {
    /// Returns the slot that was free, or waits for it in the queue.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::<Queued>::wait`](Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the slot or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.enqueue().await?.wait().await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn wait(self) -> Result<Semaphore<Held, K>, Error> {
        match self {
            Self::Acquired(held) => Ok(held),
            Self::Queued(queued) => queued.wait().await,
        }
    }
}
