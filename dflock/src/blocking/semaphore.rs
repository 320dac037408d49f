//! The blocking semaphore, its states, and the end of the builder that makes it.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use super::background::Background;
use super::client::Client;
use super::{Held, Idle, Queued};
use crate::error::{ConfigError, Error};
use crate::semaphore::sealed::State as _;
use crate::semaphore::{Counting, Exclusive, Kind, SemaphoreBuilder, fmt_semaphore};
use crate::slot::SemaphoreInner;

/// A [semaphore](crate::Semaphore) for programs without async.
///
/// The states and the kinds are the same, and each step consumes the semaphore and returns it in
/// the next state. A `Semaphore<Idle>` is cheap to clone.
///
/// # Examples
///
/// ```
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let server = runtime.block_on(dflock::server::Server::start())?;
/// # let client = server.client_builder().build_blocking()?;
/// let pool = client.semaphore("worker-pool", 5)?;
///
/// let held = pool.acquire()?;
/// assert!(held.check().is_ok());
/// held.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Misuse such as a second release does not compile:
///
/// ```compile_fail
/// # fn f(pool: dflock::blocking::Semaphore) -> Result<(), dflock::Error> {
/// let held = pool.acquire()?;
/// held.release()?;
/// held.release()?; // use of moved value
/// # Ok(()) }
/// ```
pub struct Semaphore<S: State = Idle, K: Kind = Counting> {
    pub(super) slot: Arc<SemaphoreInner>,
    pub(super) state: S,
    kind: PhantomData<K>,
}

/// A [lock](crate::Lock) for programs without async.
///
/// # Examples
///
/// ```
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let server = runtime.block_on(dflock::server::Server::start())?;
/// # let client = server.client_builder().build_blocking()?;
/// let nightly = client.lock("nightly")?;
///
/// let held = nightly.acquire()?;
/// held.check()?;
/// held.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Lock<S = Idle> = Semaphore<S, Exclusive>;

/// State of a blocking [`Semaphore`]: [`Idle`], [`Queued`] or [`Held`].
pub trait State: sealed::State {}

impl State for Idle {}
impl State for Queued {}
impl State for Held {}

pub(super) mod sealed {
    use std::fmt::Debug;
    use std::sync::Arc;

    use super::Background;

    pub trait State: Debug {
        /// The same state of the async API.
        type Async: crate::State;

        fn new(state: Self::Async, background: Arc<Background>) -> Self;

        fn into_parts(self) -> (Self::Async, Arc<Background>);

        fn as_async(&self) -> &Self::Async;
    }
}

impl<K: Kind> SemaphoreBuilder<K, String, K::Limit> {
    /// Checks the options of a [`blocking::Semaphore`](Semaphore) or
    /// [`blocking::Lock`](Lock). Nothing is sent.
    ///
    /// `client` takes the place of the option [`client`](Self::client). The callback of
    /// [`on_lost`](Self::on_lost) runs on its background thread.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the invalid option and the valid values.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use dflock::{Lock, Semaphore};
    ///
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// let pool = Semaphore::builder()
    ///     .key("worker-pool")
    ///     .limit(5)
    ///     .acquire_timeout(Duration::from_secs(60))
    ///     .on_lost(|lost| eprintln!("{lost}"))
    ///     .build_blocking(&client)?;
    /// let nightly = Lock::builder().key("nightly").build_blocking(&client)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build_blocking(self, client: &Client) -> Result<Semaphore<Idle, K>, ConfigError> {
        let semaphore = self.client(client.client.clone()).build()?;
        Ok(Semaphore::new(semaphore, client.background.clone()))
    }
}

impl<S: State, K: Kind> Semaphore<S, K> {
    pub(super) fn new(
        semaphore: crate::Semaphore<S::Async, K>,
        background: Arc<Background>,
    ) -> Self {
        let (slot, state) = semaphore.into_parts();
        Self {
            slot,
            state: S::new(state, background),
            kind: PhantomData,
        }
    }

    /// Returns the semaphore of the async API, and the thread that drives it.
    pub(super) fn into_async(self) -> (crate::Semaphore<S::Async, K>, Arc<Background>) {
        let (state, background) = self.state.into_parts();
        (crate::Semaphore::from_parts(self.slot, state), background)
    }

    /// Waits for `step`, which returns the semaphore in its next state.
    #[track_caller]
    pub(super) fn step<N, F>(
        self,
        step: impl FnOnce(crate::Semaphore<S::Async, K>) -> F,
    ) -> Result<Semaphore<N, K>, Error>
    where
        N: State,
        F: Future<Output = Result<crate::Semaphore<N::Async, K>, Error>>,
    {
        let (semaphore, background) = self.into_async();
        let semaphore = background.block_on(step(semaphore))?;
        Ok(Semaphore::new(semaphore, background))
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.slot.key()
    }

    /// Returns the limit: the number of slots of the key, which is 1 for a lock.
    ///
    /// [`dflock::Semaphore::limit`](crate::Semaphore::limit) has the details.
    #[must_use]
    pub fn limit(&self) -> u32 {
        let own = || self.slot.primitive().limit().get();
        self.state.as_async().accepted_limit().unwrap_or_else(own)
    }
}

impl<S: State, K: Kind> fmt::Debug for Semaphore<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_semaphore(f, &self.slot, self.limit(), self.state.as_async())
    }
}
