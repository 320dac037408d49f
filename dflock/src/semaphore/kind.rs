//! The two kinds of semaphores, and the lock.

use std::fmt::Debug;

use super::{Idle, Semaphore};

/// Kind of a [`Semaphore`]: [`Counting`] or [`Exclusive`].
///
/// A function that is generic over the kind accepts semaphores and locks:
///
/// ```
/// use dflock::{Error, Held, Idle, Kind, Semaphore};
///
/// async fn acquire_if_free<K: Kind>(
///     semaphore: Semaphore<Idle, K>,
/// ) -> Result<Option<Semaphore<Held, K>>, Error> {
///     match semaphore.try_acquire().await {
///         Ok(held) => Ok(Some(held)),
///         Err(error) if error.is_timeout() => Ok(None),
///         Err(error) => Err(error),
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// let slot = acquire_if_free(client.semaphore("pool", 5)?).await?;
/// let lock = acquire_if_free(client.lock("nightly")?).await?;
/// # assert!(slot.is_some() && lock.is_some());
/// # Ok(()) }
/// ```
pub trait Kind: sealed::Kind + Debug + Send + Sync + Unpin + 'static {}

/// Kind of a semaphore with a limit.
#[derive(Debug)]
pub enum Counting {}

/// Kind of a [`Lock`].
#[derive(Debug)]
pub enum Exclusive {}

impl Kind for Counting {}
impl Kind for Exclusive {}

/// A lock shared by programs on many machines.
///
/// At most one of them holds it. The server grants it in the order of the queue.
///
/// It is a [`Semaphore`] with one slot and separate commands in the protocol. All methods are
/// documented there. A function cannot confuse the two, because they are different types.
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
///
/// ```compile_fail
/// # fn f(client: &dflock::Client) -> Result<(), dflock::ConfigError> {
/// let pool: dflock::Semaphore = client.lock("nightly")?; // mismatched types
/// # Ok(()) }
/// ```
pub type Lock<S = Idle> = Semaphore<S, Exclusive>;

pub(super) mod sealed {
    use super::{Counting, Exclusive};

    pub trait Kind {
        /// The limit that a complete builder has: `()` without one.
        type Limit: Copy;

        /// Returns the limit that the user chose, or `None` for a lock.
        fn limit(limit: Self::Limit) -> Option<u32>;
    }

    impl Kind for Counting {
        type Limit = u32;

        fn limit(limit: u32) -> Option<u32> {
            Some(limit)
        }
    }

    impl Kind for Exclusive {
        type Limit = ();

        fn limit((): ()) -> Option<u32> {
            None
        }
    }
}
