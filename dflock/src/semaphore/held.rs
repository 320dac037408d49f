//! The held state: a slot, and the methods that check, renew and release it.

use std::fmt;
use std::future::Future;
use std::iter;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tracing::Span;

use super::{Idle, Kind, Semaphore};
use crate::driver;
use crate::error::{Error, Lost};
use crate::lease::LeaseHandle;
use crate::wire::{Grant, Token};

/// A slot that is held for as long as its lease is renewed.
///
/// The lease is renewed in the background. The slot is lost when the server refuses a renewal, when
/// the connection ends, when the lease expires because no renewal was answered, or at the end of
/// [`max_hold`](crate::SemaphoreBuilder::max_hold). Then [`check`](Self::check) fails,
/// [`lost`](Self::lost) completes, [`run`](Self::run) drops its future, and `on_lost` is called. A
/// loss is final.
///
/// Dropping it releases the slot without waiting for a reply. It needs no runtime. With
/// [`min_hold`](crate::SemaphoreBuilder::min_hold) the slot stays taken until that is over.
pub struct Held {
    hold: LeaseHandle,
    /// The grant that the server sent, without later renewals.
    grant: Grant,
}

impl Held {
    pub(super) fn new((hold, grant): (LeaseHandle, Grant)) -> Self {
        Self { hold, grant }
    }

    /// Returns the key of the slot.
    #[must_use]
    pub fn key(&self) -> &str {
        self.hold.config().slot.key.as_str()
    }

    /// Returns the limit of the key, with which the slot was granted. It is 1 for a lock.
    ///
    /// With [`LimitMismatch::Adopt`](crate::LimitMismatch::Adopt) it may differ from the limit of
    /// the semaphore.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.hold.config().slot.primitive.limit().get()
    }

    /// Returns the token that proves the hold. A program that has it can renew or release the slot,
    /// so keep it out of logs.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.grant.token
    }

    /// Returns the number of permits: 1, or that of
    /// [`acquire_many`](crate::Semaphore::acquire_many).
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.hold.permits()
    }

    /// Returns the tokens of all permits. The first is [`token`](Self::token).
    ///
    /// On dflockd there is one for each permit. On etcd all permits are one entry with one token.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        iter::once(&self.grant.token).chain(self.hold.further_tokens())
    }

    /// Returns the fence, a number that increases with every grant of the server.
    ///
    /// A store that remembers the highest fence it has seen can refuse writes of earlier holders.
    ///
    /// A fence that the server sends beside the token is returned regardless of
    /// [`fencing`](crate::ClientBuilder::fencing), and takes precedence over the token's. Without
    /// one, the fence is the first half of the token with `fencing(true)`, and otherwise `None`. It
    /// does not change while the slot is held. With a limit above 1 it orders grants, not holders,
    /// because several slots are held at once. With several permits it is that of the first one.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        let token_fence = || self.hold.config().fencing.then(|| self.grant.token.fence());
        self.grant.fence.or_else(token_fence)
    }

    /// Returns the lease that the server granted last. Once the slot is lost, it is the lease of
    /// the first grant.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.hold.grant().unwrap_or(self.grant).lease.as_duration()
    }

    /// Returns the time for which the slot is certainly held without a renewal. Zero once the slot
    /// is lost. No IO.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.hold.remaining()
    }

    /// Checks whether the slot is still held, to the knowledge of the client.
    ///
    /// It does no IO. The result is correct immediately after the machine was suspended, and on a
    /// busy executor.
    ///
    /// # Errors
    ///
    /// [`Lost`] as soon as the slot may be gone, and on every later call.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let held = server.client().semaphore("pool", 1)?.acquire().await?;
    /// for row in 0..3 {
    ///     held.check()?;
    ///     println!("write row {row}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn check(&self) -> Result<(), Lost> {
        self.hold.check()
    }

    /// Returns whether [`check`](Self::check) fails.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.check().is_err()
    }

    /// Completes when the slot is lost; otherwise stays pending.
    ///
    /// It can be polled anywhere. Outside of a tokio runtime, and on a runtime without timers, only
    /// the runtime that acquired the slot wakes it. If that runtime is busy, the loss is reported
    /// late. Tokio panics on a runtime without timers; the panic is caught, but the panic hook
    /// prints it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Any number of tasks may wait at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let held = server.client().semaphore("pool", 1)?.acquire().await?;
    /// # async fn work() {}
    /// tokio::select! {
    ///     lost = held.lost() => return Err(lost.into()),
    ///     () = work() => {}
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn lost(&self) -> Lost {
        self.hold.lost().await
    }

    /// Runs `future`, and drops it when the slot is lost. It runs in the span of its caller.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] if the slot was lost before `future` completed. Its output is discarded even
    /// if both happened at the same moment. [`Error::Config`] outside of a tokio runtime, or on a
    /// runtime without timers; `future` is not polled then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future drops `future`. The slot stays held.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let held = server.client().semaphore("pool", 1)?.acquire().await?;
    /// let sum = held.run(async { 1 + 1 }).await?;
    /// assert_eq!(sum, 2);
    /// # Ok(()) }
    /// ```
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, Error>> {
        // Check again: `future` may have blocked the executor for longer than the lease.
        self.until_lost(future, self.output_check())
    }

    /// Runs `future` until the slot is lost. Returns its output unless `check` fails.
    pub(crate) fn until_lost<F: Future>(
        &self,
        future: F,
        check: impl FnMut(&F::Output) -> Result<(), Error>,
    ) -> impl Future<Output = Result<F::Output, Error>> {
        until_lost(self.loss(), future, check)
    }

    /// Completes with the error of a slot that is lost, or of a runtime without timers.
    fn loss(&self) -> impl Future<Output = Error> {
        loss(|| self.lost())
    }

    /// Returns the check of an output that is discarded once the slot is lost.
    fn output_check<T>(&self) -> impl FnMut(&T) -> Result<(), Error> {
        |_| Ok(self.check()?)
    }

    /// Returns the span of the hold.
    pub(crate) fn span(&self) -> Span {
        self.hold.span()
    }

    /// Renews the lease now, and waits for the reply of the server. This is optional: leases are
    /// renewed in the background.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] if the slot is lost. [`Error::Config`] outside of a tokio runtime, or on a
    /// runtime without timers.
    ///
    /// # Cancel safety
    ///
    /// After the future is dropped, the renewal continues in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let held = server.client().semaphore("pool", 1)?.acquire().await?;
    /// held.renew().await?;
    /// # Ok(()) }
    /// ```
    pub async fn renew(&self) -> Result<(), Error> {
        driver::require_timers()?;
        self.hold.renew().await
    }
}

impl<K: Kind> Semaphore<Held, K> {
    /// Releases the slot, and waits until the server has confirmed it. The connection is then
    /// reused. Before [`min_hold`](crate::SemaphoreBuilder::min_hold) is over it returns at once,
    /// and the slot is released in the background.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] if the slot was already lost. [`Error::Unresponsive`] and
    /// [`Error::Disconnected`] if the server did not confirm the release. [`Error::Draining`],
    /// [`Error::NotLeader`], [`Error::Auth`] and [`Error::Refused`] if it refused the release. In
    /// these cases the slot is given up without a reply, and the server frees the slot when it
    /// notices, at the latest after the lease. [`Error::Config`] outside of a tokio runtime, or on
    /// a runtime without timers; the slot is then given up like a dropped one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the slot without waiting for the reply.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.acquire().await?;
    /// let pool = held.release().await?;
    /// let held_again = pool.acquire().await?;
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<Semaphore<Idle, K>, Error> {
        let Self {
            slot,
            state: Held { hold, grant },
            ..
        } = self;
        slot.release(hold, &grant.token).await?;
        Ok(Semaphore::new(slot))
    }

    /// Gives up the slot without waiting for a reply, also before
    /// [`min_hold`](crate::SemaphoreBuilder::min_hold) is over.
    ///
    /// On dflockd this closes the connection without a release request. The server frees the slot
    /// when it notices: at once, or after the lease if it runs with auto-release off. On etcd the
    /// session thread deletes the entry.
    pub fn close(self) -> Semaphore<Idle, K> {
        self.state.hold.close();
        Semaphore::new(self.slot)
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
        f.debug_struct("Held")
            .field("key", &self.key())
            .field("token", &self.grant.token)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// Polls `body` until `lost` is ready. It drops `body` before it returns, so that no guard of
    /// the body outlives the slot while the caller keeps this future.
    ///
    /// Written by hand and not as an `async fn`, because that would store `body` twice: once as its
    /// argument and once where it is polled. The size would double with each call inside of a call.
    struct UntilLost<L, F, C> {
        #[pin]
        lost: L,
        #[pin]
        body: Option<F>,
        // Called once with the output of `body`, which is returned unless there is an error.
        check: C,
    }
}

/// Runs `body` until `lost` is ready. Returns the output of `body` unless `check` fails.
///
/// The types of `lost` and `check` must not name `F`, as a closure in a function that is generic
/// over `F` does. Otherwise each call inside of a call multiplies the length of the symbols of the
/// future by six: with eight calls they had 600 MB.
pub(super) fn until_lost<L, F>(
    lost: L,
    body: F,
    check: impl FnMut(&F::Output) -> Result<(), Error>,
) -> impl Future<Output = Result<F::Output, Error>>
where
    L: Future<Output = Error>,
    F: Future,
{
    UntilLost {
        lost,
        body: Some(body),
        check,
    }
}

/// Completes with the error of the loss that `lost` waits for, or of a runtime without timers.
pub(super) async fn loss<L>(lost: impl FnOnce() -> L) -> Error
where
    L: Future<Output = Lost>,
{
    // `lost` returns the future: an async function that is given it reserves space for it twice.
    match driver::require_timers() {
        Ok(_) => lost().await.into(),
        Err(error) => error.into(),
    }
}

impl<L, F, C> Future for UntilLost<L, F, C>
where
    L: Future<Output = Error>,
    F: Future,
    C: FnMut(&F::Output) -> Result<(), Error>,
{
    type Output = Result<F::Output, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // First, so that a body whose slot is lost is not polled again.
        if let Poll::Ready(lost) = this.lost.poll(cx) {
            this.body.set(None);
            return Poll::Ready(Err(lost));
        }
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            panic!("a future that runs a body was polled after it was ready");
        };
        let output = ready!(body.poll(cx));
        this.body.set(None);
        Poll::Ready((this.check)(&output).map(|()| output))
    }
}
