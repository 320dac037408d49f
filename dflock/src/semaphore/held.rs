//! A slot.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

use tracing::Span;

use super::until_lost::UntilLost;
use super::{Idle, Semaphore};
use crate::driver;
use crate::error::{Error, Lost};
use crate::lease::LeaseHandle;
use crate::wire::{Grant, Token};

/// A slot that is held, for as long as its lease is kept.
///
/// The lease is renewed in the background. The slot is lost when the server refuses a renewal, when the connection ends, or when
/// the lease runs out because no renewal was answered; then [`check`](Self::check) fails, [`lost`](Self::lost) resolves,
/// [`run`](Self::run) stops its future, and `on_lost` is called. A loss is final.
///
/// Dropping it gives the slot back at once, without waiting and without a runtime.
pub struct Held {
    hold: LeaseHandle,
    /// As it was when the user got it.
    grant: Grant,
}

impl Held {
    pub(super) fn new((hold, grant): (LeaseHandle, Grant)) -> Self {
        Self { hold, grant }
    }

    /// The key of the slot.
    #[must_use]
    pub fn key(&self) -> &str {
        self.hold.config().slot.key.as_str()
    }

    /// What proves the hold. Whoever has it can renew or release the slot, so keep it out of logs.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.grant.token
    }

    /// A number that grows with every grant of the server: a store that remembers the highest it has seen can refuse writes of
    /// holders before it.
    ///
    /// A fence that the server names beside the token is returned whatever
    /// [`fencing`](crate::ClientBuilder::fencing) says, and counts instead of the token's. Without
    /// one it is the first half of the token with `fencing(true)`, and otherwise `None`. It stays
    /// the same for as long as the slot is held. With a limit above 1 it orders grants, not
    /// holders: several of them hold at once.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        let of_token = || self.hold.config().fencing.then(|| self.grant.token.fence());
        self.grant.fence.or_else(of_token)
    }

    /// The lease as the server gave it last; when the slot is lost, as it was granted.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.hold.grant().unwrap_or(self.grant).lease.as_duration()
    }

    /// How much longer the slot is held for certain if no renewal comes; zero when it is lost. No IO.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.hold.remaining()
    }

    /// Whether the slot is still held, as far as can be known here and now. No IO: right at once after the machine was suspended
    /// and on an executor that is busy.
    ///
    /// # Errors
    ///
    /// [`Lost`] from the moment on that the slot may be gone, and ever after.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// The opposite of [`check`](Self::check), as a `bool`.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.check().is_err()
    }

    /// Resolves when the slot is lost, and never else.
    ///
    /// It can be polled anywhere. Outside of a tokio runtime, and on one without timers, it is woken by
    /// the runtime that the slot was acquired on alone: a loss is noticed late when that is busy. Tokio
    /// says by a panic that a runtime has no timers; it is caught, and the panic hook prints it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, and any number may wait at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// Runs `future`, and stops it when the slot is lost. It runs in the span of its caller.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] when the slot was lost before `future` was ready; its value is given up even if it was ready in the same
    /// moment. [`Error::Config`] outside of a tokio runtime, and on one without timers: `future` is not polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `future`; the slot stays held.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let held = server.client().semaphore("pool", 1)?.acquire().await?;
    /// let sum = held.run(async { 1 + 1 }).await?;
    /// assert_eq!(sum, 2);
    /// # Ok(()) }
    /// ```
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, Error>> {
        // `future` may have kept the executor busy for longer than the lease
        self.until_lost(future, |_| Ok(self.check()?))
    }

    /// Runs `future` until the slot is lost. Its output is returned unless `check` finds an error.
    pub(crate) fn until_lost<F: Future>(
        &self,
        future: F,
        check: impl FnMut(&F::Output) -> Result<(), Error>,
    ) -> impl Future<Output = Result<F::Output, Error>> {
        let lost = async {
            match driver::require_timers() {
                Ok(_) => self.lost().await.into(),
                Err(error) => error.into(),
            }
        };
        UntilLost {
            lost,
            body: Some(future),
            check,
        }
    }

    /// Returns the span of the hold.
    pub(crate) fn span(&self) -> Span {
        self.hold.span()
    }

    /// Renews the lease now, and comes back when the server has answered. There is no need to: leases are renewed in the background.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] when the slot is lost. [`Error::Config`] outside of a tokio runtime, and on one
    /// without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the renewal to be done in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

impl Semaphore<Held> {
    /// Gives the slot back, and waits until the server has confirmed it. The connection serves the next request.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] when the slot was lost before. [`Error::Unresponsive`] and [`Error::Disconnected`] when the server did not
    /// confirm, and [`Error::Draining`], [`Error::NotLeader`], [`Error::Auth`] and [`Error::Refused`] when it would not: the connection is
    /// closed, and the server frees the slot when it notices, after its lease at the latest. [`Error::Config`] outside of a tokio
    /// runtime, and on one without timers: the slot is given up as if it was dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which gives the slot back, too.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.acquire().await?;
    /// let pool = held.release().await?;
    /// let held_again = pool.acquire().await?;
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<Semaphore<Idle>, Error> {
        let Self {
            slot,
            state: Held { hold, grant },
        } = self;
        slot.release(hold, &grant.token).await?;
        Ok(Semaphore::new(slot))
    }

    /// Closes the connection without telling the server, which frees the slot when it notices: at once, or after the lease if it
    /// runs with auto-release off.
    pub fn close(self) -> Semaphore<Idle> {
        self.state.hold.close();
        Semaphore::new(self.slot)
    }
}

impl Deref for Semaphore<Held> {
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
