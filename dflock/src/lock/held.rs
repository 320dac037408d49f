//! A lock that is held.

use std::ops::Deref;

use super::Lock;
use crate::error::Error;
use crate::semaphore::{Held, Idle};

impl Lock<Held> {
    /// Gives the lock back, and waits until the server has confirmed it.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::release`](crate::Semaphore::release).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which gives the lock back, too.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let lock = server.client().lock("nightly")?;
    /// let lock = lock.acquire().await?.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<Lock<Idle>, Error> {
        self.0.release().await.map(Lock)
    }

    /// Closes the connection without telling the server; see [`Semaphore::close`](crate::Semaphore::close).
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
