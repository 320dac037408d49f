//! Slots of several keys: the acquire in a fixed order, and the holds.

use std::future::{Future, poll_fn};
use std::slice;
use std::task::Poll;
use std::time::Duration;
use std::vec;

use tokio::time::timeout;

use super::held::{loss, until_lost};
use super::{Counting, Held, Idle, Kind, Semaphore};
use crate::clock::Instant;
use crate::driver;
use crate::error::{ConfigError, Error, Lost, Operation};
use crate::slot::validate_wait;

/// Acquires a slot of each semaphore, or none at all.
///
/// It waits for at most the shortest `acquire_timeout` of the semaphores, all keys together.
/// [`acquire_all_within`] takes the time as an argument.
///
/// # Order
///
/// The slots are acquired one after the other, in the byte order of the keys, whatever the order
/// of the arguments. All programs have the same order, so two callers that want the same keys
/// cannot wait for each other. The queue of each key is first come, first served. A caller joins
/// the queue of a key once it holds the slots of the keys before it.
///
/// Slots that are acquired in another way are outside of this order. A task that holds one and
/// then acquires others can wait for a task that does the reverse, until one of them times out.
///
/// # Errors
///
/// Nothing is held after an error.
///
/// - [`Error::Config`] with [`ConfigError::NoSemaphores`], [`ConfigError::RepeatedKey`] or
///   [`ConfigError::DifferentClients`], before a byte is sent.
/// - [`Error::Timeout`] for the key whose slot did not become free in time. The other slots are
///   given up at that moment.
/// - [`Error::Lost`] if a slot is lost while the call waits for another one.
/// - The other errors of [`Semaphore::acquire`], for the key that failed.
///
/// # Cancel safety
///
/// Dropping the future gives up the slots that it has, and leaves the queue that it is in.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// let from = client.lock("account:7")?;
/// let to = client.lock("account:3")?;
///
/// let both = dflock::acquire_all([&from, &to]).await?;
/// both.run(async { /* transfer */ }).await?;
/// both.release().await?;
/// # Ok(()) }
/// ```
#[must_use = "futures do nothing unless polled"]
pub fn acquire_all<'a, K, I>(
    semaphores: I,
) -> impl Future<Output = Result<HeldAll<K>, Error>> + use<'a, K, I>
where
    K: Kind,
    I: IntoIterator<Item = &'a Semaphore<Idle, K>>,
{
    let semaphores: Vec<_> = semaphores.into_iter().cloned().collect();
    let waits = semaphores.iter().map(|one| one.slot.acquire_timeout());
    // Without semaphores the wait does not matter: the call fails.
    let wait = waits.min().unwrap_or_default();
    acquire_sorted(semaphores, wait)
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
/// # Cancel safety
///
/// See [`acquire_all`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// let tenant = client.semaphore("tenant:7", 2)?;
/// let cluster = client.semaphore("cluster", 1)?;
///
/// let busy = cluster.clone().acquire().await?;
/// let both = dflock::acquire_all_within([&tenant, &cluster], Duration::ZERO).await;
/// assert!(both.unwrap_err().is_timeout()); // the tenant's slot is free again
/// # Ok(()) }
/// ```
#[must_use = "futures do nothing unless polled"]
pub fn acquire_all_within<'a, K, I>(
    semaphores: I,
    wait: Duration,
) -> impl Future<Output = Result<HeldAll<K>, Error>> + use<'a, K, I>
where
    K: Kind,
    I: IntoIterator<Item = &'a Semaphore<Idle, K>>,
{
    let semaphores = semaphores.into_iter().cloned().collect();
    acquire_sorted(semaphores, wait)
}

async fn acquire_sorted<K: Kind>(
    semaphores: Vec<Semaphore<Idle, K>>,
    wait: Duration,
) -> Result<HeldAll<K>, Error> {
    // The index is the place in the order of the caller.
    let mut semaphores: Vec<_> = semaphores.into_iter().enumerate().collect();
    // All programs must have the same order, because two callers could otherwise each hold what
    // the other one waits for. A key determines its server, so the keys alone are an order.
    semaphores.sort_by(|(_, a), (_, b)| a.key().cmp(b.key()));
    validate(&semaphores)?;
    validate_wait(wait)?;
    driver::require_timers()?;
    let deadline = Deadline::new(&semaphores[0].1, wait);
    let mut held = Vec::with_capacity(semaphores.len());
    for (index, semaphore) in semaphores {
        let acquired = acquire_beside(&held, semaphore, deadline).await?;
        held.push((index, acquired));
    }
    held.sort_by_key(|(index, _)| *index);
    let held = HeldAll {
        held: held.into_iter().map(|(_, held)| held).collect(),
    };
    held.check()?;
    Ok(held)
}

/// Checks semaphores that are sorted by key.
fn validate<K: Kind>(semaphores: &[(usize, Semaphore<Idle, K>)]) -> Result<(), ConfigError> {
    let Some(((_, first), others)) = semaphores.split_first() else {
        return Err(ConfigError::NoSemaphores);
    };
    if let Some((_, other)) = others
        .iter()
        .find(|(_, other)| !first.slot.shares_client(&other.slot))
    {
        return Err(ConfigError::DifferentClients {
            keys: [first.key().to_owned(), other.key().to_owned()],
        });
    }
    match semaphores
        .windows(2)
        .find(|pair| pair[0].1.key() == pair[1].1.key())
    {
        Some(pair) => Err(ConfigError::RepeatedKey {
            key: pair[0].1.key().to_owned(),
        }),
        None => Ok(()),
    }
}

/// The end of the wait for all slots.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    wait: Duration,
}

impl Deadline {
    fn new<K: Kind>(semaphore: &Semaphore<Idle, K>, wait: Duration) -> Self {
        let at = semaphore.slot.now().saturating_add(wait);
        Self { at, wait }
    }
}

/// Acquires a slot while others are held.
async fn acquire_beside<K: Kind>(
    held: &[(usize, Semaphore<Held, K>)],
    semaphore: Semaphore<Idle, K>,
    Deadline { at, wait }: Deadline,
) -> Result<Semaphore<Held, K>, Error> {
    let slot = semaphore.slot.clone();
    let timed_out = || Error::Timeout {
        context: slot.context(Operation::Acquire),
        waited: wait,
    };
    let remaining = if held.is_empty() {
        wait
    } else {
        at.duration_since(slot.now())
    };
    if remaining.is_zero() && !wait.is_zero() {
        return Err(timed_out());
    }
    let acquire = async {
        let acquire = semaphore.acquire_within(remaining);
        if held.is_empty() || wait.is_zero() {
            return acquire.await;
        }
        // An acquire waits for the server's own timeout, after the wait. The other slots would be
        // held for that time without a use.
        timeout(remaining, acquire)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    };
    let acquired = tokio::select! {
        biased;
        lost = first_lost(held.iter().map(|(_, held)| &**held)) => return Err(lost.into()),
        acquired = acquire => acquired,
    };
    acquired.map_err(|error| {
        if error.is_timeout() {
            timed_out()
        } else {
            error
        }
    })
}

/// Returns the first loss of the slots. Without slots, it stays pending.
pub(crate) async fn first_lost<'a>(held: impl Iterator<Item = &'a Held>) -> Lost {
    let mut losses: Vec<_> = held.map(|held| Box::pin(held.lost())).collect();
    poll_fn(|cx| {
        let mut polls = losses.iter_mut().map(|lost| lost.as_mut().poll(cx));
        polls.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// The slots of [`acquire_all`], in the order in which its semaphores were given.
///
/// Each slot is a separate [`Semaphore<Held>`](Held), whose lease is renewed in the background.
/// When one of them is lost, [`check`](Self::check) fails, [`lost`](Self::lost) completes, and
/// [`run`](Self::run) drops its future. The other slots stay held until they are released or
/// dropped.
///
/// Dropping it releases all slots without waiting for replies. It needs no runtime.
#[derive(Debug)]
#[must_use = "the slots are given up when it is dropped"]
pub struct HeldAll<K: Kind = Counting> {
    held: Vec<Semaphore<Held, K>>,
}

impl<K: Kind> HeldAll<K> {
    #[cfg(feature = "blocking")]
    pub(crate) fn new(held: Vec<Semaphore<Held, K>>) -> Self {
        Self { held }
    }

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

    /// Completes when one of the slots is lost; otherwise stays pending.
    ///
    /// [`Held::lost`] says where it can be polled.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Any number of tasks may wait at once.
    pub async fn lost(&self) -> Lost {
        first_lost(self.held.iter().map(|held| &**held)).await
    }

    /// Runs `future`, and drops it when one of the slots is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] if a slot was lost before `future` completed. Its output is discarded even
    /// if both happened at the same moment. [`Error::Config`] outside of a tokio runtime, or on a
    /// runtime without timers; `future` is not polled then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the returned future drops `future`. The slots stay held.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let client = server.client();
    /// # let (a, b) = (client.lock("a")?, client.lock("b")?);
    /// let both = dflock::acquire_all([&a, &b]).await?;
    /// let sum = both.run(async { 1 + 1 }).await?;
    /// assert_eq!(sum, 2);
    /// # Ok(()) }
    /// ```
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, Error>> {
        // Check again: `future` may have blocked the executor for longer than the lease.
        until_lost(self.loss(), future, self.output_check())
    }

    /// Completes with the error of the first slot that is lost, or of a runtime without timers.
    fn loss(&self) -> impl Future<Output = Error> {
        loss(|| self.lost())
    }

    /// Returns the check of an output that is discarded once a slot is lost.
    fn output_check<T>(&self) -> impl FnMut(&T) -> Result<(), Error> {
        |_| Ok(self.check()?)
    }

    /// Releases all slots at the same time, and waits until the servers have confirmed it.
    ///
    /// # Errors
    ///
    /// The first error in the order in which the semaphores were given. [`Semaphore::release`]
    /// lists the errors. All other slots are released nevertheless.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections, which also gives up the slots.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let client = server.client();
    /// # let (a, b) = (client.lock("a")?, client.lock("b")?);
    /// dflock::acquire_all([&a, &b]).await?.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<(), Error> {
        // At the same time, because a server that does not reply would otherwise delay the release
        // of slots on other servers.
        let mut releases: Vec<_> = self
            .held
            .into_iter()
            .map(|held| (Box::pin(held.release()), None))
            .collect();
        poll_fn(|cx| {
            for (release, result) in releases.iter_mut().filter(|(_, result)| result.is_none()) {
                if let Poll::Ready(output) = release.as_mut().poll(cx) {
                    *result = Some(output);
                }
            }
            let is_done = releases.iter().all(|(_, result)| result.is_some());
            if is_done {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        releases
            .into_iter()
            .filter_map(|(_, result)| result)
            .try_for_each(|result| result.map(drop))
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
