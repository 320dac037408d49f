//! The client: servers, connections and timeouts.

mod address;
mod adopted_limits;
mod builder;
mod env;
mod local_queues;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use address::is_local;
pub(crate) use adopted_limits::AdoptedLimits;
pub use builder::ClientBuilder;
#[cfg(feature = "server")]
pub(crate) use builder::MAX_TIMEOUT;
pub use env::env_variables;
pub(crate) use local_queues::LocalQueue;
use local_queues::LocalQueues;

use crate::Holder;
use crate::engine::Engine;
use crate::error::{ConfigError, Error};
use crate::lease::{HoldRegistry, LeaseTiming};
use crate::limit_mismatch::LimitMismatch;
use crate::wire::{KeyBuf, Token};

/// A client: the servers, the options of their connections, and the idle connections.
///
/// It is cheap to clone. Clones share the connections.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dflock::Client;
///
/// let client = Client::builder()
///     .servers(["lock-1:6388", "lock-2:6388"])
///     .connect_timeout(Duration::from_secs(2))
///     .build()?;
/// let pool = client.semaphore("worker-pool", 5)?;
/// # Ok::<(), dflock::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    timing: Arc<LeaseTiming>,
    fencing: bool,
    on_limit_mismatch: LimitMismatch,
    adopted_limits: Arc<AdoptedLimits>,
    holds: Arc<HoldRegistry>,
    local_queues: LocalQueues,
}

/// The client of [`Client::install_global`].
static GLOBAL: OnceLock<Client> = OnceLock::new();

/// The client of the environment, made on first use and kept, so that its connections are reused.
static FROM_ENV: OnceLock<Client> = OnceLock::new();

tokio::task_local! {
    /// The client of [`Client::scope`].
    static SCOPED: Client;
}

impl Client {
    /// Returns a builder of a client. Every option has a default.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Returns the configured servers, each `host:port`.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.inner
            .engine
            .servers()
            .into_iter()
            .map(|server| &**server)
    }

    /// Makes this the default client of the program. This succeeds only once.
    ///
    /// # Errors
    ///
    /// [`ConfigError::GlobalInstalled`] if a client is already installed.
    pub fn install_global(self) -> Result<(), ConfigError> {
        GLOBAL.set(self).map_err(|_| ConfigError::GlobalInstalled)
    }

    /// Makes this the default client of the current task while `future` runs.
    ///
    /// Tests that use it can run side by side. Tasks that `future` spawns need their own scope.
    ///
    /// # Cancel safety
    ///
    /// The same as that of `future`.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::{Client, Semaphore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// server
    ///     .client()
    ///     .scope(async {
    ///         let held = Semaphore::builder().key("pool").limit(5).build()?.acquire().await?;
    ///         held.release().await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        SCOPED.scope(self, future)
    }

    /// Returns the client of the innermost [`scope`](Self::scope), or else the global client.
    ///
    /// Without either, the first call makes a client from the environment with
    /// [`from_env`](Self::from_env), and later calls return the same client.
    ///
    /// # Errors
    ///
    /// The errors of [`from_env`](Self::from_env), if the call makes the client from the
    /// environment.
    pub fn current() -> Result<Self, ConfigError> {
        if let Ok(client) = SCOPED.try_with(Self::clone) {
            return Ok(client);
        }
        if let Some(client) = GLOBAL.get().or_else(|| FROM_ENV.get()) {
            return Ok(client.clone());
        }
        let client = Self::from_env()?;
        Ok(FROM_ENV.get_or_init(|| client).clone())
    }

    /// Sends a request to every server in turn, and waits for the replies. On etcd it sends a read
    /// to the cluster.
    ///
    /// Any reply in time is a success, because old servers do not know the command.
    ///
    /// # Errors
    ///
    /// The error of the first server that could not be reached or refused the auth token.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// server.client().ping().await?;
    /// # Ok(()) }
    /// ```
    pub async fn ping(&self) -> Result<(), Error> {
        self.inner.engine.ping().await
    }

    /// Returns the held and queued keys of every server, one entry per server in the configured
    /// order.
    ///
    /// # Errors
    ///
    /// The error of the first server that could not be reached or sent an invalid reply.
    /// [`Error::StatsTooLarge`] for a reply longer than
    /// [`max_stats_size`](ClientBuilder::max_stats_size).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let client = server.client();
    /// let held = client.semaphore("pool", 5)?.acquire().await?;
    /// let stats = client.stats().await?;
    /// assert_eq!(stats[0].semaphores[0].holders, 1);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "stats")]
    pub async fn stats(&self) -> Result<Vec<crate::Stats>, Error> {
        self.inner.engine.stats().await
    }

    /// Returns the holders of `key`: that of the lock first, then those of the semaphore in the order
    /// of their grants.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] on dflockd, which does not list them. [`ConfigError`] if the key is
    /// invalid. Other errors if the cluster cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn holders(&self, key: &str) -> Result<Vec<Holder>, Error> {
        self.inner.engine.holders(validate_key(key)?).await
    }

    /// Takes the slot, or the place in the queue, of `token` away. Returns whether there was one.
    ///
    /// The holder gets [`Lost`](crate::Lost) with the reason
    /// [`Revoked`](crate::LostReason::Revoked), at the latest at its next renewal, after a third of
    /// its lease. The next waiter holds at once, so both may run until then.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] on dflockd. [`ConfigError`] if the key is invalid. Other errors if
    /// the cluster cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not undo the revocation.
    pub async fn revoke(&self, key: &str, token: &Token) -> Result<bool, Error> {
        self.inner.engine.revoke(validate_key(key)?, *token).await
    }

    /// Closes the client and all its clones, and waits until no slot is held through them.
    ///
    /// From the first poll of the future on, every acquire and every wait in a queue fails with
    /// [`Error::Closed`], including those that have begun. Idle connections are closed, and places
    /// in queues are given up. Slots that are held stay held and are renewed until their owners
    /// release or drop them, or until they are lost; the future then completes. Give it a time
    /// limit if an owner may not end. On etcd it also waits until the slots that were dropped are
    /// free, for 5 s at most, so it should be the last call of a program.
    ///
    /// A closed client stays closed. [`ping`](Self::ping) and [`stats`](Self::stats) still work.
    /// Further calls wait as the first one does.
    ///
    /// # Cancel safety
    ///
    /// The client stays closed when the future is dropped. Call `close` again to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let client = server.client();
    /// let pool = client.semaphore("pool", 1)?;
    /// let held = pool.clone().acquire().await?;
    /// let worker = tokio::spawn(async move { held.release().await });
    ///
    /// client.close().await;
    /// worker.await??;
    /// assert!(pool.acquire().await.unwrap_err().is_closed());
    /// # Ok(()) }
    /// ```
    pub async fn close(&self) {
        self.inner.holds.close();
        self.inner.engine.close_idle();
        self.inner.holds.emptied().await;
        self.inner.engine.shut_down().await;
    }

    /// Returns whether [`close`](Self::close) was called on this client or a clone of it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.holds.is_closed()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }

    pub(crate) fn timing(&self) -> &Arc<LeaseTiming> {
        &self.inner.timing
    }

    pub(crate) fn holds(&self) -> &Arc<HoldRegistry> {
        &self.inner.holds
    }

    pub(crate) fn local_queues(&self) -> &LocalQueues {
        &self.inner.local_queues
    }

    pub(crate) fn fencing(&self) -> bool {
        self.inner.fencing
    }

    pub(crate) fn on_limit_mismatch(&self) -> LimitMismatch {
        self.inner.on_limit_mismatch
    }

    pub(crate) fn adopted_limits(&self) -> &Arc<AdoptedLimits> {
        &self.inner.adopted_limits
    }
}

fn validate_key(key: &str) -> Result<Arc<str>, ConfigError> {
    let valid = KeyBuf::new(key).map_err(|why| ConfigError::key(key, why))?;
    Ok(valid.as_shared().clone())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("engine", &self.inner.engine)
            .field("timing", &self.inner.timing)
            .field("fencing", &self.inner.fencing)
            .finish_non_exhaustive()
    }
}
