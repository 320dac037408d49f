//! Nothing is held, and nothing is waited for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::{Enqueued, Held, Queued, Semaphore};
use crate::error::Error;
use crate::slot::{Enqueue, SemaphoreInner};
use crate::telemetry::{self, HoldSpan};

/// The state of a semaphore that holds nothing.
#[derive(Clone, Debug)]
pub struct Idle(());

impl Semaphore<Idle> {
    pub(crate) fn new(slot: impl Into<Arc<SemaphoreInner>>) -> Self {
        Self {
            slot: slot.into(),
            state: Idle(()),
        }
    }

    /// Waits in line for a slot, for at most `acquire_timeout` (10 s unless the builder says otherwise).
    ///
    /// Bind the value to a name: the statement `pool.acquire().await?;` drops it, which releases the slot
    /// at once. The compiler warns of `pool.acquire().await;`, but not behind a `?`: there it sees only the
    /// type, and a warning for `Semaphore` would be one for `held.release().await?;`, too.
    ///
    /// # The wait
    ///
    /// The wait is the whole call: to connect, with TLS and the secret, a second try where a kept
    /// connection had ended, and the queue. `connect_timeout` and `socket_timeout` apply within it. The
    /// call ends when the wait is over, plus at most `socket_timeout` or 1 s, whichever is less: that is
    /// for the server's own answer that the wait is over, and to confirm a grant that came late.
    ///
    /// A waiter can lose its place in the queue: a proxy closes a connection that was silent, or the
    /// server restarts. The client then joins the queue again, at its end, for as long as the wait lasts.
    /// It pauses before each attempt, for a random time of at most 100 ms, which doubles up to 1 s. A
    /// warning (`tracing`) says that the place was lost. A request that had no reply for 100 ms counts as
    /// in the queue. A connection that ends sooner is an error at once, as is a first connection that
    /// cannot be made.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] when no slot came free in time. [`Error::LimitMismatch`], [`Error::TooManyKeys`],
    /// [`Error::TooManyWaiters`], [`Error::Draining`] and others when the server refuses. [`Error::Connect`],
    /// [`Error::ConnectTimeout`], [`Error::Disconnected`] and [`Error::Unresponsive`] when it cannot be reached.
    /// [`Error::LeaseExpired`] when the slot was granted so late that it was gone again.
    ///
    /// Only [`Error::Timeout`] says that the slots are taken, and only for it
    /// [`is_timeout`](Error::is_timeout) is true. A wait that is over while the client connects is
    /// [`Error::ConnectTimeout`], and one that is over while the server owes an answer is
    /// [`Error::Unresponsive`]. A wait that is over while a lost place is sought again is the error that
    /// kept the client from it. All of these are [retryable](Error::is_retryable). [`Error::Config`]
    /// outside of a tokio runtime, and on one without timers or IO.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line, and the slot if it was granted meanwhile. (On a server that runs with
    /// auto-release off a slot that is granted at that very moment may stay taken for one lease.)
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.clone().acquire().await?;
    /// println!("{} until {:?} from now at least", held.key(), held.remaining());
    /// held.release().await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn acquire(self) -> Result<Semaphore<Held>, Error> {
        let wait = self.slot.acquire_timeout();
        self.acquire_within(wait).await
    }

    /// The same, waiting for at most `wait`; any duration up to 9,223,372,036 s.
    ///
    /// The server counts whole seconds: it is told the next one up, and the wait is cut off here. A wait of whole seconds leaves
    /// the server time to answer, so that the connection can be used again; zero does, too. A wait that is shorter than the way to
    /// the server and back gets no slot, not even a free one: for that there is [`try_acquire`](Self::try_acquire). What the wait
    /// is made of is told at [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); and [`Error::Config`] for a longer wait.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let first = pool.clone().acquire().await?;
    /// let second = pool.acquire_within(std::time::Duration::from_millis(20)).await;
    /// assert!(second.unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn acquire_within(self, wait: Duration) -> Result<Semaphore<Held>, Error> {
        self.acquire_with(wait, HoldSpan::FollowsFrom).await
    }

    /// Acquires a slot for a body that the same future runs, and that ends before the future does.
    pub(crate) async fn acquire_for_body(self) -> Result<Semaphore<Held>, Error> {
        let wait = self.slot.acquire_timeout();
        self.acquire_with(wait, HoldSpan::Child).await
    }

    async fn acquire_with(self, wait: Duration, span: HoldSpan) -> Result<Semaphore<Held>, Error> {
        let held = self.slot.acquire(wait, span).await?;
        Ok(Semaphore {
            slot: self.slot,
            state: Held::new(held),
        })
    }

    /// Takes a slot only if one is free now and nobody stands in line for it.
    ///
    /// There is nothing to wait for but the server: the call ends within
    /// [`connect_timeout`](crate::ClientBuilder::connect_timeout) and
    /// [`socket_timeout`](crate::ClientBuilder::socket_timeout) together, 10 s by default.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] when none is free; else as [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.clone().try_acquire().await?;
    /// assert!(pool.try_acquire().await.unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn try_acquire(self) -> Result<Semaphore<Held>, Error> {
        self.acquire_within(Duration::ZERO).await
    }

    /// Joins the line and comes back at once: with a slot if one was free, else with a place in line.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), without [`Error::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line or the slot.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::Enqueued;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let held = match pool.enqueue().await? {
    ///     Enqueued::Acquired(held) => held,
    ///     Enqueued::Queued(queued) => {
    ///         println!("in line for {}", queued.key());
    ///         queued.wait().await?
    ///     }
    /// };
    /// # Ok(()) }
    /// ```
    pub async fn enqueue(self) -> Result<Enqueued, Error> {
        Ok(match self.slot.enqueue().await? {
            Enqueue::Held(hold, grant) => Enqueued::Acquired(Semaphore {
                slot: self.slot,
                state: Held::new((hold, grant)),
            }),
            Enqueue::Queued(hold) => Enqueued::Queued(Semaphore {
                slot: self.slot,
                state: Queued::new(hold),
            }),
        })
    }

    /// Acquires a slot, runs `body` with it, and gives it back.
    ///
    /// The body is stopped when the slot is lost. On panic and on cancellation the slot is given back, too. A release that fails
    /// after the body has ended is logged, not returned: the server frees the slot in any case. But when the server says that there
    /// was nothing to release, the slot had been lost.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); and [`Error::Lost`] when the slot was lost before the body ended. Whatever `body` gives back
    /// is given back in `Ok`, its own errors, too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body and gives up the slot.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let n = pool.with_slot(async |held| held.key().len()).await?;
    /// assert_eq!(n, 4);
    /// # Ok(()) }
    /// ```
    pub fn with_slot<F, T>(&self, body: F) -> impl Future<Output = Result<T, Error>> + use<F, T>
    where
        F: AsyncFnOnce(&Held) -> T,
    {
        let pool = self.clone();
        // boxed until it is called: the future keeps room for what it captures, besides the body
        // that is made of it
        let body = Box::new(body);
        async move {
            let held = pool.acquire_for_body().await?;
            let value = held.run((*body)(&held).instrument(held.span())).await?;
            match held.release().await {
                Err(lost @ Error::Lost(_)) => return Err(lost),
                Err(error) => telemetry::release_failed(&error),
                Ok(_) => {}
            }
            Ok(value)
        }
    }
}

impl Clone for Semaphore<Idle> {
    fn clone(&self) -> Self {
        Self {
            slot: self.slot.clone(),
            state: self.state.clone(),
        }
    }
}
