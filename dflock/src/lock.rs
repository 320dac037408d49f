//! The distributed lock: a semaphore of one, with commands of its own.

mod builder;
mod held;
mod idle;
mod queued;

use std::fmt;

pub use builder::LockBuilder;

use crate::semaphore::{Idle, Semaphore, State};

/// A lock that programs on many machines share: at most one of them holds it, first come, first served.
///
/// It has the states and methods of a [`Semaphore`].
///
/// # Locks and semaphores of one key
///
/// On servers from v1.14 on locks and semaphores
/// have separate names: a lock and a semaphore of one key have nothing to do with each other. On
/// older servers they share the key, and a lock is a semaphore of 1: it waits for a semaphore of 1
/// and for other locks, and a semaphore of another limit is
/// [`Error::LimitMismatch`](crate::Error::LimitMismatch). Use different keys to be safe on both.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    /// The key that is shared.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.key()
    }

    /// The semaphore of one that it is.
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
