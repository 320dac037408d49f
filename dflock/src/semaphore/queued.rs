//! A place in line.

use std::time::Duration;

use super::{Held, Idle, Semaphore};
use crate::error::Error;
use crate::lease::LeaseHandle;

/// The state of a semaphore that stands in line.
///
/// The place in line is kept however long its owner does something else. When a slot comes free it is taken at once, and its lease
/// is kept, until [`wait`](Semaphore::wait) takes it over. Dropping it leaves the line, and gives back the slot.
#[derive(Debug)]
pub struct Queued {
    hold: LeaseHandle,
}

impl Queued {
    pub(super) fn new(hold: LeaseHandle) -> Self {
        Self { hold }
    }
}

impl Semaphore<Queued> {
    /// Waits for the slot, for at most `acquire_timeout` (10 s unless the builder says otherwise), counted from this call.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] when none came free in time: the place in line is given up. [`Error::Lost`] when a slot was granted
    /// and lost again before this call. [`Error::LeaseExpired`] when its lease had ended before the grant arrived.
    /// [`Error::Disconnected`], [`Error::Draining`] and others when the server went away or refused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in line, or the slot.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::Enqueued;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let first = pool.clone().acquire().await?;
    /// if let Enqueued::Queued(queued) = pool.enqueue().await? {
    ///     first.release().await?;
    ///     let second = queued.wait().await?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn wait(self) -> Result<Semaphore<Held>, Error> {
        let wait = self.slot.acquire_timeout();
        self.wait_within(wait).await
    }

    /// The same, for at most `wait`. Zero takes the slot only if it was granted already.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::Enqueued;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let first = pool.clone().acquire().await?;
    /// if let Enqueued::Queued(queued) = pool.enqueue().await? {
    ///     let second = queued.wait_within(std::time::Duration::from_millis(20)).await;
    ///     assert!(second.unwrap_err().is_timeout());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn wait_within(self, wait: Duration) -> Result<Semaphore<Held>, Error> {
        let grant = self.slot.wait(&self.state.hold, wait).await?;
        Ok(Semaphore {
            slot: self.slot,
            state: Held::new((self.state.hold, grant)),
        })
    }

    /// Whether the slot is here, so that [`wait`](Self::wait) comes back at once. No IO.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.state.hold.is_held()
    }

    /// Leaves the line, and gives up the slot if it was granted meanwhile.
    pub fn close(self) -> Semaphore<Idle> {
        Semaphore::new(self.slot)
    }
}
