//! The blocking client, and the end of the builder that makes it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::background::Background;
use super::semaphore::{Lock, Semaphore};
use crate::client::ClientBuilder;
use crate::error::{ConfigError, Error};
use crate::holder::Holder;
use crate::wire::Token;

/// A [client](crate::Client) for programs without async, with a background thread.
///
/// It is cheap to clone. Clones share the connections and the thread.
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
///     .build_blocking()?;
/// let pool = client.semaphore("worker-pool", 5)?;
/// # Ok::<(), dflock::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Client {
    // Dropped before the thread that drives it.
    pub(super) client: crate::Client,
    pub(super) background: Arc<Background>,
}

impl ClientBuilder {
    /// Checks the options, and starts the thread of a [`blocking::Client`](Client). Nothing is
    /// sent.
    ///
    /// # Errors
    ///
    /// The errors of [`build`](Self::build), and [`ConfigError::BackgroundThread`].
    ///
    /// # Examples
    ///
    /// ```
    /// let client = dflock::Client::builder().servers(["lock-1:6388"]).build_blocking()?;
    /// # Ok::<(), dflock::ConfigError>(())
    /// ```
    pub fn build_blocking(self) -> Result<Client, ConfigError> {
        let client = self.build()?;
        let background = Background::start(client.holds().clone())?;
        Ok(Client { client, background })
    }
}

impl Client {
    /// Returns a client with the options of the environment variables of
    /// [`dflock::Client::from_env`](crate::Client::from_env).
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the invalid variable, and [`ConfigError::BackgroundThread`].
    ///
    /// # Examples
    ///
    /// ```
    /// let client = dflock::blocking::Client::from_env()?;
    /// println!("{:?}", client.servers().collect::<Vec<_>>()); // ["127.0.0.1:6388"] by default
    /// # Ok::<(), dflock::ConfigError>(())
    /// ```
    pub fn from_env() -> Result<Self, ConfigError> {
        ClientBuilder::from_env()?.build_blocking()
    }

    /// Returns the configured servers, each `host:port`.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.client.servers()
    }

    /// Returns a semaphore of `key` and `limit` on this client, with default options.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the key or the limit is invalid.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// let held = client.semaphore("pool", 5)?.acquire()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn semaphore(&self, key: impl Into<String>, limit: u32) -> Result<Semaphore, ConfigError> {
        let semaphore = self.client.semaphore(key, limit)?;
        Ok(Semaphore::new(semaphore, self.background.clone()))
    }

    /// Returns a lock of `key` on this client, with default options.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the key is invalid.
    ///
    /// # Examples
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # let server = runtime.block_on(dflock::server::Server::start())?;
    /// # let client = server.client_builder().build_blocking()?;
    /// let held = client.lock("nightly")?.acquire()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock(&self, key: impl Into<String>) -> Result<Lock, ConfigError> {
        let lock = self.client.lock(key)?;
        Ok(Lock::new(lock, self.background.clone()))
    }

    /// Sends a request to every server in turn, and waits for the replies. On etcd it sends a read
    /// to the cluster, as [`dflock::Client::ping`](crate::Client::ping) does.
    ///
    /// # Errors
    ///
    /// The error of the first server that could not be reached or refused the auth token.
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
    /// client.ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn ping(&self) -> Result<(), Error> {
        self.background.block_on(self.client.ping())
    }

    /// Returns the held and queued keys of every server, one entry per server in the configured
    /// order.
    ///
    /// # Errors
    ///
    /// See [`dflock::Client::stats`](crate::Client::stats).
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
    /// let held = client.semaphore("pool", 5)?.acquire()?;
    /// let stats = client.stats()?;
    /// assert_eq!(stats[0].semaphores[0].holders, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "stats")]
    #[track_caller]
    pub fn stats(&self) -> Result<Vec<crate::Stats>, Error> {
        self.background.block_on(self.client.stats())
    }

    /// Returns the holders of `key`: those of the lock first, then those of the semaphore, each in
    /// the order of its grants.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] on dflockd; otherwise see
    /// [`dflock::Client::holders`](crate::Client::holders).
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let client = dflock::blocking::Client::from_env()?;
    /// for holder in client.holders("worker-pool")? {
    ///     println!("{} on {}, process {}", holder.program, holder.host, holder.pid);
    /// }
    /// # Ok::<(), dflock::Error>(())
    /// ```
    #[track_caller]
    pub fn holders(&self, key: &str) -> Result<Vec<Holder>, Error> {
        self.background.block_on(self.client.holders(key))
    }

    /// Takes the slot, or the place in the queue, of `token` away. Returns whether there was one.
    ///
    /// [`dflock::Client::revoke`](crate::Client::revoke) describes the effect on the holder.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] on dflockd; otherwise see
    /// [`dflock::Client::revoke`](crate::Client::revoke).
    ///
    /// # Panics
    ///
    /// Inside of an async runtime.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let client = dflock::blocking::Client::from_env()?;
    /// for holder in client.holders("worker-pool")? {
    ///     client.revoke("worker-pool", &holder.token)?;
    /// }
    /// # Ok::<(), dflock::Error>(())
    /// ```
    #[track_caller]
    pub fn revoke(&self, key: &str, token: &Token) -> Result<bool, Error> {
        self.background.block_on(self.client.revoke(key, token))
    }

    /// Closes the client and all its clones, and waits until no slot is held through them.
    ///
    /// All acquires and waits on other threads end at once with [`Error::Closed`].
    /// [`dflock::Client::close`](crate::Client::close) has the details. A thread that calls this
    /// while it holds a slot itself waits until that slot is lost.
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
    /// let pool = client.semaphore("pool", 1)?;
    /// let held = pool.clone().acquire()?;
    /// let worker = std::thread::spawn(move || held.release());
    ///
    /// client.close();
    /// worker.join().unwrap()?;
    /// assert!(pool.acquire().unwrap_err().is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn close(&self) {
        self.background.block_on(self.client.close());
    }

    /// Like [`close`](Self::close), but waits for at most `wait`. Returns whether no slot is held
    /// any more. The client stays closed if one is.
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
    /// let held = client.semaphore("pool", 1)?.acquire()?;
    /// assert!(!client.close_within(Duration::from_millis(20)));
    /// drop(held);
    /// assert!(client.close_within(Duration::ZERO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "a slot may still be held"]
    #[track_caller]
    pub fn close_within(&self, wait: Duration) -> bool {
        let close = async { timeout(wait, self.client.close()).await };
        self.background.block_on(close).is_ok()
    }

    /// Returns whether [`close`](Self::close) was called on this client or a clone of it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}
