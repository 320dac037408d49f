//! The held state: a slot, and the methods that check, renew and release it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::Span;

use super::background::Background;
use super::semaphore::sealed;
use super::{Idle, Semaphore};
use crate::error::{Error, Lost};
use crate::semaphore::Kind;
use crate::wire::Token;

/// A slot that is held for as long as its lease is renewed.
///
/// The background thread renews the lease, also while the threads of the program are busy. When the
/// slot is lost, [`check`](Self::check) fails, [`lost_within`](Self::lost_within) returns, and
/// `on_lost` is called. A loss is final. [`dflock::Held`](crate::Held) lists the reasons.
///
/// Dropping it releases the slot without waiting for a reply, on any thread. With
/// [`min_hold`](crate::SemaphoreBuilder::min_hold) the slot stays taken until that is over, also
/// when the client is dropped, but not longer than the process lives.
pub struct Held {
    // Dropped before the thread that drives it.
    held: crate::Held,
    background: Arc<Background>,
}

impl sealed::State for Held {
    type Async = crate::Held;

    fn new(held: crate::Held, background: Arc<Background>) -> Self {
        Self { held, background }
    }

    fn into_parts(self) -> (crate::Held, Arc<Background>) {
        (self.held, self.background)
    }

    fn as_async(&self) -> &crate::Held {
        &self.held
    }
}

impl Held {
    /// Returns the key of the slot.
    #[must_use]
    pub fn key(&self) -> &str {
        self.held.key()
    }

    /// Returns the limit of the key, as [`dflock::Held::limit`](crate::Held::limit) does.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.held.limit()
    }

    /// Returns the token that proves the hold. A program that has it can renew or release the slot,
    /// so keep it out of logs.
    #[must_use]
    pub fn token(&self) -> &Token {
        self.held.token()
    }

    /// Returns the number of permits: 1, or that of
    /// [`acquire_many`](crate::blocking::Semaphore::acquire_many).
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.held.permits()
    }

    /// Returns the tokens of all permits. The first is [`token`](Self::token).
    ///
    /// On dflockd there is one for each permit. On etcd all permits are one entry with one token.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.held.tokens()
    }

    /// Returns the fence, as [`dflock::Held::fence`](crate::Held::fence) does: a number that
    /// increases with every grant of the server.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        self.held.fence()
    }

    /// Returns the lease that the server granted last. Once the slot is lost, it is the lease of
    /// the first grant.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.held.lease()
    }

    /// Returns the time for which the slot is certainly held without a renewal. Zero once the slot
    /// is lost. No IO.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Checks whether the slot is still held, to the knowledge of the client.
    ///
    /// It does no IO. The result is correct immediately after the machine was suspended.
    ///
    /// # Errors
    ///
    /// [`Lost`] as soon as the slot may be gone, and on every later call.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let held = client.semaphore("pool", 1)?.acquire()?;
    /// for row in 0..3 {
    ///     held.check()?;
    ///     println!("write row {row}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check(&self) -> Result<(), Lost> {
        self.held.check()
    }

    /// Returns whether [`check`](Self::check) fails.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// Waits until the slot is lost, for at most `wait`. Returns `None` if it is still held then.
    ///
    /// Any number of threads may wait at once.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// A second thread stops a program that is started for the work:
    ///
    /// ```
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let held = client.semaphore("pool", 1)?.acquire()?;
    /// let mut command = std::process::Command::new("true").spawn()?;
    /// let status = loop {
    ///     if let Some(status) = command.try_wait()? {
    ///         break status;
    ///     }
    ///     if let Some(lost) = held.lost_within(Duration::from_millis(10)) {
    ///         command.kill()?;
    ///         command.wait()?;
    ///         return Err(lost.into());
    ///     }
    /// };
    /// # assert!(status.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn lost_within(&self, wait: Duration) -> Option<Lost> {
        let lost = async { timeout(wait, self.held.lost()).await };
        self.background.block_on(lost).ok()
    }

    /// Renews the lease now, and waits for the reply of the server. This is optional: leases are
    /// renewed in the background.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] if the slot is lost.
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
    /// # let held = client.semaphore("pool", 1)?.acquire()?;
    /// held.renew()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn renew(&self) -> Result<(), Error> {
        self.background.block_on(self.held.renew())
    }

    /// Returns the span of the hold.
    pub(super) fn span(&self) -> Span {
        self.held.span()
    }

    pub(super) fn background(&self) -> &Background {
        &self.background
    }
}

impl<K: Kind> Semaphore<Held, K> {
    /// Releases the slot, and waits until the server has confirmed it. The connection is then
    /// reused. Before [`min_hold`](crate::SemaphoreBuilder::min_hold) is over it returns at once,
    /// and the slot is released in the background.
    ///
    /// # Errors
    ///
    /// See [`release`](crate::Semaphore::release) of the async API.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime. The slot is then given up like a dropped one.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let pool = client.semaphore("pool", 1)?;
    /// let held = pool.acquire()?;
    /// let pool = held.release()?;
    /// let held_again = pool.acquire()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn release(self) -> Result<Semaphore<Idle, K>, Error> {
        self.step(crate::Semaphore::release)
    }

    /// Gives up the slot without waiting for a reply, also before
    /// [`min_hold`](crate::SemaphoreBuilder::min_hold) is over.
    ///
    /// [`close`](crate::Semaphore::close) of the async API has the details.
    pub fn close(self) -> Semaphore<Idle, K> {
        let (held, background) = self.into_async();
        Semaphore::new(held.close(), background)
    }
}

impl<K: Kind> Deref for Semaphore<Held, K> {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.state
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.fmt(f)
    }
}
