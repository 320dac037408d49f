//! The distributed lock: a semaphore with a limit of one, and separate commands in the protocol.

mod builder;
mod held;
mod idle;
mod queued;

use std::fmt;

pub use builder::LockBuilder;

use crate::semaphore::{Idle, Semaphore, State};

/// A lock shared by programs on many machines.
///
/// At most one of them holds it. The server grants it in the order of the queue.
///
/// It has the states and methods of a [`Semaphore`].
///
/// # Locks and semaphores of one key
///
/// On servers from v1.14 on, locks and semaphores have separate namespaces: a lock and a semaphore
/// of the same key are independent. On older servers they share the key, and a lock is a semaphore
/// with a limit of 1. It waits for other locks and for semaphores with that limit; a semaphore with
/// another limit is [`Error::LimitMismatch`](crate::Error::LimitMismatch). Use different keys to be
/// safe on both.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// let nightly = client.lock("nightly")?;
///
/// let held = nightly.acquire().await?;
/// held.check()?;
/// held.release().await?;
/// # Ok(()) }
/// ```
pub struct Lock<S: State = Idle>(Semaphore<S>);

impl<S: State> Lock<S> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.key()
    }

    /// Returns the semaphore that implements the lock.
    #[cfg(feature = "macros")]
    pub(crate) fn into_semaphore(self) -> Semaphore<S> {
        self.0
    }
}

impl<S: State> fmt::Debug for Lock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lock").field(&self.0).finish()
    }
}
