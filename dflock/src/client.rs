//! The client: servers, connections and timeouts.

mod address;
mod builder;
mod current;
mod env;

use std::fmt;
use std::sync::Arc;

pub use builder::ClientBuilder;
#[cfg(feature = "server")]
pub(crate) use builder::LONGEST;

use crate::engine::Engine;
use crate::error::{ConfigError, Error};
use crate::lease::Timing;
use crate::semaphore::{Lock, Semaphore};

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
    timing: Arc<Timing>,
    fencing: bool,
}

impl Client {
    /// Returns a builder of a client. Every option has a default.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Returns a semaphore of `key` and `limit` on this client, with default options.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the key or the limit is invalid.
    pub fn semaphore(&self, key: impl Into<String>, limit: u32) -> Result<Semaphore, ConfigError> {
        Semaphore::builder()
            .key(key)
            .limit(limit)
            .client(self.clone())
            .build()
    }

    /// Returns a lock of `key` on this client, with default options.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the key is invalid.
    pub fn lock(&self, key: impl Into<String>) -> Result<Lock, ConfigError> {
        Lock::builder().key(key).client(self.clone()).build()
    }

    /// Returns the configured servers, each `host:port`.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.inner.engine.servers().map(|server| &**server)
    }

    /// Sends a request to every server in turn, and waits for the replies.
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

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }

    pub(crate) fn timing(&self) -> &Arc<Timing> {
        &self.inner.timing
    }

    pub(crate) fn fencing(&self) -> bool {
        self.inner.fencing
    }
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
