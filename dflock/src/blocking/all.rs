//! Slots of several keys.

use std::slice;
use std::time::Duration;
use std::vec;

use tokio::time::timeout;

use super::semaphore::sealed::State as _;
use super::{Held, Idle, Semaphore};
use crate::error::{ConfigError, Error, Lost};
use crate::semaphore::{Counting, Kind, first_lost};

/// Acquires a slot of each semaphore, or none at all.
///
/// It waits for at most the shortest `acquire_timeout` of the semaphores, all keys together.
/// [`dflock::acquire_all`](crate::acquire_all) describes the order of the keys.
///
/// # Errors
///
/// See [`dflock::acquire_all`](crate::acquire_all). Nothing is held after an error.
///
/// # Panics
///
/// Inside of an async runtime.
///
/// # Examples
///
/// ```
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let server = runtime.block_on(dflock::server::Server::start())?;
/// # let client = server.client_builder().build_blocking()?;
/// let from = client.lock("account:7")?;
/// let to = client.lock("account:3")?;
///
/// let both = dflock::blocking::acquire_all([&from, &to])?;
/// both.check()?;
/// both.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn acquire_all<'a, K, I>(semaphores: I) -> Result<HeldAll<K>, Error>
where
    K: Kind,
    I: IntoIterator<Item = &'a Semaphore<Idle, K>>,
{
    acquire_with(semaphores, async |all| crate::acquire_all(all).await)
}

/// Like [`acquire_all`], for at most `wait`, all keys together. Any duration up to 9,223,372,036 s
/// is valid.
///
/// With zero, each slot is acquired only if it is free now.
///
/// # Errors
///
/// The errors of [`acquire_all`], and [`Error::Config`] for a longer wait.
///
/// # Panics
///
/// Inside of an async runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let server = runtime.block_on(dflock::server::Server::start())?;
/// # let client = server.client_builder().build_blocking()?;
/// let tenant = client.semaphore("tenant:7", 2)?;
/// let cluster = client.semaphore("cluster", 1)?;
///
/// let busy = cluster.clone().acquire()?;
/// let both = dflock::blocking::acquire_all_within([&tenant, &cluster], Duration::ZERO);
/// assert!(both.unwrap_err().is_timeout()); // the tenant's slot is free again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn acquire_all_within<'a, K, I>(semaphores: I, wait: Duration) -> Result<HeldAll<K>, Error>
where
    K: Kind,
    I: IntoIterator<Item = &'a Semaphore<Idle, K>>,
{
    acquire_with(semaphores, async |all| {
        crate::acquire_all_within(all, wait).await
    })
}

#[track_caller]
fn acquire_with<'a, K: Kind>(
    semaphores: impl IntoIterator<Item = &'a Semaphore<Idle, K>>,
    acquire: impl AsyncFnOnce(&[crate::Semaphore<crate::Idle, K>]) -> Result<crate::HeldAll<K>, Error>,
) -> Result<HeldAll<K>, Error> {
    let (all, backgrounds): (Vec<_>, Vec<_>) = semaphores
        .into_iter()
        .map(|one| one.clone().into_async())
        .unzip();
    // Semaphores of different clients are refused before the thread matters.
    let Some(background) = backgrounds.first() else {
        return Err(ConfigError::NoSemaphores.into());
    };
    let held = background.block_on(acquire(&all))?;
    let held = held
        .into_iter()
        .map(|one| Semaphore::new(one, background.clone()))
        .collect();
    Ok(HeldAll { held })
}

/// The slots of [`acquire_all`], in the order in which its semaphores were given.
///
/// Each slot is a separate [`Semaphore<Held>`](Held). When one of them is lost,
/// [`check`](Self::check) fails, and [`lost_within`](Self::lost_within) returns. The other slots
/// stay held until they are released or dropped.
///
/// Dropping it releases all slots without waiting for replies.
#[derive(Debug)]
#[must_use = "the slots are given up when it is dropped"]
pub struct HeldAll<K: Kind = Counting> {
    held: Vec<Semaphore<Held, K>>,
}

impl<K: Kind> HeldAll<K> {
    /// Checks whether all slots are still held, to the knowledge of the client. No IO.
    ///
    /// # Errors
    ///
    /// [`Lost`] for the first slot that may be gone, in the order in which they were given.
    pub fn check(&self) -> Result<(), Lost> {
        self.held.iter().try_for_each(|held| held.check())
    }

    /// Returns whether [`check`](Self::check) fails.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.check().is_err()
    }

    /// Waits until one of the slots is lost, for at most `wait`. Returns `None` if all are still
    /// held then.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let (a, b) = (client.lock("a")?, client.lock("b")?);
    /// let both = dflock::blocking::acquire_all([&a, &b])?;
    /// assert_eq!(both.lost_within(Duration::from_millis(10)), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn lost_within(&self, wait: Duration) -> Option<Lost> {
        let held = self.held.iter().map(|one| one.state.as_async());
        let lost = async { timeout(wait, first_lost(held)).await };
        self.held.first()?.background().block_on(lost).ok()
    }

    /// Releases all slots at the same time, and waits until the servers have confirmed it.
    ///
    /// # Errors
    ///
    /// The first error in the order in which the semaphores were given. All other slots are
    /// released nevertheless.
    ///
    /// # Panics
    ///
    /// Inside of an async runtime. The slots are then given up like dropped ones.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// # let (a, b) = (client.lock("a")?, client.lock("b")?);
    /// dflock::blocking::acquire_all([&a, &b])?.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn release(self) -> Result<(), Error> {
        let (held, backgrounds): (Vec<_>, Vec<_>) =
            self.held.into_iter().map(Semaphore::into_async).unzip();
        // At least one slot is held.
        let Some(background) = backgrounds.first() else {
            return Ok(());
        };
        background.block_on(crate::HeldAll::new(held).release())
    }

    /// Returns an iterator over the slots, in the order in which the semaphores were given.
    pub fn iter(&self) -> slice::Iter<'_, Semaphore<Held, K>> {
        self.held.iter()
    }

    /// Returns the number of slots, which is at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.held.len()
    }
}

impl<K: Kind> IntoIterator for HeldAll<K> {
    type Item = Semaphore<Held, K>;
    type IntoIter = vec::IntoIter<Semaphore<Held, K>>;

    /// Returns the slots, in the order in which the semaphores were given.
    fn into_iter(self) -> Self::IntoIter {
        self.held.into_iter()
    }
}

impl<'a, K: Kind> IntoIterator for &'a HeldAll<K> {
    type Item = &'a Semaphore<Held, K>;
    type IntoIter = slice::Iter<'a, Semaphore<Held, K>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
