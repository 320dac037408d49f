//! The idle state of a lock, and the methods that acquire it.

use std::future::Future;
use std::time::Duration;

use super::Lock;
use crate::error::Error;
use crate::semaphore::{Enqueued, Held, Idle, Queued};

impl Lock<Idle> {
    /// Waits in the queue for the lock, for at most `acquire_timeout` (10 s by default).
    ///
    /// Bind the returned value to a name: the statement `lock.acquire().await?;` drops it, which
    /// releases the lock at once.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::acquire`](crate::Semaphore::acquire).
    ///
    /// # Cancel safety
    ///
    /// See [`Semaphore::acquire`](crate::Semaphore::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let held = server.client().lock("nightly")?.acquire().await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn acquire(self) -> Result<Lock<Held>, Error> {
        self.0.acquire().await.map(Lock)
    }

    /// Like [`acquire`](Self::acquire), for at most `wait`.
    ///
    /// [`Semaphore::acquire_within`](crate::Semaphore::acquire_within) documents fractions of a
    /// second.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::acquire_within`](crate::Semaphore::acquire_within).
    ///
    /// # Cancel safety
    ///
    /// See [`Semaphore::acquire`](crate::Semaphore::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let held = lock.acquire_within(std::time::Duration::from_secs(2)).await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn acquire_within(self, wait: Duration) -> Result<Lock<Held>, Error> {
        self.0.acquire_within(wait).await.map(Lock)
    }

    /// Acquires the lock only if it is free and the queue is empty.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::try_acquire`](crate::Semaphore::try_acquire).
    ///
    /// # Cancel safety
    ///
    /// See [`Semaphore::acquire`](crate::Semaphore::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let held = lock.clone().try_acquire().await?;
    /// assert!(lock.try_acquire().await.unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn try_acquire(self) -> Result<Lock<Held>, Error> {
        self.0.try_acquire().await.map(Lock)
    }

    /// Acquires the lock if it is free, or joins the queue, and returns without waiting for the
    /// lock.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::enqueue`](crate::Semaphore::enqueue).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the lock or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::Enqueued;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let held = match lock.enqueue().await? {
    ///     Enqueued::Acquired(held) => held,
    ///     Enqueued::Queued(queued) => queued.wait().await?,
    /// };
    /// # Ok(()) }
    /// ```
    pub async fn enqueue(self) -> Result<Enqueued<Lock<Held>, Lock<Queued>>, Error> {
        Ok(match self.0.enqueue().await? {
            Enqueued::Acquired(held) => Enqueued::Acquired(Lock(held)),
            Enqueued::Queued(queued) => Enqueued::Queued(Lock(queued)),
        })
    }

    /// Acquires the lock, runs `body` with it, and releases the lock.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::with_slot`](crate::Semaphore::with_slot).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body and gives up the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let fence = lock.with_slot(async |held| held.fence()).await?;
    /// # Ok(()) }
    /// ```
    pub fn with_slot<F, T>(&self, body: F) -> impl Future<Output = Result<T, Error>> + use<F, T>
    where
        F: AsyncFnOnce(&Held) -> T,
    {
        self.0.with_slot(body)
    }
}

impl Clone for Lock<Idle> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
