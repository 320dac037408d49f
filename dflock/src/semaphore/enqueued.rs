//! Where an enqueue led.

use super::{Held, Queued, Semaphore};
use crate::error::Error;

/// What [`Semaphore::enqueue`] and [`Lock::enqueue`](crate::Lock::enqueue) give back.
#[derive(Debug)]
#[must_use = "a slot or a place in line is given up when it is dropped"]
pub enum Enqueued<H = Semaphore<Held>, Q = Semaphore<Queued>> {
    /// A slot was free and is held now.
    Acquired(H),
    /// All slots are taken; this is a place in line.
    Queued(Q),
}

impl Enqueued {
    /// The slot, whichever it was: the one that was free, or the one that the place in line becomes.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::<Queued>::wait`](Semaphore::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the slot or the place in line.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
