//! The options of a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::address::{check_addresses, is_local, printable};
use super::{Client, Inner};
use crate::engine::Engine;
use crate::engine::dflockd::{
    AuthToken, AuthTokenFile, Connector, Crc32, Dialer, Pool, Reloadable, Sharding, Tcp, Tls,
};
use crate::error::ConfigError;
use crate::lease::{LATEST, Timing};
use crate::wire::{MAX_STATS, MIN_STATS};

/// A connection that was idle for this part of the server's read timeout is not used again: the server is about to close it.
const IDLE: f64 = 0.75;

/// The read timeout of servers that are started without `--read-timeout`.
const SERVER_READ_TIMEOUT: Duration = Duration::from_secs(23);

/// The heartbeat for servers of that read timeout or a longer one.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// A limit of time of a century or more is a mistake.
pub(crate) const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// The options of a [`Client`]; made by [`Client::builder`]. Every one has a default, and [`build`](Self::build) checks them.
#[derive(Clone)]
pub struct ClientBuilder {
    servers: Vec<String>,
    sharding: Arc<dyn Sharding>,
    connector: Option<Arc<dyn Connector>>,
    tls: Option<Tls>,
    /// Refused by `build`, if it cannot be used.
    secret: Result<Option<Reloadable<AuthTokenFile>>, ConfigError>,
    connect_timeout: Duration,
    socket_timeout: Duration,
    /// `None` is derived from `server_read_timeout`.
    heartbeat: Option<Duration>,
    server_read_timeout: Duration,
    clock_drift: f64,
    fencing: bool,
    max_stats_size: usize,
    max_connection_age: Duration,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            servers: vec!["127.0.0.1:6388".to_owned()],
            sharding: Arc::new(Crc32),
            connector: None,
            tls: None,
            secret: Ok(None),
            connect_timeout: Duration::from_secs(5),
            socket_timeout: Duration::from_secs(5),
            heartbeat: None,
            server_read_timeout: SERVER_READ_TIMEOUT,
            clock_drift: 0.01,
            fencing: false,
            max_stats_size: MAX_STATS,
            max_connection_age: Duration::from_mins(5),
        }
    }
}

impl ClientBuilder {
    /// The servers, each `host:port`, an IPv6 address in brackets. Defaults to `127.0.0.1:6388`.
    ///
    /// With more than one, keys are spread over them by [`sharding`](Self::sharding): all programs must give the same list in the
    /// same order.
    #[must_use]
    pub fn servers<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.servers = servers.into_iter().map(Into::into).collect();
        self
    }

    /// Which server a key lives on: by [`Crc32`], as for the other dflockd clients, or a `|key: &str, servers: usize| ..` (with types).
    #[must_use]
    pub fn sharding(mut self, sharding: impl Sharding) -> Self {
        self.sharding = Arc::new(sharding);
        self
    }

    /// How byte streams to servers are made, and the clock that leases are counted on. Defaults to TCP.
    #[must_use]
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Speaks TLS to all servers, over whatever stream the [`connector`](Self::connector) makes. Defaults to none.
    ///
    /// A server's certificate must be for its host as it is configured, or for [`Tls::server_name`]. The handshake is part of what
    /// [`connect_timeout`](Self::connect_timeout) limits.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The secret that the servers share with their clients. Defaults to none; an empty one is none.
    ///
    /// One that begins or ends with an invisible character, such as a zero-width space, is refused,
    /// but a byte order mark at its start is dropped.
    ///
    /// It is shown first on every new connection, never printed, and wiped from memory with the last clone of the client. Without
    /// TLS everybody on the way can read it; a client that would show it to another machine so warns of it once (`tracing`). It does
    /// not warn with a [`connector`](Self::connector) of your own: where that leads is not known to it. Servers before v1.15 take none of more than 256 bytes.
    #[must_use]
    pub fn auth(mut self, secret: impl Into<String>) -> Self {
        let token = AuthToken::new(Zeroizing::new(secret.into()));
        let token = token.map_err(|why| ConfigError::AuthToken { why });
        self.secret = token.map(|token| token.map(Reloadable::fixed));
        self
    }

    /// The file with the secret, in place of [`auth`](Self::auth). White space around it and a byte
    /// order mark before it do not count.
    ///
    /// The file is read now, and again for a new connection when it has changed, so that a secret
    /// can be replaced while the program runs. Connections that are open stay so. When the changed
    /// file cannot be used, the last good secret is kept, and an event says so
    /// ([`telemetry`](crate::telemetry)).
    ///
    /// Each new connection costs one look at the file, on the thread of the task that connects: it
    /// belongs on a local file system. What is not a regular file, such as a pipe, is read once.
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
        self.secret = AuthTokenFile::open(path.into()).map(Some);
        self
    }

    /// The secret, as it was parsed elsewhere.
    pub(super) fn auth_token(mut self, token: Option<Reloadable<AuthTokenFile>>) -> Self {
        self.secret = Ok(token);
        self
    }

    /// How long it may take to connect, the TLS handshake included. Defaults to 5 s; zero is refused. An
    /// `acquire` gives it no longer than its wait.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a reply may take that the server owes at once. Defaults to 5 s; zero is refused. It does not apply while the server
    /// may block, nor to renewals, which have until the lease ends.
    #[must_use]
    pub fn socket_timeout(mut self, timeout: Duration) -> Self {
        self.socket_timeout = timeout;
        self
    }

    /// The longest silence on a connection that holds a slot: leases are renewed this often at least.
    ///
    /// Defaults to 8 s, or to a third of [`server_read_timeout`](Self::server_read_timeout) where that
    /// is less than 23 s. It must be less than `server_read_timeout` less
    /// [`clock_drift`](Self::clock_drift).
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// The servers' `--read-timeout`: after this much silence a server gives a slot away, however long its lease. Defaults to
    /// 23 s, as the servers do. Give the smallest of any server: a slot is believed for no longer than this. The
    /// [`heartbeat`](Self::heartbeat) follows from it, unless it is set.
    #[must_use]
    pub fn server_read_timeout(mut self, timeout: Duration) -> Self {
        self.server_read_timeout = timeout;
        self
    }

    /// How far the rates of two clocks may differ. Defaults to 0.01, one part in a hundred; 0 or more and less than 0.5.
    #[must_use]
    pub fn clock_drift(mut self, drift: f64) -> Self {
        self.clock_drift = drift;
        self
    }

    /// Whether the servers are v2.1 or newer, so that their tokens carry a fence. Defaults to `false`: the tokens of older
    /// servers look the same and are random.
    ///
    /// It does not matter for servers that name a fence beside the token, which
    /// [`Held::fence`](crate::Held::fence) returns in either case.
    #[must_use]
    pub fn fencing(mut self, fencing: bool) -> Self {
        self.fencing = fencing;
        self
    }

    /// Sets the longest reply to [`Client::stats`] that is read, in bytes. Defaults to 64 MiB
    /// (67,108,864), about half a million held keys: a server writes some 125 bytes for each. Less
    /// than 1 KiB (1,024) is refused.
    ///
    /// A longer reply is [`Error::StatsTooLarge`](crate::Error::StatsTooLarge). The same limit holds
    /// for the reply that tells the other limit in a
    /// [`LimitMismatch`](crate::Error::LimitMismatch); over it the error names only the limit that
    /// was asked for. A reply takes up to four times its size in memory while it is read.
    #[cfg(feature = "stats")]
    #[must_use]
    pub fn max_stats_size(mut self, bytes: usize) -> Self {
        self.max_stats_size = bytes;
        self
    }

    /// Sets the age at which a kept connection is closed instead of used again. Defaults to 5 minutes; zero is refused.
    ///
    /// Each connection expires up to a tenth earlier, by a part of its own, because connections that
    /// were opened together would otherwise be replaced together.
    ///
    /// The connection that replaces it looks the name of the server up again, so this bounds for how
    /// long a client goes on to use a server whose name has moved. A connection that holds a slot or
    /// waits for one is never closed for its age. See [`guide::sharding`](crate::guide::sharding) for
    /// what a move needs.
    ///
    /// The default is a compromise: a look-up and a handshake each 5 minutes cost nothing, and
    /// records in DNS are rarely kept for less.
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

    /// Checks the options. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that says which option is refused and what is allowed.
    pub fn build(self) -> Result<Client, ConfigError> {
        if self.servers.is_empty() {
            return Err(ConfigError::NoServers);
        }
        check_addresses(self.servers.iter().map(String::as_str))?;
        for server in &self.servers {
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
        let heartbeat = self
            .heartbeat
            .unwrap_or_else(|| derived_heartbeat(self.server_read_timeout));
        for (option, given) in [
            ("connect_timeout", self.connect_timeout),
            ("socket_timeout", self.socket_timeout),
            ("server_read_timeout", self.server_read_timeout),
            ("heartbeat", heartbeat),
            ("max_connection_age", self.max_connection_age),
        ] {
            if given.is_zero() || given > LONGEST {
                return Err(ConfigError::Duration {
                    option,
                    given,
                    allowed: "it must be more than zero and less than a century",
                });
            }
        }
        let believed = self.server_read_timeout.mul_f64(1.0 - self.clock_drift);
        if heartbeat >= believed {
            let allowed = "it must be less than `server_read_timeout` less `clock_drift`";
            return Err(ConfigError::Duration {
                option: "heartbeat",
                given: heartbeat,
                allowed,
            });
        }
        let secret = self.secret?;
        crate::telemetry::describe();
        if secret.is_some() && self.tls.is_none() && self.connector.is_none() {
            // where a connector of the user's own leads is not known here
            for server in self.servers.iter().filter(|server| !is_local(server)) {
                crate::telemetry::warn_plaintext_token(server);
            }
        }
        let connector = self
            .connector
            .unwrap_or_else(|| Arc::new(tcp(heartbeat, believed, self.connect_timeout)));
        let clock = connector.clock();
        let dialer = Arc::new(Dialer {
            connector,
            tls: self.tls,
            secret,
            connect_timeout: self.connect_timeout,
            socket_timeout: self.socket_timeout,
            max_stats_size: self.max_stats_size,
        });
        let max_idle = self.server_read_timeout.mul_f64(IDLE);
        let max_age = self.max_connection_age;
        let pool = |server: String| {
            Pool::new(
                server.into(),
                dialer.clone(),
                clock.clone(),
                max_idle,
                max_age,
            )
        };
        let pools = self.servers.into_iter().map(pool).collect();
        let engine = Arc::new(Engine::new(pools, self.sharding, dialer));
        let timing = Arc::new(Timing {
            clock,
            socket_timeout: self.socket_timeout,
            heartbeat,
            server_read_timeout: self.server_read_timeout,
            clock_drift: self.clock_drift,
        });
        Ok(Client {
            inner: Arc::new(Inner {
                engine,
                timing,
                fencing: self.fencing,
            }),
        })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(|server| printable(server))
            .collect();
        f.debug_struct("ClientBuilder")
            .field("servers", &servers)
            .finish_non_exhaustive()
    }
}

/// Returns the heartbeat for servers of this read timeout, for a client that sets none.
fn derived_heartbeat(server_read_timeout: Duration) -> Duration {
    if server_read_timeout >= SERVER_READ_TIMEOUT {
        HEARTBEAT
    } else {
        server_read_timeout / 3
    }
}

/// TCP that gives up what was sent at a heartbeat when the slot is not `believed` any longer, and a network that stops no sooner.
fn tcp(heartbeat: Duration, believed: Duration, connect_timeout: Duration) -> Tcp {
    let silence = heartbeat.min(believed.mul_f64(LATEST));
    let user_timeout = believed
        .saturating_sub(silence)
        .max(Duration::from_millis(1));
    Tcp::new(heartbeat, user_timeout, connect_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_stops_is_given_up_when_the_slot_is() {
        let seconds = Duration::from_secs;
        for (heartbeat, believed, user_timeout) in [(8, 22, 14), (20, 24, 4), (100, 40, 5)] {
            let tcp = tcp(seconds(heartbeat), seconds(believed), seconds(5));
            assert_eq!(
                (tcp.keepalive, tcp.user_timeout),
                (seconds(heartbeat), seconds(user_timeout))
            );
        }
    }

    #[test]
    fn the_heartbeat_follows_from_the_read_timeout_unless_it_is_set() {
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
            // in either order
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
