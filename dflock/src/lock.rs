//! The distributed lock: a semaphore of one, with commands of its own.

mod builder;

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

pub use builder::LockBuilder;

use crate::error::Error;
use crate::semaphore::{Enqueued, Held, Idle, Queued, Semaphore, State};

/// A lock that programs on many machines share: at most one of them holds it, first come, first served.
///
/// It has the states and methods of a [`Semaphore`]. On the server locks and semaphores have separate names: a lock and a semaphore
/// of the same key have nothing to do with each other.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// let nightly = client.lock("nightly")?;
///
/// let held = nightly.acquire().await?;
/// held.check()?;
/// held.release().await?;
/// # Ok(()) }
/// ```
pub struct Lock<S: State = Idle>(Semaphore<S>);

impl<S: State> Lock<S> {
    /// The key that is shared.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.key()
    }

    /// The semaphore of one that it is.
    #[cfg(feature = "macros")]
    pub(crate) fn into_semaphore(self) -> Semaphore<S> {
        self.0
    }
}

impl Lock<Idle> {
    /// Waits in line for the lock, for at most `acquire_timeout` (10 s unless the builder says otherwise).
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let held = server.client().lock("nightly")?.acquire().await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn acquire(self) -> Result<Lock<Held>, Error> {
        self.0.acquire().await.map(Lock)
    }

    /// The same, waiting for at most `wait`. See [`Semaphore::acquire_within`] for what becomes of parts of a second.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire_within`].
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let held = lock.acquire_within(std::time::Duration::from_secs(2)).await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the lock is given up when it is dropped"]
    pub async fn acquire_within(self, wait: Duration) -> Result<Lock<Held>, Error> {
        self.0.acquire_within(wait).await.map(Lock)
    }

    /// Takes the lock only if it is free now and nobody stands in line for it.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::try_acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// Joins the line and comes back at once: with the lock if it was free, else with a place in line.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::enqueue`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line or the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::Enqueued;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// Acquires the lock, runs `body` with it, and gives it back.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::with_slot`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body and gives up the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

impl Lock<Queued> {
    /// Waits for the lock, for at most `acquire_timeout` (10 s unless the builder says otherwise), counted from this call.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::wait`].
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
    /// As [`Semaphore::wait`].
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

impl Lock<Held> {
    /// Gives the lock back, and waits until the server has confirmed it.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::release`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which gives the lock back, too.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let lock = lock.acquire().await?.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<Lock<Idle>, Error> {
        self.0.release().await.map(Lock)
    }

    /// Closes the connection without telling the server; see [`Semaphore::close`].
    pub fn close(self) -> Lock<Idle> {
        Lock(self.0.close())
    }
}

impl Enqueued<Lock<Held>, Lock<Queued>> {
    /// The lock, whichever it was: free, or to be waited for.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::wait`].
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

impl Clone for Lock<Idle> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Deref for Lock<Held> {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.0
    }
}

impl<S: State> fmt::Debug for Lock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lock").field(&self.0).finish()
    }
}
