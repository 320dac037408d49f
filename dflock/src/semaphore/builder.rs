//! The builder of a semaphore or a lock.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::{Counting, Idle, Kind, Semaphore};
use crate::client::Client;
use crate::error::{ConfigError, Lost};
use crate::limit_mismatch::LimitMismatch;
use crate::slot::{SemaphoreInner, SlotOptions};
use crate::wire::{Limit, Primitive};

/// Builder of a [`Semaphore`] or a [`Lock`](crate::Lock), returned by [`Semaphore::builder`].
///
/// `Key` and `Limit` are the types of the options that are set, or `()`. A call of `build` without
/// `key`, or without the `limit` of a semaphore, does not compile. The kind `K` follows from the
/// call of `limit`, which only a semaphore has.
// Written by hand: typed-builder cannot require an option for one kind only.
#[must_use = "a builder does nothing until `build` is called"]
pub struct SemaphoreBuilder<K: Kind = Counting, Key = (), Limit = ()> {
    key: Key,
    limit: Limit,
    options: SlotOptions,
    kind: PhantomData<K>,
}

impl<K: Kind> Semaphore<Idle, K> {
    /// Returns a builder. `key` is required, and `limit` for a semaphore.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use dflock::{Client, Lock, Semaphore};
    ///
    /// let client = Client::builder().build()?;
    /// let pool = Semaphore::builder()
    ///     .key("worker-pool")
    ///     .limit(5)
    ///     .acquire_timeout(Duration::from_secs(10))
    ///     .lease_ttl(Duration::from_secs(20))
    ///     .on_lost(|lost| eprintln!("{lost}"))
    ///     .client(client.clone())
    ///     .build()?;
    /// let nightly = Lock::builder()
    ///     .key("nightly")
    ///     .acquire_timeout(Duration::ZERO) // only if it is free
    ///     .client(client)
    ///     .build()?;
    /// # Ok::<(), dflock::ConfigError>(())
    /// ```
    ///
    /// ```compile_fail
    /// let pool = dflock::Semaphore::builder().key("worker-pool").build(); // no limit
    /// ```
    pub fn builder() -> SemaphoreBuilder<K> {
        SemaphoreBuilder {
            key: (),
            limit: (),
            options: SlotOptions::default(),
            kind: PhantomData,
        }
    }
}

impl<K: Kind, L> SemaphoreBuilder<K, (), L> {
    /// Sets the key, the name that all programs share. Required.
    ///
    /// Valid are 1 to 256 bytes without space, tab, line break or NUL.
    pub fn key(self, key: impl Into<String>) -> SemaphoreBuilder<K, String, L> {
        SemaphoreBuilder {
            key: key.into(),
            limit: self.limit,
            options: self.options,
            kind: self.kind,
        }
    }
}

impl<Key> SemaphoreBuilder<Counting, Key, ()> {
    /// Sets the number of slots. Required for a semaphore; a lock has no limit to set.
    ///
    /// Valid are 1 to 1,048,576. All programs that use the key must give the same limit.
    pub fn limit(self, limit: u32) -> SemaphoreBuilder<Counting, Key, u32> {
        SemaphoreBuilder {
            key: self.key,
            limit,
            options: self.options,
            kind: self.kind,
        }
    }
}

impl<Key, L> SemaphoreBuilder<Counting, Key, L> {
    /// Sets the reaction to a key that is in use with another limit. Defaults to that of the client
    /// ([`ClientBuilder::on_limit_mismatch`](crate::ClientBuilder::on_limit_mismatch)), which is
    /// [`LimitMismatch::Fail`] unless it is set.
    ///
    /// It applies to all forms of acquire and to `enqueue`. With [`LimitMismatch::WaitOut`] and
    /// [`LimitMismatch::Adopt`], `enqueue` may wait for up to
    /// [`acquire_timeout`](Self::acquire_timeout) before it joins the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::{LimitMismatch, Semaphore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let client = server.client();
    ///
    /// // The old version of the program.
    /// let old = client.semaphore("worker-pool", 5)?.acquire().await?;
    ///
    /// let pool = Semaphore::builder()
    ///     .key("worker-pool")
    ///     .limit(8)
    ///     .on_limit_mismatch(LimitMismatch::Adopt)
    ///     .client(client)
    ///     .build()?;
    /// let held = pool.acquire().await?;
    /// assert_eq!(held.limit(), 5); // until the old version is gone
    /// # Ok(()) }
    /// ```
    pub fn on_limit_mismatch(mut self, on_limit_mismatch: LimitMismatch) -> Self {
        self.options.on_limit_mismatch = Some(on_limit_mismatch);
        self
    }
}

impl<K: Kind, Key, L> SemaphoreBuilder<K, Key, L> {
    /// Sets the longest time of `acquire` and `wait`. Defaults to 10 s.
    ///
    /// At most 9,223,372,036 s. Zero acquires only what is free now.
    ///
    /// It covers the whole call: the connection with TLS and the auth token, and the wait in the
    /// queue. [`acquire`](Semaphore::acquire) documents its precision. With zero the call is
    /// limited by [`connect_timeout`](crate::ClientBuilder::connect_timeout) and
    /// [`socket_timeout`](crate::ClientBuilder::socket_timeout) together.
    pub fn acquire_timeout(mut self, acquire_timeout: Duration) -> Self {
        self.options.acquire_timeout = acquire_timeout;
        self
    }

    /// Sets the lease: the time for which the server keeps the slot without a renewal. Defaults to
    /// the server's default, which is 33 s unless configured, and to 10 s on etcd.
    ///
    /// Valid are whole seconds from 1 s (2 s on etcd) to 9,223,372,036 s. The lease is renewed for
    /// as long as the slot is held.
    pub fn lease_ttl(mut self, lease_ttl: Duration) -> Self {
        self.options.lease_ttl = Some(lease_ttl);
        self
    }

    /// Sets the part of a lease after which it is renewed. Defaults to 0.5.
    ///
    /// Valid are values between 0 and 1, both excluded. A long lease is renewed after the client's
    /// [`heartbeat`](crate::ClientBuilder::heartbeat) at the latest.
    pub fn renew_ratio(mut self, renew_ratio: f64) -> Self {
        self.options.renew_ratio = renew_ratio;
        self
    }

    /// Sets the longest time for which a slot is held, whatever its lease. Unlimited by default.
    ///
    /// No renewal reaches past it. At its end the slot is released and lost, with the reason
    /// [`Overdue`](crate::LostReason::Overdue). It counts from before the request of the grant was
    /// sent; after a wait in the queue, from the renewal that confirmed the grant. For a
    /// [`Queued`](crate::Queued) semaphore it also counts before the call of `wait`.
    ///
    /// Valid is any time above 0 that is not less than `lease_ttl`, if that is set.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// use std::time::Duration;
    /// use dflock::{LostReason, Semaphore};
    ///
    /// let held = Semaphore::builder()
    ///     .key("pool")
    ///     .limit(1)
    ///     .max_hold(Duration::from_millis(20))
    ///     .client(server.client())
    ///     .build()?
    ///     .acquire()
    ///     .await?;
    /// assert_eq!(held.lost().await.reason, LostReason::Overdue);
    /// # Ok(()) }
    /// ```
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.options.max_hold = Some(max_hold);
        self
    }

    /// Sets the shortest time for which a slot stays taken. Zero by default.
    ///
    /// A slot that is released or dropped earlier stays taken until then. [`release`] and the drop
    /// return at once: the background task keeps the slot and its connection, and then releases it.
    /// So `limit / min_hold` bounds the rate at which slots of the key are granted, if all programs
    /// that use the key set it. The time counts from the grant, or from the renewal that confirmed
    /// it, by the clock of the client.
    ///
    /// The slot is free earlier if the process is killed (on etcd after its lease), if the runtime
    /// that acquired the slot ends, if the slot is lost, or after [`close`]. A place in the queue
    /// is given up at once, even if its slot is granted, unless `wait` has returned the slot. A
    /// loss after the release is not reported.
    ///
    /// Valid is any time that is not more than [`max_hold`](Self::max_hold), if that is set.
    ///
    /// [`release`]: Semaphore::release
    /// [`close`]: Semaphore::close
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// use std::time::{Duration, Instant};
    /// use dflock::Semaphore;
    ///
    /// // At most 2 requests at once and 100 a second, on all machines together.
    /// let requests = Semaphore::builder()
    ///     .key("requests")
    ///     .limit(2)
    ///     .min_hold(Duration::from_millis(20))
    ///     .client(server.client())
    ///     .build()?;
    /// let start = Instant::now();
    /// for _ in 0..5 {
    ///     requests.with_slot(async |_| println!("send a request")).await?;
    /// }
    /// assert!(start.elapsed() >= Duration::from_millis(40));
    /// # Ok(()) }
    /// ```
    pub fn min_hold(mut self, min_hold: Duration) -> Self {
        self.options.min_hold = Some(min_hold);
        self
    }

    /// Sets the callback that is called once for each lost slot.
    ///
    /// It mostly runs on the task that renews the lease, so it must not block. It is not called for
    /// slots that are released or dropped. It is called if the runtime on which a slot was acquired
    /// ends while the slot is held. A panic in it is caught and logged.
    pub fn on_lost(mut self, on_lost: impl Fn(&Lost) + Send + Sync + 'static) -> Self {
        self.options.on_lost = Some(Arc::new(on_lost));
        self
    }

    /// Sets how many tasks of this process wait on the server at once. The others wait in a queue
    /// in the process, first come, first served. Defaults to no limit; zero is refused.
    ///
    /// Each waiter on the server needs a connection. With `local_queue(8)`, 800 tasks that wait for
    /// a key use 8 connections and 8 places in the queue of the server, whose number it may limit
    /// (`--max-waiters`).
    ///
    /// The queue belongs to the client, the key and the kind: all handles with the option share it,
    /// and the number of the handle that was built first counts as long as a handle lives.
    /// [`acquire_timeout`](Self::acquire_timeout) includes the wait in it, and a future that is
    /// dropped leaves it. [`try_acquire`](Semaphore::try_acquire) and
    /// [`enqueue`](Semaphore::enqueue) do not wait in it, and neither do handles without the
    /// option.
    ///
    /// # Order
    ///
    /// Tasks of the process leave the queue in the order in which they joined it. With
    /// `local_queue(1)` they also get their slots in that order. With more, the server orders the
    /// few that wait there by the arrival of their requests.
    ///
    /// Programs compete with as many places as they have on the server: one with `local_queue(1)`
    /// and 800 tasks gets one slot in turn with each other waiter.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let client = server.client();
    /// let pool = dflock::Semaphore::builder()
    ///     .key("pool")
    ///     .limit(5)
    ///     .local_queue(8)
    ///     .client(client)
    ///     .build()?;
    /// let held = pool.acquire().await?;
    /// # Ok(()) }
    /// ```
    pub fn local_queue(mut self, waiters: u32) -> Self {
        self.options.local_queue = Some(waiters);
        self
    }

    /// Sets the client. Defaults to [`Client::current`].
    pub fn client(mut self, client: Client) -> Self {
        self.options.client = Some(client);
        self
    }
}

impl<K: Kind, Key> SemaphoreBuilder<K, Key, K::Limit> {
    /// Checks the options. Nothing is sent.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the invalid option and the valid values.
    // By reference, because the compiler looks for methods by value first. So it finds the `build`
    // of a missing limit for a builder whose kind is not inferred, and not the `build` of a lock.
    pub fn build(&self) -> Result<Semaphore<Idle, K>, ConfigError>
    where
        Self: sealed::KeyIsSet,
    {
        let primitive = match K::limit(self.limit) {
            None => Primitive::Lock,
            Some(limit) => {
                Primitive::Semaphore(Limit::new(limit).ok_or(ConfigError::Limit { limit })?)
            }
        };
        let key = sealed::KeyIsSet::text(self);
        let slot = SemaphoreInner::new(key, primitive, &self.options)?;
        Ok(Semaphore::new(Arc::new(slot)))
    }
}

impl<Key> SemaphoreBuilder<Counting, Key, ()> {
    /// Cannot be called: its bound shows an error that names the missing limit.
    #[doc(hidden)]
    pub fn build(self) -> Result<Semaphore, ConfigError>
    where
        Self: sealed::LimitIsSet,
    {
        sealed::LimitIsSet::build(self)
    }
}

mod sealed {
    use super::{ConfigError, Kind, Semaphore, SemaphoreBuilder};

    #[diagnostic::on_unimplemented(
        message = "the key is missing",
        label = "call `key` before `build`"
    )]
    pub trait KeyIsSet {
        fn text(&self) -> &str;
    }

    impl<K: Kind, L> KeyIsSet for SemaphoreBuilder<K, String, L> {
        fn text(&self) -> &str {
            &self.key
        }
    }

    /// Not implemented by any type.
    #[diagnostic::on_unimplemented(
        message = "the limit of the semaphore is missing",
        label = "call `limit` before `build`"
    )]
    pub trait LimitIsSet {
        fn build(self) -> Result<Semaphore, ConfigError>;
    }
}

impl<K: Kind, Key, L> fmt::Debug for SemaphoreBuilder<K, Key, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphoreBuilder").finish_non_exhaustive()
    }
}
