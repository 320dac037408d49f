//! The idle state, and the methods that acquire a slot.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::background::Background;
use super::semaphore::sealed;
use super::{Enqueued, Held, Lock, Semaphore};
use crate::error::Error;
use crate::semaphore::{Kind, MAX_PAUSE, release_after_body};

/// State of a semaphore that neither holds a slot nor waits for one.
#[derive(Clone, Debug)]
pub struct Idle {
    idle: crate::Idle,
    background: Arc<Background>,
}

impl sealed::State for Idle {
    type Async = crate::Idle;

    fn new(idle: crate::Idle, background: Arc<Background>) -> Self {
        Self { idle, background }
    }

    fn into_parts(self) -> (crate::Idle, Arc<Background>) {
        (self.idle, self.background)
    }

    fn as_async(&self) -> &crate::Idle {
        &self.idle
    }
}

impl<K: Kind> Semaphore<Idle, K> {
    /// Waits in the queue for a slot, for at most `acquire_timeout` (10 s by default).
    ///
    /// [`dflock::Semaphore::acquire`](crate::Semaphore::acquire) describes the wait. Bind the
    /// returned value to a name: the statement `pool.acquire()?;` drops it, which releases the slot
    /// at once.
    ///
    /// # Errors
    ///
    /// See [`dflock::Semaphore::acquire`](crate::Semaphore::acquire).
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
    /// let held = client.semaphore("pool", 1)?.acquire()?;
    /// println!("{} until {:?} from now at least", held.key(), held.remaining());
    /// held.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    #[track_caller]
    pub fn acquire(self) -> Result<Semaphore<Held, K>, Error> {
        self.step(crate::Semaphore::acquire)
    }

    /// Like [`acquire`](Self::acquire), for at most `wait`. Any duration up to 9,223,372,036 s is
    /// valid.
    ///
    /// [`dflock::Semaphore::acquire_within`](crate::Semaphore::acquire_within) has the details.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Self::acquire), and [`Error::Config`] for a longer wait.
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
    /// # let pool = client.semaphore("pool", 1)?;
    /// let first = pool.clone().acquire()?;
    /// let second = pool.acquire_within(std::time::Duration::from_millis(20));
    /// assert!(second.unwrap_err().is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    #[track_caller]
    pub fn acquire_within(self, wait: Duration) -> Result<Semaphore<Held, K>, Error> {
        self.step(|idle| idle.acquire_within(wait))
    }

    /// Acquires a slot only if one is free and the queue is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if no slot is free; otherwise the errors of [`acquire`](Self::acquire).
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
    /// # let pool = client.semaphore("pool", 1)?;
    /// let held = pool.clone().try_acquire()?;
    /// assert!(pool.try_acquire().unwrap_err().is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    #[track_caller]
    pub fn try_acquire(self) -> Result<Semaphore<Held, K>, Error> {
        self.step(crate::Semaphore::try_acquire)
    }

    /// Acquires a free slot or joins the queue, and returns without waiting for a slot.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Self::acquire), except [`Error::Timeout`].
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
    /// let held = match pool.enqueue()? {
    ///     Enqueued::Acquired(held) => held,
    ///     Enqueued::Queued(queued) => {
    ///         println!("queued for {}", queued.key());
    ///         queued.wait()?
    ///     }
    /// };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn enqueue(self) -> Result<Enqueued<K>, Error> {
        let (semaphore, background) = self.into_async();
        Ok(match background.block_on(semaphore.enqueue())? {
            crate::Enqueued::Acquired(held) => Enqueued::Acquired(Semaphore::new(held, background)),
            crate::Enqueued::Queued(queued) => Enqueued::Queued(Semaphore::new(queued, background)),
        })
    }

    /// Acquires a slot, runs `body` with it on this thread, and releases the slot.
    ///
    /// A loss does not stop the body. Call [`check`](Held::check) in it before each step that needs
    /// the slot. The slot is also released on panic. A failed release is handled as in
    /// [`dflock::Semaphore::with_slot`](crate::Semaphore::with_slot).
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Self::acquire), and [`Error::Lost`] if the slot was lost before
    /// the body ended; its output is then discarded. Otherwise the output is returned in `Ok`, even
    /// if it is an error.
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
    /// # let pool = client.semaphore("pool", 1)?;
    /// let rows = pool.with_slot(|held| {
    ///     for row in 0..3 {
    ///         held.check()?;
    ///         println!("write row {row}");
    ///     }
    ///     Ok::<_, dflock::Lost>(3)
    /// })??;
    /// assert_eq!(rows, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn with_slot<F, T>(&self, body: F) -> Result<T, Error>
    where
        F: FnOnce(&Held) -> T,
    {
        let held = self
            .clone()
            .step(|semaphore| semaphore.acquire_for_body(1))?;
        held.run_body(body)
    }

    /// Like [`with_slot`](Self::with_slot), but does not wait for a slot. Returns `None` without
    /// calling `body` if no slot is free.
    ///
    /// # Errors
    ///
    /// The errors of [`with_slot`](Self::with_slot), except [`Error::Timeout`].
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
    /// let nightly = client.lock("nightly")?;
    /// assert_eq!(nightly.try_with_slot(|_held| 42)?, Some(42));
    ///
    /// let elsewhere = nightly.clone().acquire()?;
    /// assert_eq!(nightly.try_with_slot(|_held| 42)?, None); // the other holder does the work
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn try_with_slot<F, T>(&self, body: F) -> Result<Option<T>, Error>
    where
        F: FnOnce(&Held) -> T,
    {
        let (semaphore, background) = self.clone().into_async();
        match background.block_on(semaphore.try_acquire_for_body(1))? {
            Some(held) => Semaphore::new(held, background).run_body(body).map(Some),
            None => Ok(None),
        }
    }
}

impl<K: Kind> Semaphore<Held, K> {
    /// Runs `body` in the span of the hold, and releases the slot.
    #[track_caller]
    fn run_body<T>(self, body: impl FnOnce(&Held) -> T) -> Result<T, Error> {
        let value = self.span().in_scope(|| body(&self));
        let (held, background) = self.into_async();
        background.block_on(release_after_body(held))?;
        Ok(value)
    }
}

impl Lock<Idle> {
    /// Campaigns for the lock, and runs `body` on this thread while this program is the leader.
    ///
    /// The campaigns are those of [`dflock::Lock::lead`](crate::Semaphore::lead). `body` is called
    /// once for each term. A loss does not stop it: it must call [`check`](Held::check), and return
    /// when that fails. Then a new campaign begins. No two bodies run at the same time if each of
    /// them returns before another program leads.
    ///
    /// When `body` returns, the lock is released, and the call ends with the value. A value is
    /// discarded, and a new campaign begins, if the lock was lost before the release.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Lock::acquire) that are not retryable. [`Error::Closed`] after
    /// [`Client::close`](super::Client::close) on another thread.
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
    /// let scheduler = client.lock("scheduler")?;
    /// let jobs = scheduler.lead(|leader| {
    ///     (0..3)
    ///         .take_while(|_| leader.check().is_ok())
    ///         .map(|job| println!("leader with fence {:?} starts job {job}", leader.fence()))
    ///         .count()
    /// })?;
    /// assert_eq!(jobs, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn lead<F, T>(&self, mut body: F) -> Result<T, Error>
    where
        F: FnMut(&Held) -> T,
    {
        let mut backoff = self.slot.backoff(MAX_PAUSE);
        loop {
            let mut has_led = false;
            let term = self.with_slot(|leader| {
                has_led = true;
                body(leader)
            });
            match term {
                Err(error) if error.is_retryable() || error.is_lost() => {}
                term => return term,
            }
            if has_led {
                backoff.reset();
            }
            thread::sleep(backoff.pause());
        }
    }
}

impl<K: Kind> Clone for Semaphore<Idle, K> {
    fn clone(&self) -> Self {
        let semaphore = crate::Semaphore::from_parts(self.slot.clone(), self.state.idle.clone());
        Self::new(semaphore, self.state.background.clone())
    }
}
