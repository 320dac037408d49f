//! The queued state, the methods that wait for the slot, and the outcome of an enqueue.

use std::sync::Arc;
use std::time::Duration;

use super::background::Background;
use super::semaphore::sealed;
use super::{Held, Idle, Semaphore};
use crate::error::Error;
use crate::semaphore::{Counting, Kind};

/// State of a semaphore that waits in the queue.
///
/// The background thread keeps the place in the queue. It accepts a slot that becomes free at once,
/// and renews its lease until [`wait`](Semaphore::wait) returns it. Dropping the semaphore leaves
/// the queue, and releases a granted slot.
#[derive(Debug)]
pub struct Queued {
    // Dropped before the thread that drives it.
    queued: crate::Queued,
    background: Arc<Background>,
}

impl sealed::State for Queued {
    type Async = crate::Queued;

    fn new(queued: crate::Queued, background: Arc<Background>) -> Self {
        Self { queued, background }
    }

    fn into_parts(self) -> (crate::Queued, Arc<Background>) {
        (self.queued, self.background)
    }

    fn as_async(&self) -> &crate::Queued {
        &self.queued
    }
}

impl<K: Kind> Semaphore<Queued, K> {
    /// Waits for the slot, for at most `acquire_timeout` (10 s by default) from this call.
    ///
    /// # Errors
    ///
    /// See [`wait`](crate::Semaphore::wait) of the async API.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::blocking::Enqueued;
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let pool = client.semaphore("pool", 1)?;
    /// let first = pool.clone().acquire()?;
    /// if let Enqueued::Queued(queued) = pool.enqueue()? {
    ///     first.release()?;
    ///     let second = queued.wait()?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    #[track_caller]
    pub fn wait(self) -> Result<Semaphore<Held, K>, Error> {
        self.step(crate::Semaphore::wait)
    }

    /// Like [`wait`](Self::wait), for at most `wait`. With zero, it returns the slot only if it is
    /// already granted.
    ///
    /// # Errors
    ///
    /// See [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::blocking::Enqueued;
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let pool = client.semaphore("pool", 1)?;
    /// let first = pool.clone().acquire()?;
    /// if let Enqueued::Queued(queued) = pool.enqueue()? {
    ///     let second = queued.wait_within(std::time::Duration::from_millis(20));
    ///     assert!(second.unwrap_err().is_timeout());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    #[track_caller]
    pub fn wait_within(self, wait: Duration) -> Result<Semaphore<Held, K>, Error> {
        self.step(|queued| queued.wait_within(wait))
    }

    /// Returns whether the slot is granted, so that [`wait`](Self::wait) returns at once. No IO.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.state.queued.is_granted()
    }

    /// Returns how many slots must be released before this one is granted: 1 for the next in the
    /// queue, and 0 if it is granted.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] on dflockd, which does not report it.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    #[track_caller]
    pub fn position(&self) -> Result<u64, Error> {
        let position = async { self.state.queued.position(&self.slot) };
        self.state.background.block_on(position)
    }

    /// Leaves the queue, and gives up the slot if it was granted in the meantime.
    pub fn close(self) -> Semaphore<Idle, K> {
        let (queued, background) = self.into_async();
        Semaphore::new(queued.close(), background)
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
    /// See [`wait`](crate::Semaphore::wait) of the async API.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime, if no slot was free.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let pool = client.semaphore("pool", 1)?;
    /// let held = pool.enqueue()?.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    #[track_caller]
    pub fn wait(self) -> Result<Semaphore<Held, K>, Error> {
        match self {
            Self::Acquired(held) => Ok(held),
            Self::Queued(queued) => queued.wait(),
        }
    }
}
