//! A place in the line for a lock.

use std::time::Duration;

use super::Lock;
use crate::error::Error;
use crate::semaphore::{Enqueued, Held, Idle, Queued};

impl Lock<Queued> {
    /// Waits for the lock, for at most `acquire_timeout` (10 s unless the builder says otherwise), counted from this call.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::wait`](crate::Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line, or the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// The same, for at most `wait`. Zero takes the lock only if it was granted already.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::wait`](crate::Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line, or the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// Whether the lock is here, so that [`wait`](Self::wait) comes back at once. No IO.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.0.is_granted()
    }

    /// Leaves the line, and gives up the lock if it was granted meanwhile.
    pub fn close(self) -> Lock<Idle> {
        Lock(self.0.close())
    }
}

impl Enqueued<Lock<Held>, Lock<Queued>> {
    /// The lock, whichever it was: free, or to be waited for.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::wait`](crate::Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the lock or the place in line.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
