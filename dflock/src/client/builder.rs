//! The builder of a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::address::{Servers, is_local, printable_address};
use super::local_queues::LocalQueues;
use super::{AdoptedLimits, Client, Inner};
use crate::engine::Engine;
use crate::engine::dflockd::{
    AuthToken, AuthTokenFile, Connector, Crc32, Dflockd, Dialer, Pool, Reloadable, Sharding, Tcp,
    Tls,
};
#[cfg(feature = "etcd")]
use crate::engine::etcd::{self, Etcd};
use crate::error::ConfigError;
use crate::lease::{LeaseTiming, MAX_RENEW_FRACTION};
use crate::limit_mismatch::LimitMismatch;
use crate::wire::{MAX_STATS, MIN_STATS};

/// The part of the server's read timeout for which an idle connection is kept. After that it is not
/// reused, because the server is about to close it.
const IDLE_FRACTION: f64 = 0.75;

/// The read timeout of a server without the option `--read-timeout`.
const SERVER_READ_TIMEOUT: Duration = Duration::from_secs(23);

/// The heartbeat for servers with at least that read timeout.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// The longest valid timeout. A longer one is taken for a mistake.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_hours(100 * 365 * 24);

/// The range of timeouts, as the end of an error message.
pub(super) const TIMEOUT_RANGE: &str = "it must be more than zero and less than a century";

/// Builder of a [`Client`], returned by [`Client::builder`].
///
/// Every option has a default. [`build`](Self::build) checks the options.
#[derive(Clone)]
pub struct ClientBuilder {
    servers: Vec<String>,
    sharding: Arc<dyn Sharding>,
    connector: Option<Arc<dyn Connector>>,
    tls: Option<Tls>,
    /// The auth token. `build` returns the error, if there is one.
    auth_token: Result<Option<Reloadable<AuthTokenFile>>, ConfigError>,
    connect_timeout: Duration,
    socket_timeout: Duration,
    /// If `None`, it is derived from `server_read_timeout`.
    heartbeat: Option<Duration>,
    server_read_timeout: Duration,
    clock_drift: f64,
    fencing: bool,
    max_stats_size: usize,
    max_connection_age: Duration,
    #[cfg(feature = "etcd")]
    etcd_prefix: String,
    on_limit_mismatch: LimitMismatch,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            servers: vec!["127.0.0.1:6388".to_owned()],
            sharding: Arc::new(Crc32),
            connector: None,
            tls: None,
            auth_token: Ok(None),
            connect_timeout: Duration::from_secs(5),
            socket_timeout: Duration::from_secs(5),
            heartbeat: None,
            server_read_timeout: SERVER_READ_TIMEOUT,
            clock_drift: 0.01,
            fencing: false,
            max_stats_size: MAX_STATS,
            max_connection_age: Duration::from_mins(5),
            #[cfg(feature = "etcd")]
            etcd_prefix: "dflock/".to_owned(),
            on_limit_mismatch: LimitMismatch::Fail,
        }
    }
}

impl ClientBuilder {
    /// Sets the servers, each `host:port`, with an IPv6 address in brackets. Defaults to
    /// `127.0.0.1:6388`.
    ///
    /// `dflockd://host:port` means the same. With `etcd://host:port` (feature `etcd`) the servers
    /// are the members of one etcd cluster, in any order. Servers of both kinds are refused.
    ///
    /// With several servers of dflockd, [`sharding`](Self::sharding) distributes the keys. All
    /// programs must then configure the same list in the same order.
    #[must_use]
    pub fn servers<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.servers = servers.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the function that maps a key to a server. Defaults to [`Crc32`], as in the other
    /// dflockd clients.
    ///
    /// A closure `|key: &str, servers: usize| ..` with type annotations works, too. The option has
    /// no effect on etcd.
    #[must_use]
    pub fn sharding(mut self, sharding: impl Sharding) -> Self {
        self.sharding = Arc::new(sharding);
        self
    }

    /// Sets the connector, which opens byte streams to servers and provides the clock of the
    /// leases. Defaults to TCP.
    #[must_use]
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Enables TLS to all servers, over the stream of the [`connector`](Self::connector). Off by
    /// default.
    ///
    /// The certificate of a server must be valid for its configured host, or for
    /// [`Tls::server_name`]. The handshake counts towards
    /// [`connect_timeout`](Self::connect_timeout).
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Returns the TLS options that are set.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    pub(crate) fn tls_options(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Sets the auth token that the servers require. Defaults to none; an empty token is none. On
    /// etcd it is the user and its password, `name:password`.
    ///
    /// A token that begins or ends with an invisible character, such as a zero-width space, is
    /// refused. A byte order mark at its start is removed.
    ///
    /// On dflockd the token is the first thing sent on every new connection, and servers before
    /// v1.15 accept at most 256 bytes. It is never printed, and wiped from memory with the last
    /// clone of the client.
    ///
    /// Without TLS the token is sent in clear text; `build` logs a `tracing` warning for every
    /// server that is not on this machine. It logs none with a custom
    /// [`connector`](Self::connector), whose destination it does not know.
    #[must_use]
    pub fn auth(mut self, token: impl Into<String>) -> Self {
        let token = AuthToken::new(Zeroizing::new(token.into()));
        let token = token.map_err(|kind| ConfigError::AuthToken { kind });
        self.auth_token = token.map(|token| token.map(Reloadable::from_value));
        self
    }

    /// Sets the file that contains the auth token, in place of [`auth`](Self::auth).
    ///
    /// White space around the token and a byte order mark before it are ignored.
    ///
    /// The file is read now, and again before a new connection if it has changed. The token can
    /// thus be replaced while the program runs. Open connections stay open. If the changed file
    /// cannot be used, the last good token is kept, and an event is emitted
    /// ([`telemetry`](crate::telemetry)).
    ///
    /// Each new connection checks the file's metadata, on the thread of the task that connects. The
    /// file should therefore be on a local file system. Anything but a regular file, such as a
    /// pipe, is read once.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), dflock::ConfigError> {
    /// let client = dflock::Client::builder().auth_file("/run/secrets/dflock").build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn auth_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.auth_token = AuthTokenFile::open(path.into()).map(Some);
        self
    }

    /// Sets the auth token that [`from_env`](Self::from_env) parsed.
    pub(super) fn auth_token(mut self, token: Option<Reloadable<AuthTokenFile>>) -> Self {
        self.auth_token = Ok(token);
        self
    }

    /// Sets the longest time to connect, including the TLS handshake. Defaults to 5 s; zero is
    /// refused.
    ///
    /// An `acquire` also limits it to its own wait. On etcd a connection has a fifth of
    /// [`socket_timeout`](Self::socket_timeout), so a longer value has no effect.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the longest time for a reply that the server sends without waiting. Defaults to 5 s;
    /// zero is refused.
    ///
    /// It does not apply while the server may block, nor to renewals, which have time until the
    /// lease expires. On etcd it limits one request on all members together, and one member has a
    /// fifth of it to connect and answer.
    #[must_use]
    pub fn socket_timeout(mut self, timeout: Duration) -> Self {
        self.socket_timeout = timeout;
        self
    }

    /// Sets the longest time between two renewals of a slot.
    ///
    /// Defaults to 8 s, or to a third of [`server_read_timeout`](Self::server_read_timeout) if that
    /// is less than 23 s. It must be less than `server_read_timeout` less
    /// [`clock_drift`](Self::clock_drift). On etcd it limits no renewal.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Sets the `--read-timeout` of the servers. Defaults to 23 s, the default of the servers.
    ///
    /// A server that receives nothing for this long frees the slot, regardless of its lease. The
    /// client therefore treats a slot as lost after this time without a renewal. Give the smallest
    /// value of all servers. The [`heartbeat`](Self::heartbeat) is derived from it, unless it is
    /// set. On etcd it has no other effect.
    #[must_use]
    pub fn server_read_timeout(mut self, timeout: Duration) -> Self {
        self.server_read_timeout = timeout;
        self
    }

    /// Sets the largest difference between the rates of two clocks. Defaults to 0.01, which is 1 %.
    ///
    /// Valid are values from 0 to less than 0.5.
    #[must_use]
    pub fn clock_drift(mut self, drift: f64) -> Self {
        self.clock_drift = drift;
        self
    }

    /// Sets whether the tokens contain a fence, as those of servers from v2.1 on do. Defaults to
    /// `false`.
    ///
    /// The tokens of older servers look the same, but are random.
    ///
    /// The option has no effect on etcd, and with servers that send a fence beside the token.
    /// [`Held::fence`](crate::Held::fence) returns that fence in either case.
    #[must_use]
    pub fn fencing(mut self, fencing: bool) -> Self {
        self.fencing = fencing;
        self
    }

    /// Sets the longest reply to [`Client::stats`] that is read, in bytes. Defaults to 64 MiB
    /// (67,108,864), enough for about half a million held keys of some 125 bytes each. Less than 1
    /// KiB (1,024) is refused.
    ///
    /// A longer reply fails with [`Error::StatsTooLarge`](crate::Error::StatsTooLarge). The limit
    /// also applies to the reply that gives the other limit in a
    /// [`LimitMismatch`](crate::Error::LimitMismatch). If that is too long, the error contains only
    /// the requested limit. A reply takes up to four times its size in memory while it is read. The
    /// option has no effect on etcd.
    #[cfg(feature = "stats")]
    #[must_use]
    pub fn max_stats_size(mut self, bytes: usize) -> Self {
        self.max_stats_size = bytes;
        self
    }

    /// Sets the age at which an idle connection is closed instead of reused. Defaults to 5 minutes;
    /// zero is refused.
    ///
    /// The option has no effect on etcd, where a client keeps one connection.
    ///
    /// Each connection expires up to a tenth earlier, by a different part for each, because
    /// connections that were opened together would otherwise be replaced together.
    ///
    /// The new connection resolves the name of the server again. The age therefore limits the time
    /// for which a client uses an old address after the name has moved. A connection that holds a
    /// slot or waits for one is never closed because of its age.
    /// [`guide::sharding`](crate::guide::sharding) describes how to move a server.
    ///
    /// The default is a compromise. One name resolution and one handshake each 5 minutes cost
    /// little, and DNS records are rarely cached for less.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let client = dflock::Client::builder()
    ///     .servers(["lock-1.internal:6388"])
    ///     .max_connection_age(Duration::from_secs(60))
    ///     .build()?;
    /// # Ok::<(), dflock::ConfigError>(())
    /// ```
    #[must_use]
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.max_connection_age = age;
        self
    }

    /// Sets the prefix of all keys in etcd. Defaults to `dflock/`; a slash is added where it is
    /// missing.
    ///
    /// Clients with different prefixes share no key. Control characters are refused. Without
    /// `etcd://` servers the option has no effect.
    #[cfg(feature = "etcd")]
    #[must_use]
    pub fn etcd_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.etcd_prefix = prefix.into();
        self
    }

    /// Sets the reaction of the client's semaphores to a key that is in use with another limit.
    /// Defaults to [`LimitMismatch::Fail`].
    ///
    /// A semaphore with its own
    /// [`on_limit_mismatch`](crate::SemaphoreBuilder::on_limit_mismatch) ignores it.
    #[must_use]
    pub fn on_limit_mismatch(mut self, on_limit_mismatch: LimitMismatch) -> Self {
        self.on_limit_mismatch = on_limit_mismatch;
        self
    }

    /// Checks the options and returns the client. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the invalid option and the valid values.
    pub fn build(self) -> Result<Client, ConfigError> {
        let servers = Servers::parse(self.servers.iter().map(String::as_str))?;
        for server in servers.iter() {
            self.tls.as_ref().map_or(Ok(()), |tls| tls.check(server))?;
        }
        if !(self.clock_drift >= 0.0 && self.clock_drift < 0.5) {
            return Err(ConfigError::ClockDrift {
                drift: self.clock_drift,
            });
        }
        if self.max_stats_size < MIN_STATS {
            return Err(ConfigError::MaxStatsSize {
                bytes: self.max_stats_size,
            });
        }
        #[cfg(feature = "etcd")]
        if self.etcd_prefix.contains(char::is_control) {
            return Err(ConfigError::EtcdPrefix {
                prefix: self.etcd_prefix,
            });
        }
        let heartbeat = self
            .heartbeat
            .unwrap_or_else(|| default_heartbeat(self.server_read_timeout));
        for (option, given) in [
            ("connect_timeout", self.connect_timeout),
            ("socket_timeout", self.socket_timeout),
            ("server_read_timeout", self.server_read_timeout),
            ("heartbeat", heartbeat),
            ("max_connection_age", self.max_connection_age),
        ] {
            if !is_valid_timeout(given) {
                let allowed = TIMEOUT_RANGE;
                return Err(ConfigError::Duration {
                    option,
                    given,
                    allowed,
                });
            }
        }
        let max_silence = self.server_read_timeout.mul_f64(1.0 - self.clock_drift);
        // A member of etcd frees no slot because of silence.
        if heartbeat >= max_silence && matches!(servers, Servers::Dflockd(_)) {
            let allowed = "it must be less than `server_read_timeout` less `clock_drift`";
            return Err(ConfigError::Duration {
                option: "heartbeat",
                given: heartbeat,
                allowed,
            });
        }
        let auth_token = self.auth_token?;
        crate::telemetry::describe();
        if auth_token.is_some() && self.tls.is_none() && self.connector.is_none() {
            // The destination of a custom connector is not known.
            for server in servers.iter().filter(|server| !is_local(server)) {
                crate::telemetry::warn_plaintext_token(server);
            }
        }
        let connector = self
            .connector
            .unwrap_or_else(|| Arc::new(tcp(heartbeat, max_silence, self.connect_timeout)));
        let timing = LeaseTiming {
            clock: connector.clock(),
            socket_timeout: self.socket_timeout,
            heartbeat,
            max_sleep: heartbeat,
            server_read_timeout: self.server_read_timeout,
            clock_drift: self.clock_drift,
        };
        let (engine, timing) = match servers {
            Servers::Dflockd(servers) => {
                let dialer = Arc::new(Dialer {
                    connector,
                    tls: self.tls,
                    auth_token,
                    connect_timeout: self.connect_timeout,
                    socket_timeout: self.socket_timeout,
                    max_stats_size: self.max_stats_size,
                });
                let max_idle = self.server_read_timeout.mul_f64(IDLE_FRACTION);
                let pool = |server: String| {
                    let (dialer, clock) = (dialer.clone(), timing.clock.clone());
                    Pool::new(
                        server.into(),
                        dialer,
                        clock,
                        max_idle,
                        self.max_connection_age,
                    )
                };
                let pools = servers.into_iter().map(pool).collect();
                let dflockd = Dflockd::new(pools, self.sharding, dialer);
                (Engine::Dflockd(dflockd), timing)
            }
            #[cfg(feature = "etcd")]
            Servers::Etcd(members) => {
                if let Some(token) = &auth_token
                    && !token.current().as_str().contains(':')
                {
                    return Err(ConfigError::EtcdUser);
                }
                let etcd = Etcd::new(etcd::Config {
                    members: members.into_iter().map(Into::into).collect(),
                    prefix: self.etcd_prefix,
                    connector,
                    tls: self.tls,
                    user: auth_token,
                    request_timeout: self.socket_timeout,
                    clock_drift: self.clock_drift,
                });
                // Silence ends no slot, so it limits no renewal.
                let timing = LeaseTiming {
                    heartbeat: MAX_TIMEOUT,
                    server_read_timeout: MAX_TIMEOUT,
                    ..timing
                };
                (Engine::Etcd(etcd), timing)
            }
            #[cfg(not(feature = "etcd"))]
            Servers::Etcd(_) => return Err(ConfigError::NoServers),
        };
        let (engine, timing) = (Arc::new(engine), Arc::new(timing));
        Ok(Client {
            inner: Arc::new(Inner {
                engine,
                timing,
                fencing: self.fencing,
                on_limit_mismatch: self.on_limit_mismatch,
                adopted_limits: Arc::<AdoptedLimits>::default(),
                holds: Arc::default(),
                local_queues: LocalQueues::default(),
            }),
        })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(|server| printable_address(server))
            .collect();
        f.debug_struct("ClientBuilder")
            .field("servers", &servers)
            .finish_non_exhaustive()
    }
}

/// Returns whether a timeout is in the range that [`TIMEOUT_RANGE`] describes.
pub(super) fn is_valid_timeout(timeout: Duration) -> bool {
    !timeout.is_zero() && timeout <= MAX_TIMEOUT
}

/// Returns the default heartbeat for servers with this read timeout.
fn default_heartbeat(server_read_timeout: Duration) -> Duration {
    if server_read_timeout >= SERVER_READ_TIMEOUT {
        HEARTBEAT
    } else {
        server_read_timeout / 3
    }
}

/// Returns the TCP connector whose user timeout is the part of the lease left after a heartbeat. A
/// dead connection then fails no later than the lease, and no sooner than necessary.
fn tcp(heartbeat: Duration, max_silence: Duration, connect_timeout: Duration) -> Tcp {
    let longest_delay = heartbeat.min(max_silence.mul_f64(MAX_RENEW_FRACTION));
    let user_timeout = max_silence
        .saturating_sub(longest_delay)
        .max(Duration::from_millis(1));
    Tcp::new(heartbeat, user_timeout, connect_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "etcd")]
    #[test]
    fn the_heartbeat_of_dflockd_limits_nothing_on_etcd() {
        let builder = || Client::builder().heartbeat(Duration::from_secs(30));
        assert!(builder().servers(["dflockd://a:1"]).build().is_err());
        let client = builder().servers(["etcd://a:1"]).build().unwrap();
        let timing = &client.inner.timing;
        let now = timing.clock.now();
        let deadlines = timing.deadlines(0.5, now, Duration::from_mins(10), 0.0);
        assert_eq!(
            deadlines.renew_at.duration_since(now),
            Duration::from_mins(5)
        );
    }

    #[test]
    fn a_dead_connection_fails_no_later_than_the_lease() {
        let seconds = Duration::from_secs;
        for (heartbeat, max_silence, user_timeout) in [(8, 22, 14), (20, 24, 4), (100, 40, 5)] {
            let tcp = tcp(seconds(heartbeat), seconds(max_silence), seconds(5));
            assert_eq!(
                (tcp.keepalive, tcp.user_timeout),
                (seconds(heartbeat), seconds(user_timeout))
            );
        }
    }

    #[test]
    fn the_default_heartbeat_is_derived_from_the_read_timeout() {
        let millis = Duration::from_millis;
        for (read_timeout, set, heartbeat) in [
            (None, None, 8_000),
            (Some(5_000), None, 1_666),
            (Some(8_000), None, 2_666),
            (Some(1), None, 0),
            (Some(22_500), None, 7_500),
            (Some(23_000), None, 8_000),
            (Some(60_000), None, 8_000),
            (Some(60_000), Some(20_000), 20_000),
            (Some(5_000), Some(1_000), 1_000),
            (None, Some(2_000), 2_000),
        ] {
            let mut builder = Client::builder();
            // Set them in both orders.
            for _ in 0..2 {
                builder = read_timeout.map_or(builder.clone(), |timeout| {
                    builder.server_read_timeout(millis(timeout))
                });
                builder = set.map_or(builder.clone(), |set| builder.heartbeat(millis(set)));
            }
            let timing = builder.build().unwrap().timing().clone();
            assert_eq!(
                timing.heartbeat.as_millis(),
                heartbeat,
                "{read_timeout:?}, {set:?}"
            );
        }
    }
}
