//! The methods that acquire several permits at once.

use std::time::Duration;

use super::{Held, Idle, Semaphore};
use crate::error::Error;

/// Several permits of one key. A lock has one permit only, so it has no such methods.
impl Semaphore<Idle> {
    /// Waits for so many permits, and acquires all of them or none. It waits for at most
    /// `acquire_timeout` (10 s by default).
    ///
    /// [`dflock::Semaphore::acquire_many`](crate::Semaphore::acquire_many) describes the order and
    /// the gate of dflockd.
    ///
    /// # Errors
    ///
    /// See [`dflock::Semaphore::acquire_many`](crate::Semaphore::acquire_many).
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// let memory = client.semaphore("gigabytes", 16)?;
    ///
    /// let held = memory.acquire_many(4)?;
    /// assert_eq!(held.permits(), 4);
    /// assert_eq!(held.tokens().count(), 4);
    /// held.release()?; // all four
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the permits are given up when it is dropped"]
    #[track_caller]
    pub fn acquire_many(self, permits: u32) -> Result<Semaphore<Held>, Error> {
        self.step(|idle| idle.acquire_many(permits))
    }

    /// Like [`acquire_many`](Self::acquire_many), for at most `wait`, as in
    /// [`acquire_within`](Semaphore::acquire_within).
    ///
    /// # Errors
    ///
    /// The errors of [`acquire_many`](Self::acquire_many), and [`Error::Config`] for a wait of more
    /// than 9,223,372,036 s.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let memory = client.semaphore("gigabytes", 4)?;
    /// let first = memory.clone().acquire()?;
    /// let all = memory.acquire_many_within(4, Duration::from_millis(20));
    /// assert!(all.unwrap_err().is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the permits are given up when it is dropped"]
    #[track_caller]
    pub fn acquire_many_within(
        self,
        permits: u32,
        wait: Duration,
    ) -> Result<Semaphore<Held>, Error> {
        self.step(|idle| idle.acquire_many_within(permits, wait))
    }

    /// Acquires so many permits only if all are free, and the queue is empty.
    ///
    /// [`dflock::Semaphore::try_acquire_many`](crate::Semaphore::try_acquire_many) has the details.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if fewer permits are free; otherwise the errors of
    /// [`acquire_many`](Self::acquire_many).
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let memory = client.semaphore("gigabytes", 4)?;
    /// let three = memory.clone().try_acquire_many(3)?;
    /// assert!(memory.try_acquire_many(2).unwrap_err().is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the permits are given up when it is dropped"]
    #[track_caller]
    pub fn try_acquire_many(self, permits: u32) -> Result<Semaphore<Held>, Error> {
        self.step(|idle| idle.try_acquire_many(permits))
    }
}
