//! The engine on dflockd servers: connections, pools, TLS, authentication and sharding.

mod acquire;
mod acquire_many;
mod auth_token;
mod backoff;
mod call;
mod call_limits;
mod connection;
mod connection_error;
mod connector;
mod dialer;
mod entry;
mod file;
mod idle_connections;
mod lazy_timer;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod pem;
mod pool;
mod resolver;
mod sharding;
mod splitmix;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Id;

pub(crate) use auth_token::{AuthToken, AuthTokenFile};
pub(crate) use backoff::Backoff;
pub(crate) use connection::Connection;
pub(crate) use connection_error::ConnectionError;
pub(crate) use connector::Tcp;
pub use connector::{BoxStream, ConnectFuture, Connector, Stream};
pub(crate) use dialer::Dialer;
pub(crate) use entry::{Entry, EntryError};
pub(crate) use file::Reloadable;
#[cfg(dflock_bench)]
pub(crate) use idle_connections::IdleConnections;
#[cfg(any(feature = "server", feature = "etcd"))]
pub(crate) use lazy_timer::LazyTimer;
#[cfg(all(feature = "server", any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use pem::{Pem, identity};
pub(crate) use pool::Pool;
#[cfg(feature = "server")]
pub(crate) use resolver::Resolver;
pub use sharding::{Crc32, Sharding};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub(crate) use tls::CLIENT_KEY;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use tls::Tls;
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use tls::Tls;
#[cfg(feature = "etcd")]
pub(crate) use tls::classify as classify_tls;
#[cfg(all(feature = "server", any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use tls::provider;

use super::{ReleaseOutcome, ServerId, SlotSpec};
use crate::clock::Instant;
use crate::driver;
use crate::error::{ConfigError, Error, LostReason, Operation};
use crate::wire::{ErrorStatus, Reply, Request, Token};

/// The servers, the idle connections to them, and the means to make new ones.
pub(crate) struct Dflockd {
    /// One for each server, in the order of the configuration; at least one.
    pools: Vec<Pool>,
    sharding: Arc<dyn Sharding>,
    dialer: Arc<Dialer>,
}

impl Dflockd {
    pub(crate) fn new(pools: Vec<Pool>, sharding: Arc<dyn Sharding>, dialer: Arc<Dialer>) -> Self {
        Self {
            pools,
            sharding,
            dialer,
        }
    }

    /// Returns the addresses of the servers as they were configured.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.iter().map(Pool::server)
    }

    /// Returns the server on which `key` lives.
    pub(crate) fn server_for(&self, key: &str) -> Result<ServerId, ConfigError> {
        let servers = self.pools.len();
        let index = self.sharding.shard(key, servers);
        match self.pools.get(index) {
            Some(pool) => Ok(ServerId {
                index,
                name: pool.server().clone(),
            }),
            None => Err(ConfigError::Shard {
                key: key.to_owned(),
                index,
                servers,
            }),
        }
    }

    /// Releases the slot of `token`, and returns the connection of `entry` to the pool. The caller
    /// is on `runtime`, and `sent_at` is now.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which gives up the slot.
    pub(crate) async fn release(
        &self,
        entry: Entry,
        slot: &SlotSpec,
        token: Token,
        (runtime, sent_at): (Id, Instant),
    ) -> Result<ReleaseOutcome, Error> {
        let mut entry = entry;
        if entry.connection.runtime() != Some(runtime)
            && let Err(error) = driver::require_timers()
        {
            // The release is sent but not waited for: the reply would have no time limit.
            entry.abandon(slot, token);
            return Err(error.into());
        }
        entry.connection.rebind_runtime(runtime);
        let pool = self.pool(slot);
        let limit = pool.socket_timeout();
        let (connection, outcome) = if entry.is_single() {
            let call = entry.connection.call(&entry::release(slot, token), limit);
            let (connection, reply) = call
                .await
                .map_err(|error| release_error(pool, slot, sent_at, error))?;
            (connection, release_outcome(slot, &reply)?)
        } else {
            // Boxed: the future is large, and rarely used.
            let called = Box::pin(entry.release_all(slot, token, limit)).await;
            let (connection, replies) =
                called.map_err(|error| release_error(pool, slot, sent_at, error))?;
            let mut outcome = ReleaseOutcome::Released;
            for reply in replies {
                match release_outcome(slot, &reply)? {
                    ReleaseOutcome::Released => {}
                    not_held @ ReleaseOutcome::NotHeld(_) => outcome = not_held,
                }
            }
            (connection, outcome)
        };
        pool.note_reply(sent_at);
        pool.put_back(connection, sent_at);
        Ok(outcome)
    }

    /// Notes that the server of `slot` had not replied to a renewal that was sent at `sent_at` when
    /// the lease expired: idle connections to it may be dead as well.
    pub(crate) fn note_unreachable(&self, slot: &SlotSpec, sent_at: Instant) {
        self.pool(slot).close_unused_since(sent_at);
    }

    /// Closes the idle connections, and keeps none from here on.
    pub(crate) fn close_idle(&self) {
        self.pools.iter().for_each(Pool::close_idle);
    }

    /// Sends a request to every server, one after the other. Any reply will do.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        for pool in &self.pools {
            let context = pool.context(Operation::Ping);
            let response = pool.call_immediate(context, Request::Ping).await?;
            match response.reply {
                Reply::Ok => pool.put_back(response.connection, response.sent_at),
                // The server does not know the command, and some old servers close the connection.
                Reply::Error(ref status) if *status != ErrorStatus::Auth => {}
                reply => return Err(Error::from_reply(context.to_error_context(), &reply)),
            }
        }
        Ok(())
    }

    /// Returns the stats of every server, in the order of the configuration.
    #[cfg(feature = "stats")]
    pub(crate) async fn stats(&self) -> Result<Vec<crate::Stats>, Error> {
        let mut all = Vec::with_capacity(self.pools.len());
        for pool in &self.pools {
            let context = pool.context(Operation::Stats);
            let response = pool.call_immediate(context, Request::Stats).await?;
            match response.reply {
                Reply::Stats(stats) => all.push(*stats),
                reply => return Err(Error::from_reply(context.to_error_context(), &reply)),
            }
            pool.put_back(response.connection, response.sent_at);
        }
        Ok(all)
    }

    /// Returns the pauses between requests for `slot`, each at most `max_bound`.
    pub(crate) fn backoff(&self, slot: &SlotSpec, max_bound: Duration) -> Backoff {
        Backoff::new(self.pool(slot).jitter_seed(), max_bound)
    }

    /// Returns the time on the clock of the leases.
    pub(crate) fn now(&self) -> Instant {
        self.pools[0].now()
    }

    /// The pool of the server of `slot`, which came from [`server_for`](Self::server_for).
    fn pool(&self, slot: &SlotSpec) -> &Pool {
        &self.pools[slot.server.index]
    }
}

/// Returns the error of a release that was sent at `sent_at` and has no reply.
fn release_error(pool: &Pool, slot: &SlotSpec, sent_at: Instant, error: ConnectionError) -> Error {
    if let ConnectionError::Timeout(_) = error {
        pool.close_unused_since(sent_at);
    }
    error.into_error(slot.context(Operation::Release))
}

/// Returns the outcome of a release. After an error the server may still count the slot as held
/// until the connection closes, so the connection is not reused.
fn release_outcome(slot: &SlotSpec, reply: &Reply) -> Result<ReleaseOutcome, Error> {
    match reply {
        Reply::Ok => Ok(ReleaseOutcome::Released),
        Reply::Error(ErrorStatus::Unspecified | ErrorStatus::LeaseExpired) => {
            Ok(ReleaseOutcome::NotHeld(LostReason::Rejected))
        }
        reply => Err(Error::from_reply(slot.context(Operation::Release), reply)),
    }
}

impl fmt::Debug for Dflockd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers().collect();
        f.debug_struct("Dflockd")
            .field("servers", &servers)
            .field("dialer", &self.dialer)
            .finish_non_exhaustive()
    }
}
