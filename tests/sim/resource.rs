//! Semaphore or lock, whichever the key is.

use std::ops::Deref;
use std::time::Duration;

use dflock::{
    Client, Enqueued, Error, Held, Idle, Kind, Lock, Lost, Queued, Semaphore, SemaphoreBuilder,
    State, acquire_all_within,
};

use super::plan::Key;

#[derive(Debug)]
pub(super) enum Resource<S: State = Idle> {
    Semaphore(Semaphore<S>),
    Lock(Lock<S>),
}

/// Outcome of [`Resource::enqueue`].
#[derive(Debug)]
pub(super) enum EnqueuedResource {
    Acquired(Resource<Held>),
    Queued(Resource<Queued>),
}

impl<K: Kind> From<Enqueued<K>> for EnqueuedResource
where
    Resource<Held>: From<Semaphore<Held, K>>,
    Resource<Queued>: From<Semaphore<Queued, K>>,
{
    fn from(enqueued: Enqueued<K>) -> Self {
        match enqueued {
            Enqueued::Acquired(held) => Self::Acquired(held.into()),
            Enqueued::Queued(queued) => Self::Queued(queued.into()),
        }
    }
}

impl<S: State> From<Semaphore<S>> for Resource<S> {
    fn from(semaphore: Semaphore<S>) -> Self {
        Self::Semaphore(semaphore)
    }
}

impl<S: State> From<Lock<S>> for Resource<S> {
    fn from(lock: Lock<S>) -> Self {
        Self::Lock(lock)
    }
}

fn set_hold_limits<K: Kind, L>(
    mut builder: SemaphoreBuilder<K, String, L>,
    min_hold: Option<Duration>,
    max_hold: Option<Duration>,
) -> SemaphoreBuilder<K, String, L> {
    if let Some(min_hold) = min_hold {
        builder = builder.min_hold(min_hold);
    }
    if let Some(max_hold) = max_hold {
        builder = builder.max_hold(max_hold);
    }
    builder
}

impl Resource {
    pub(super) fn new(
        client: &Client,
        key: &Key,
        lease: Duration,
        renew_ratio: f64,
        max_hold: Option<Duration>,
        on_lost: impl Fn(&Lost) + Send + Sync + 'static,
    ) -> Self {
        let Key {
            name,
            limit,
            is_lock,
            min_hold,
            ..
        } = key;
        let resource = if *is_lock {
            let lock = Lock::builder()
                .key(name)
                .client(client.clone())
                .lease_ttl(lease)
                .renew_ratio(renew_ratio);
            let lock = set_hold_limits(lock, *min_hold, max_hold);
            lock.on_lost(on_lost).build().map(Self::Lock)
        } else {
            let semaphore = Semaphore::builder()
                .key(name)
                .limit(*limit)
                .client(client.clone())
                .lease_ttl(lease)
                .renew_ratio(renew_ratio);
            let semaphore = set_hold_limits(semaphore, *min_hold, max_hold);
            semaphore.on_lost(on_lost).build().map(Self::Semaphore)
        };
        resource.expect("valid options")
    }

    pub(super) async fn acquire_within(self, wait: Duration) -> Result<Resource<Held>, Error> {
        Ok(match self {
            Self::Semaphore(semaphore) => {
                Resource::Semaphore(semaphore.acquire_within(wait).await?)
            }
            Self::Lock(lock) => Resource::Lock(lock.acquire_within(wait).await?),
        })
    }

    /// Returns whether both are semaphores or both are locks.
    pub(super) fn is_same_kind(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Semaphore(_), Self::Semaphore(_)) | (Self::Lock(_), Self::Lock(_))
        )
    }

    /// Acquires a slot of each of `resources`, which are of one kind.
    pub(super) async fn acquire_all_within(
        resources: &[Self],
        wait: Duration,
    ) -> Result<Vec<Resource<Held>>, Error> {
        let semaphores: Vec<_> = resources
            .iter()
            .filter_map(|resource| match resource {
                Self::Semaphore(semaphore) => Some(semaphore),
                Self::Lock(_) => None,
            })
            .collect();
        let locks: Vec<_> = resources
            .iter()
            .filter_map(|resource| match resource {
                Self::Semaphore(_) => None,
                Self::Lock(lock) => Some(lock),
            })
            .collect();
        Ok(if locks.is_empty() {
            let held = acquire_all_within(semaphores, wait).await?;
            held.into_iter().map(Resource::Semaphore).collect()
        } else {
            let held = acquire_all_within(locks, wait).await?;
            held.into_iter().map(Resource::Lock).collect()
        })
    }

    pub(super) async fn enqueue(self) -> Result<EnqueuedResource, Error> {
        Ok(match self {
            Self::Semaphore(semaphore) => semaphore.enqueue().await?.into(),
            Self::Lock(lock) => lock.enqueue().await?.into(),
        })
    }

    pub(super) async fn with_slot(self, body: impl AsyncFnOnce(&Held)) -> Result<(), Error> {
        match self {
            Self::Semaphore(semaphore) => semaphore.with_slot(body).await,
            Self::Lock(lock) => lock.with_slot(body).await,
        }
    }
}

impl Resource<Queued> {
    pub(super) async fn wait_within(self, wait: Duration) -> Result<Resource<Held>, Error> {
        Ok(match self {
            Self::Semaphore(semaphore) => Resource::Semaphore(semaphore.wait_within(wait).await?),
            Self::Lock(lock) => Resource::Lock(lock.wait_within(wait).await?),
        })
    }

    pub(super) fn close(self) {
        match self {
            Self::Semaphore(semaphore) => drop(semaphore.close()),
            Self::Lock(lock) => drop(lock.close()),
        }
    }
}

impl Resource<Held> {
    pub(super) async fn release(self) -> Result<(), Error> {
        match self {
            Self::Semaphore(semaphore) => semaphore.release().await.map(drop),
            Self::Lock(lock) => lock.release().await.map(drop),
        }
    }

    pub(super) fn close(self) {
        match self {
            Self::Semaphore(semaphore) => drop(semaphore.close()),
            Self::Lock(lock) => drop(lock.close()),
        }
    }
}

impl Clone for Resource {
    fn clone(&self) -> Self {
        match self {
            Self::Semaphore(semaphore) => Self::Semaphore(semaphore.clone()),
            Self::Lock(lock) => Self::Lock(lock.clone()),
        }
    }
}

impl Deref for Resource<Held> {
    type Target = Held;

    fn deref(&self) -> &Held {
        match self {
            Self::Semaphore(semaphore) => semaphore,
            Self::Lock(lock) => lock,
        }
    }
}
