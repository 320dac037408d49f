//! The options of a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Client, Inner};
use crate::error::{AddressFault, ConfigError};
use crate::lease::{LATEST, Timing};
use crate::shard::{Crc32, Sharding};
use crate::transport::{AuthToken, AuthTokenFile, Connector, Dialer, Pool, Reloadable, Tcp, Tls};

/// A connection that was idle for this part of the server's read timeout is not used again: the server is about to close it.
const IDLE: f64 = 0.75;

/// The longest silence on a connection that holds a slot, if nothing else is said.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(8);

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
    heartbeat: Duration,
    server_read_timeout: Duration,
    clock_drift: f64,
    fencing: bool,
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
            heartbeat: HEARTBEAT,
            server_read_timeout: Duration::from_secs(23),
            clock_drift: 0.01,
            fencing: false,
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
        let token = token.map_err(|why| ConfigError::Secret { why });
        self.secret = token.map(|token| token.map(Reloadable::fixed));
        self
    }

    /// The file with the secret, in place of [`auth`](Self::auth). White space around it and a byte
    /// order mark before it do not count.
    ///
    /// The file is read now, and again for a new connection when it has changed, so that a secret
    /// can be replaced while the program runs. Connections that are open stay so. When the changed
    /// file cannot be used, the last good secret is kept, and an event says so
    /// ([`watch`](crate::watch)).
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

    /// How long it may take to connect, the TLS handshake included. Defaults to 5 s; zero is refused.
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

    /// The longest silence on a connection that holds a slot: leases are renewed this often at least. Defaults to 8 s; it must be
    /// less than what is believed of [`server_read_timeout`](Self::server_read_timeout).
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// The servers' `--read-timeout`: after this much silence a server gives a slot away, however long its lease. Defaults to
    /// 23 s, as the servers do. Give the smallest of any server: a slot is believed for no longer than this.
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
    #[must_use]
    pub fn fencing(mut self, fencing: bool) -> Self {
        self.fencing = fencing;
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
        for server in &self.servers {
            address(server)?;
            self.tls.as_ref().map_or(Ok(()), |tls| tls.check(server))?;
        }
        if !(self.clock_drift >= 0.0 && self.clock_drift < 0.5) {
            return Err(ConfigError::ClockDrift { drift: self.clock_drift });
        }
        for (option, given) in [
            ("connect_timeout", self.connect_timeout),
            ("socket_timeout", self.socket_timeout),
            ("server_read_timeout", self.server_read_timeout),
            ("heartbeat", self.heartbeat),
        ] {
            if given.is_zero() || given > LONGEST {
                return Err(ConfigError::Duration { option, given, allowed: "it must be more than zero and less than a century" });
            }
        }
        let believed = self.server_read_timeout.mul_f64(1.0 - self.clock_drift);
        if self.heartbeat >= believed {
            let allowed = "it must be less than `server_read_timeout` less `clock_drift`";
            return Err(ConfigError::Duration { option: "heartbeat", given: self.heartbeat, allowed });
        }
        let secret = self.secret?;
        crate::watch::describe();
        if secret.is_some() && self.tls.is_none() && self.connector.is_none() {
            // where a connector of the user's own leads is not known here
            for server in self.servers.iter().filter(|server| !is_local(server)) {
                crate::watch::secret_in_the_clear(server);
            }
        }
        let connector = self.connector.unwrap_or_else(|| Arc::new(tcp(self.heartbeat, believed)));
        let clock = connector.clock();
        let dialer = Arc::new(Dialer {
            connector,
            tls: self.tls,
            secret,
            connect_timeout: self.connect_timeout,
            socket_timeout: self.socket_timeout,
        });
        let max_idle = self.server_read_timeout.mul_f64(IDLE);
        let pools = self.servers.into_iter().map(|server| Pool::new(server.into(), dialer.clone(), clock.clone(), max_idle)).collect();
        let timing = Arc::new(Timing {
            clock,
            socket_timeout: self.socket_timeout,
            heartbeat: self.heartbeat,
            server_read_timeout: self.server_read_timeout,
            clock_drift: self.clock_drift,
        });
        Ok(Client { inner: Arc::new(Inner { pools, sharding: self.sharding, dialer, timing, fencing: self.fencing }) })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// TCP that gives up what was sent at a heartbeat when the slot is not `believed` any longer, and a network that stops no sooner.
fn tcp(heartbeat: Duration, believed: Duration) -> Tcp {
    let silence = heartbeat.min(believed.mul_f64(LATEST));
    Tcp { keepalive: heartbeat, user_timeout: believed.saturating_sub(silence).max(Duration::from_millis(1)) }
}

/// Looks at an address without asking anybody for it.
pub(super) fn address(text: &str) -> Result<(), ConfigError> {
    host_and_port(text).map_err(|why| ConfigError::Address { address: text.to_owned(), why })
}

fn host_and_port(text: &str) -> Result<(), AddressFault> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(AddressFault::BadHost)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| AddressFault::BadHost)?;
            (host, port.strip_prefix(':').ok_or(AddressFault::NoPort)?)
        }
        None => text.rsplit_once(':').ok_or(AddressFault::NoPort)?,
    };
    if host.is_empty() {
        return Err(AddressFault::NoHost);
    }
    if !text.starts_with('[') && host.contains(|c: char| c == ':' || c == '/' || c == '@' || c.is_whitespace() || c.is_control()) {
        return Err(AddressFault::BadHost);
    }
    if port.is_empty() {
        return Err(AddressFault::NoPort);
    }
    let in_range = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if in_range { Ok(()) } else { Err(AddressFault::BadPort) }
}

/// Whether what is sent to `server` stays on this machine.
fn is_local(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_stops_is_given_up_when_the_slot_is() {
        let seconds = Duration::from_secs;
        for (heartbeat, believed, user_timeout) in [(8, 22, 14), (20, 24, 4), (100, 40, 5)] {
            let tcp = tcp(seconds(heartbeat), seconds(believed));
            assert_eq!((tcp.keepalive, tcp.user_timeout), (seconds(heartbeat), seconds(user_timeout)));
        }
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:6388", "lock-1:1", "lock_1.example.com:65535", "[::1]:6388", "localhost:80"] {
            assert_eq!(host_and_port(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", AddressFault::NoPort),
            ("localhost", AddressFault::NoPort),
            ("localhost:", AddressFault::NoPort),
            ("[::1]", AddressFault::NoPort),
            (":6388", AddressFault::NoHost),
            ("localhost:0", AddressFault::BadPort),
            ("localhost:65536", AddressFault::BadPort),
            ("localhost:x", AddressFault::BadPort),
            ("localhost:+1", AddressFault::BadPort),
            ("localhost:-1", AddressFault::BadPort),
            ("::1:6388", AddressFault::BadHost),
            ("[::x]:6388", AddressFault::BadHost),
            ("[::1:6388", AddressFault::BadHost),
            ("a b:6388", AddressFault::BadHost),
            ("tcp://a:6388", AddressFault::BadHost),
            ("a\n:6388", AddressFault::BadHost),
        ] {
            assert_eq!(host_and_port(bad), Err(why), "{bad:?}");
        }
    }
}
