//! Where the servers are, and how to reach them.

mod address;
mod builder;
mod current;
mod env;

use std::fmt;
use std::sync::Arc;

pub use builder::ClientBuilder;
#[cfg(feature = "server")]
pub(crate) use builder::LONGEST;

use crate::error::{ConfigError, Error, Operation};
use crate::lease::Timing;
use crate::lock::Lock;
use crate::semaphore::Semaphore;
use crate::shard::Sharding;
use crate::transport::{Ask, Dialer, Pool};
use crate::wire::{Reply, Request, Status};

/// The servers, how to reach them, and the idle connections to them. Cheap to clone; clones share the connections.
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
    pools: Vec<Pool>,
    sharding: Arc<dyn Sharding>,
    dialer: Arc<Dialer>,
    timing: Arc<Timing>,
    fencing: bool,
}

impl Client {
    /// The options of a new client; every one has a default.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A semaphore of `key` and `limit` on this client, with defaults for everything else.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the key or the limit is refused.
    pub fn semaphore(&self, key: impl Into<String>, limit: u32) -> Result<Semaphore, ConfigError> {
        Semaphore::builder()
            .key(key)
            .limit(limit)
            .client(self.clone())
            .build()
    }

    /// A lock of `key` on this client, with defaults for everything else.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the key is refused.
    pub fn lock(&self, key: impl Into<String>) -> Result<Lock, ConfigError> {
        Lock::builder().key(key).client(self.clone()).build()
    }

    /// The servers as they were configured, `host:port`.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.inner.pools.iter().map(|pool| &**pool.server())
    }

    /// Asks every server for an answer, one after the other. Any answer in time will do: old servers do not know the question.
    ///
    /// # Errors
    ///
    /// The first server's that could not be reached or did not take the secret.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// server.client().ping().await?;
    /// # Ok(()) }
    /// ```
    pub async fn ping(&self) -> Result<(), Error> {
        for pool in &self.inner.pools {
            let context = || pool.context(Operation::Ping, None);
            let limit = self.inner.timing.socket_timeout;
            let answer = pool
                .call(pool.now(), &context, &|_| Ask::prompt(Request::Ping, limit))
                .await;
            let answer = answer.map_err(|why| why.into_error(context(), limit))?;
            match answer.reply {
                Reply::Ok => pool.give(answer.connection, answer.asked),
                reply @ Reply::Refused(Status::Auth) => {
                    return Err(Error::unexpected(context(), &reply));
                }
                // it may close now, as some old servers do
                Reply::Refused(_) => {}
                reply => return Err(Error::unexpected(context(), &reply)),
            }
        }
        Ok(())
    }

    /// Asks every server who holds what; one entry for each, in the order in which they were configured.
    ///
    /// # Errors
    ///
    /// The first server's that could not be reached or did not answer in the protocol.
    /// [`Error::StatsTooLarge`] for a reply over [`max_stats_size`](ClientBuilder::max_stats_size).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let client = server.client();
    /// let held = client.semaphore("pool", 5)?.acquire().await?;
    /// let stats = client.stats().await?;
    /// assert_eq!(stats[0].semaphores[0].holders, 1);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "stats")]
    pub async fn stats(&self) -> Result<Vec<crate::Stats>, Error> {
        let mut all = Vec::with_capacity(self.inner.pools.len());
        for pool in &self.inner.pools {
            let context = || pool.context(Operation::Stats, None);
            let limit = self.inner.timing.socket_timeout;
            let answer = pool
                .call(pool.now(), &context, &|_| {
                    Ask::prompt(Request::Stats, limit)
                })
                .await;
            let answer = answer.map_err(|why| why.into_error(context(), limit))?;
            match answer.reply {
                Reply::Stats(stats) => all.push(*stats),
                reply => return Err(Error::unexpected(context(), &reply)),
            }
            pool.give(answer.connection, answer.asked);
        }
        Ok(all)
    }

    /// The index of the server that `key` lives on.
    pub(crate) fn shard(&self, key: &str) -> Result<usize, ConfigError> {
        let servers = self.inner.pools.len();
        let index = self.inner.sharding.shard(key, servers);
        let index = if cfg!(dflock_mutant = "first_shard_only") {
            0
        } else {
            index
        };
        if index < servers {
            Ok(index)
        } else {
            Err(ConfigError::Shard {
                key: key.to_owned(),
                index,
                servers,
            })
        }
    }

    /// The connections to the server of `shard`, an index that [`shard`](Self::shard) gave.
    pub(crate) fn pool(&self, shard: usize) -> &Pool {
        &self.inner.pools[shard]
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
        let servers: Vec<_> = self.inner.pools.iter().map(Pool::server).collect();
        f.debug_struct("Client")
            .field("servers", &servers)
            .field("dialer", &self.inner.dialer)
            .field("timing", &self.inner.timing)
            .field("fencing", &self.inner.fencing)
            .finish_non_exhaustive()
    }
}
