//! The queued state of a lock, and the methods that wait for it.

use std::time::Duration;

use super::Lock;
use crate::error::Error;
use crate::semaphore::{Enqueued, Held, Idle, Queued};

impl Lock<Queued> {
    /// Waits for the lock, for at most `acquire_timeout` (10 s by default) from this call.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::wait`](crate::Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the lock or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// use dflock::Enqueued;
    /// if let Enqueued::Queued(queued) = lock.enqueue().await? {
    ///     let held = queued.wait().await?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn wait(self) -> Result<Lock<Held>, Error> {
        self.0.wait().await.map(Lock)
    }

    /// Like [`wait`](Self::wait), for at most `wait`. With zero, it returns the lock only if it is
    /// already granted.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::wait`](crate::Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the lock or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// use dflock::Enqueued;
    /// if let Enqueued::Queued(queued) = lock.enqueue().await? {
    ///     let held = queued.wait_within(std::time::Duration::from_secs(60)).await?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn wait_within(self, wait: Duration) -> Result<Lock<Held>, Error> {
        self.0.wait_within(wait).await.map(Lock)
    }

    /// Returns whether the lock is granted, so that [`wait`](Self::wait) returns at once. No IO.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.0.is_granted()
    }

    /// Leaves the queue, and gives up the lock if it was granted in the meantime.
    pub fn close(self) -> Lock<Idle> {
        Lock(self.0.close())
    }
}

impl Enqueued<Lock<Held>, Lock<Queued>> {
    /// Returns the lock if it was free, or waits for it in the queue.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::wait`](crate::Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the lock or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let held = lock.enqueue().await?.wait().await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn wait(self) -> Result<Lock<Held>, Error> {
        match self {
            Self::Acquired(held) => Ok(held),
            Self::Queued(queued) => queued.wait().await,
        }
    }
}
