//! The idle state, and the methods that acquire a slot.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::{Enqueued, Held, Kind, Queued, Semaphore};
use crate::error::Error;
use crate::slot::{Enqueue, SemaphoreInner};
use crate::telemetry::{self, HoldSpan};

/// State of a semaphore that neither holds a slot nor waits for one.
#[derive(Clone, Debug)]
pub struct Idle(());

impl<K: Kind> Semaphore<Idle, K> {
    pub(super) fn new(slot: Arc<SemaphoreInner>) -> Self {
        Self {
            slot,
            state: Idle(()),
            kind: PhantomData,
        }
    }

    /// Waits in the queue for a slot, for at most `acquire_timeout` (10 s by default).
    ///
    /// Bind the returned value to a name: the statement `pool.acquire().await?;` drops it, which
    /// releases the slot at once. The compiler warns about `pool.acquire().await;`, but not with a
    /// `?`. There it sees only the type, and a warning for `Semaphore` would also warn about
    /// `held.release().await?;`.
    ///
    /// # The wait
    ///
    /// The timeout covers the whole call: the connection with TLS and the auth token, and the
    /// queue. It also covers a second attempt if a reused connection had ended. `connect_timeout`
    /// and `socket_timeout` apply within it. The call may exceed the timeout by at most
    /// `socket_timeout` or 1 s, whichever is less. In that time the server reports its own timeout,
    /// and a late grant is confirmed.
    ///
    /// A waiter can lose its place in the queue: a proxy closes a silent connection, or the server
    /// restarts. The client then joins the queue again at its end, until the timeout. Before each
    /// attempt it pauses for a random time of at most 100 ms. This bound doubles up to 1 s. A
    /// `tracing` warning reports the lost place. A request without a reply for 100 ms counts as in
    /// the queue. The call fails at once if a connection ends sooner, or if the first connection
    /// cannot be made.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if no slot became free in time. [`Error::LimitMismatch`],
    /// [`Error::TooManyKeys`], [`Error::TooManyWaiters`], [`Error::Draining`] and others if the
    /// server refuses. [`Error::Connect`], [`Error::ConnectTimeout`], [`Error::Disconnected`] and
    /// [`Error::Unresponsive`] if the server cannot be reached. [`Error::LeaseExpired`] if the
    /// grant arrived after its lease had expired. [`Error::Config`] outside of a tokio runtime, or
    /// on a runtime without timers or IO.
    ///
    /// Only [`Error::Timeout`] means that all slots are taken, and only for it
    /// [`is_timeout`](Error::is_timeout) is true. A wait that ends while the client connects fails
    /// with [`Error::ConnectTimeout`]. One that ends while a reply is due fails with
    /// [`Error::Unresponsive`]. One that ends while the client tries to rejoin the queue fails with
    /// the error that prevented this. All of these are [retryable](Error::is_retryable).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue, and gives up a slot that was granted in the meantime.
    /// If the server runs with auto-release off, a slot that is granted at that moment may stay
    /// taken for one lease.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.clone().acquire().await?;
    /// println!("{} until {:?} from now at least", held.key(), held.remaining());
    /// held.release().await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn acquire(self) -> Result<Semaphore<Held, K>, Error> {
        let wait = self.slot.acquire_timeout();
        self.acquire_within(wait).await
    }

    /// Like [`acquire`](Self::acquire), for at most `wait`. Any duration up to 9,223,372,036 s is
    /// valid.
    ///
    /// The server counts whole seconds. The client sends `wait` rounded up, and enforces the exact
    /// time itself. With whole seconds, zero included, the server has time to reply, so that the
    /// connection can be reused.
    ///
    /// A wait shorter than the round trip to the server gets no slot, not even a free one. Use
    /// [`try_acquire`](Self::try_acquire) for that. [`acquire`](Self::acquire) lists the steps that
    /// the wait covers.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Self::acquire), and [`Error::Config`] for a longer wait.
    ///
    /// # Cancel safety
    ///
    /// See [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let first = pool.clone().acquire().await?;
    /// let second = pool.acquire_within(std::time::Duration::from_millis(20)).await;
    /// assert!(second.unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn acquire_within(self, wait: Duration) -> Result<Semaphore<Held, K>, Error> {
        self.acquire_with(wait, HoldSpan::FollowsFrom).await
    }

    /// Acquires a slot for a body that runs in the same future, and ends before that future does.
    pub(crate) async fn acquire_for_body(self) -> Result<Semaphore<Held, K>, Error> {
        let wait = self.slot.acquire_timeout();
        self.acquire_with(wait, HoldSpan::Child).await
    }

    /// Like [`acquire_for_body`](Self::acquire_for_body), but does not wait for a slot. Returns
    /// `None` if none is free.
    pub(crate) async fn try_acquire_for_body(self) -> Result<Option<Semaphore<Held, K>>, Error> {
        match self.acquire_with(Duration::ZERO, HoldSpan::Child).await {
            Ok(held) => Ok(Some(held)),
            Err(error) if error.is_timeout() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn acquire_with(
        self,
        wait: Duration,
        span: HoldSpan,
    ) -> Result<Semaphore<Held, K>, Error> {
        let held = self.slot.acquire(wait, span).await?;
        Ok(Semaphore {
            slot: self.slot,
            state: Held::new(held),
            kind: PhantomData,
        })
    }

    /// Acquires a slot only if one is free and the queue is empty.
    ///
    /// The call waits only for the replies of the server. It ends within
    /// [`connect_timeout`](crate::ClientBuilder::connect_timeout) and
    /// [`socket_timeout`](crate::ClientBuilder::socket_timeout) together, 10 s by default.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if no slot is free; otherwise the errors of [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// See [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.clone().try_acquire().await?;
    /// assert!(pool.try_acquire().await.unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn try_acquire(self) -> Result<Semaphore<Held, K>, Error> {
        self.acquire_within(Duration::ZERO).await
    }

    /// Acquires a free slot or joins the queue, and returns without waiting for a slot.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Self::acquire), except [`Error::Timeout`].
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
    /// let held = match pool.enqueue().await? {
    ///     Enqueued::Acquired(held) => held,
    ///     Enqueued::Queued(queued) => {
    ///         println!("queued for {}", queued.key());
    ///         queued.wait().await?
    ///     }
    /// };
    /// # Ok(()) }
    /// ```
    pub async fn enqueue(self) -> Result<Enqueued<K>, Error> {
        Ok(match self.slot.enqueue().await? {
            Enqueue::Held(hold, grant) => Enqueued::Acquired(Semaphore {
                slot: self.slot,
                state: Held::new((hold, grant)),
                kind: PhantomData,
            }),
            Enqueue::Queued(hold) => Enqueued::Queued(Semaphore {
                slot: self.slot,
                state: Queued::new(hold),
                kind: PhantomData,
            }),
        })
    }

    /// Acquires a slot, runs `body` with it, and releases the slot.
    ///
    /// The body is dropped when the slot is lost. The slot is also released on panic and on
    /// cancellation. If the release fails after the body has ended, the error is logged and not
    /// returned, because the server frees the slot in any case. The exception is a reply that there
    /// was nothing to release: then the slot had been lost.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Self::acquire), and [`Error::Lost`] if the slot was lost before
    /// the body ended. The output of `body` is returned in `Ok`, even if it is an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body and gives up the slot.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let n = pool.with_slot(async |held| held.key().len()).await?;
    /// assert_eq!(n, 4);
    /// # Ok(()) }
    /// ```
    pub fn with_slot<F, T>(&self, body: F) -> impl Future<Output = Result<T, Error>> + use<F, T, K>
    where
        F: AsyncFnOnce(&Held) -> T,
    {
        let pool = self.clone();
        // Boxed until the call: the future would otherwise reserve room for the closure's captures
        // in addition to the future that the closure returns.
        let body = Box::new(body);
        async move {
            let held = pool.acquire_for_body().await?;
            let value = held.run((*body)(&held).instrument(held.span())).await?;
            release_after_body(held).await?;
            Ok(value)
        }
    }

    /// Like [`with_slot`](Self::with_slot), but does not wait for a slot. Returns `None` without
    /// calling `body` if no slot is free.
    ///
    /// Use it for work that another holder is doing already, such as a periodic job. As with
    /// [`try_acquire`](Self::try_acquire), no slot is free while others wait in the queue.
    ///
    /// # Errors
    ///
    /// The errors of [`with_slot`](Self::with_slot), except [`Error::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body and gives up the slot.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let nightly = server.client().lock("nightly")?;
    /// let rows = nightly.try_with_slot(async |_held| 42).await?;
    /// assert_eq!(rows, Some(42));
    ///
    /// let elsewhere = nightly.clone().acquire().await?;
    /// let rows = nightly.try_with_slot(async |_held| 42).await?;
    /// assert_eq!(rows, None); // the other holder does the work
    /// # Ok(()) }
    /// ```
    pub fn try_with_slot<F, T>(
        &self,
        body: F,
    ) -> impl Future<Output = Result<Option<T>, Error>> + use<F, T, K>
    where
        F: AsyncFnOnce(&Held) -> T,
    {
        let pool = self.clone();
        // Boxed, as in `with_slot`.
        let body = Box::new(body);
        async move {
            let Some(held) = pool.try_acquire_for_body().await? else {
                return Ok(None);
            };
            let value = held.run((*body)(&held).instrument(held.span())).await?;
            release_after_body(held).await?;
            Ok(Some(value))
        }
    }
}

/// Releases the slot of a body that has ended. Only a loss is an error: the server frees the slot in
/// any other case.
// Separate from the call of the body, because a future around that future would make nested calls
// deeper.
async fn release_after_body<K: Kind>(held: Semaphore<Held, K>) -> Result<(), Error> {
    match held.release().await {
        Err(lost @ Error::Lost(_)) => return Err(lost),
        Err(error) => telemetry::warn_release_failure(&error),
        Ok(_) => {}
    }
    Ok(())
}

impl<K: Kind> Clone for Semaphore<Idle, K> {
    fn clone(&self) -> Self {
        Self {
            slot: self.slot.clone(),
            state: self.state.clone(),
            kind: PhantomData,
        }
    }
}
