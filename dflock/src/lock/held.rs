//! The held state of a lock.

use std::ops::Deref;

use super::Lock;
use crate::error::Error;
use crate::semaphore::{Held, Idle};

impl Lock<Held> {
    /// Releases the lock, and waits until the server has confirmed it. The connection is then
    /// reused.
    ///
    /// # Errors
    ///
    /// See [`Semaphore::release`](crate::Semaphore::release).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which also gives up the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let lock = lock.acquire().await?.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<Lock<Idle>, Error> {
        self.0.release().await.map(Lock)
    }

    /// Closes the connection without a release request; see
    /// [`Semaphore::close`](crate::Semaphore::close).
    pub fn close(self) -> Lock<Idle> {
        Lock(self.0.close())
    }
}

impl Deref for Lock<Held> {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.0
    }
}
