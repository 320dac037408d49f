//! The outcome of an enqueue.

use super::{Held, Queued, Semaphore};
use crate::error::Error;

/// Outcome of [`Semaphore::enqueue`] and [`Lock::enqueue`](crate::Lock::enqueue).
#[derive(Debug)]
#[must_use = "a slot or a place in the queue is given up when it is dropped"]
pub enum Enqueued<H = Semaphore<Held>, Q = Semaphore<Queued>> {
    /// A slot was free, and is now held.
    Acquired(H),
    /// All slots are taken; the semaphore or lock waits in the queue.
    Queued(Q),
}

impl Enqueued {
    /// Returns the slot that was free, or waits for it in the queue.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::<Queued>::wait`](Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the slot or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let pool = server.client().semaphore("pool", 1)?;
    /// let held = pool.enqueue().await?.wait().await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the slot is given up when it is dropped"]
    pub async fn wait(self) -> Result<Semaphore<Held>, Error> {
        match self {
            Self::Acquired(held) => Ok(held),
            Self::Queued(queued) => queued.wait().await,
        }
    }
}
