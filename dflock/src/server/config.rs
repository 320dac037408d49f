//! Options of a server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use typed_builder::TypedBuilder;

use super::error::ServerError;
use super::observer::{Event, Observer};
use super::table::TableConfig;
use super::tls::ServerTls;
use crate::client::{Client, ClientBuilder, MAX_TIMEOUT};
use crate::engine::dflockd::AuthTokenFile;
use crate::error::{ConfigError, invisible, public_part};
use crate::wire::{LeaseSeconds, MAX_AUTH_TOKEN};

/// Options of a [`Server`](super::Server), with the defaults of dflockd. Built by
/// [`Server::builder`](super::Server::builder).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), dflock::server::ServerError> {
/// use std::time::Duration;
/// use dflock::server::Server;
///
/// let config = Server::builder().default_lease(Duration::from_secs(5)).max_keys(10).build();
/// let server = config.start().await?;
/// assert!(server.addr().ip().is_loopback());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, TypedBuilder)]
#[builder(
    builder_type(name = ServerBuilder, vis = "pub", doc = "Builds a [`ServerConfig`]; see there."),
    builder_method(vis = "pub(super)"),
    doc
)]
#[must_use = "a configuration does nothing until it is started"]
pub struct ServerConfig {
    /// Address to listen on, as `host:port`, with an IPv6 address in brackets. With port 0 the
    /// operating system selects a free port.
    ///
    /// Defaults to `127.0.0.1:0`. [`start`](ServerConfig::start) fails if it cannot listen on the
    /// address.
    #[builder(default = "127.0.0.1:0".into(), setter(into))]
    pub(super) bind: String,

    /// Auth token that every client has to send first; empty for none. It is never printed.
    ///
    /// Defaults to none. The protocol cannot carry more than 65,536 bytes, line breaks, or white
    /// space at either end, so these are refused.
    #[builder(default, setter(into))]
    pub(super) auth_token: String,

    /// TLS configuration for all connections, including those in memory. The time limit of a
    /// handshake is `read_timeout`.
    ///
    /// Defaults to none.
    #[cfg_attr(
        any(feature = "tls", feature = "tls-aws-lc"),
        builder(default, setter(into))
    )]
    #[cfg_attr(
        not(any(feature = "tls", feature = "tls-aws-lc")),
        builder(default, setter(skip))
    )]
    pub(super) tls: Option<ServerTls>,

    /// Lease of requests without a lease.
    ///
    /// Defaults to 33 s. Zero, fractions of a second and more than 9,223,372,036 s are refused.
    #[builder(default = Duration::from_secs(33))]
    pub(super) default_lease: Duration,

    /// Interval at which leases are expired. Every request expires leases, too.
    ///
    /// Defaults to 1 s. Zero is refused.
    #[builder(default = Duration::from_secs(1))]
    pub(super) lease_sweep_interval: Duration,

    /// Interval at which idle keys are removed. A request that finds `max_keys` keys removes idle
    /// keys, too.
    ///
    /// Defaults to 5 s. Zero is refused.
    #[builder(default = Duration::from_secs(5))]
    pub(super) gc_interval: Duration,

    /// Time after which an idle key is removed. Until then the limit of a semaphore cannot change.
    ///
    /// Defaults to 60 s. Zero is refused.
    #[builder(default = Duration::from_mins(1))]
    pub(super) gc_max_idle: Duration,

    /// Maximum number of keys, locks and semaphores together. A request for one more is answered
    /// with `error_max_locks`.
    ///
    /// Defaults to 1024. Zero is refused.
    #[builder(default = 1024)]
    pub(super) max_keys: usize,

    /// Maximum length of the queue of one key; 0 for no limit. A request for one more place is
    /// answered with `error_max_waiters`.
    ///
    /// Defaults to 0.
    #[builder(default = 0)]
    pub(super) max_waiters: usize,

    /// Maximum number of connections; 0 for no limit. One more is closed at once.
    ///
    /// Defaults to 0.
    #[builder(default = 0)]
    pub(super) max_connections: usize,

    /// Maximum time between a reply and the next request on a connection. After it the server
    /// closes the connection and releases its slots, however long their leases are.
    ///
    /// Defaults to 23 s. Zero and more than a century are refused.
    #[builder(default = Duration::from_secs(23))]
    pub(super) read_timeout: Duration,

    /// Maximum time that a write of replies may take before the connection is closed; zero for no
    /// limit.
    ///
    /// Defaults to 5 s.
    #[builder(default = Duration::from_secs(5))]
    pub(super) write_timeout: Duration,

    /// Maximum time that [`Server::shutdown`](super::Server::shutdown) waits for clients that hold
    /// slots; zero for no limit.
    ///
    /// Defaults to 30 s.
    #[builder(default = Duration::from_secs(30))]
    pub(super) shutdown_timeout: Duration,

    /// Releases slots when the connection that acquired them ends. If false, slots stay held until
    /// their leases expire.
    ///
    /// Defaults to true.
    #[builder(default = true)]
    pub(super) auto_release: bool,

    #[builder(default, setter(skip))]
    pub(super) seed: Option<u64>,

    #[builder(default, setter(skip))]
    pub(super) observer: Observer,
}

impl ServerConfig {
    /// Makes the tokens the same at each start. For simulations only: the seed reveals all tokens.
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Calls `observer` for every event of the table, in order. It runs inside the lock of the
    /// server's state, so it must not call the server.
    #[doc(hidden)]
    pub fn observer(mut self, observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.observer = Observer(Some(Arc::new(observer)));
        self
    }

    /// Reads the auth token from a file, in place of [`auth_token`](ServerBuilder::auth_token).
    ///
    /// The file is read once, in this call. A byte order mark and surrounding white space are
    /// ignored.
    ///
    /// # Errors
    ///
    /// [`ConfigError::AuthTokenFile`] if the file cannot be read, or does not contain a valid auth
    /// token.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), dflock::ConfigError> {
    /// use dflock::server::Server;
    ///
    /// let config = Server::builder().build().auth_token_file("/run/secrets/dflock")?;
    /// # Ok(()) }
    /// ```
    pub fn auth_token_file(mut self, path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let token = AuthTokenFile::open(path.into())?.current();
        token.as_str().clone_into(&mut self.auth_token);
        Ok(self)
    }

    /// Checks all values; returns the default lease in the type of the protocol.
    pub(super) fn validate(&self) -> Result<LeaseSeconds, ServerError> {
        let invalid = |option, given, allowed| ServerError::InvalidOption {
            option,
            given,
            allowed,
        };
        for (option, given) in [
            ("lease_sweep_interval", self.lease_sweep_interval),
            ("gc_interval", self.gc_interval),
            ("gc_max_idle", self.gc_max_idle),
            ("read_timeout", self.read_timeout),
        ] {
            if given.is_zero() {
                return Err(invalid(option, format!("{given:?}"), "more than zero"));
            }
        }
        if self.read_timeout > MAX_TIMEOUT {
            let given = format!("{:?}", self.read_timeout);
            return Err(invalid("read_timeout", given, "at most a century"));
        }
        if self.max_keys == 0 {
            return Err(invalid("max_keys", "0".into(), "1 or more"));
        }
        let token = &self.auth_token;
        if token.len() > MAX_AUTH_TOKEN {
            let given = format!("{} bytes", token.len());
            return Err(invalid("auth_token", given, "at most 65536 bytes"));
        }
        if token.trim() != token || token.contains(['\r', '\n']) {
            let allowed = "text without line breaks and without white space at either end";
            return Err(invalid("auth_token", "not shown".into(), allowed));
        }
        if let Some(character) = invisible::find_at_edge(token) {
            let given = format!("text with {} at an end", invisible::describe(character));
            let allowed = "text without invisible characters at either end";
            return Err(invalid("auth_token", given, allowed));
        }
        LeaseSeconds::new(self.default_lease).ok_or_else(|| {
            let given = format!("{:?}", self.default_lease);
            invalid("default_lease", given, "whole seconds from 1 to 9223372036")
        })
    }

    /// Returns the options of a client of a server that listens on `addr`.
    pub(super) fn client_builder(&self, addr: SocketAddr) -> ClientBuilder {
        // A client cannot connect to the unspecified address, so it uses the loopback address.
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let builder = Client::builder()
            .servers([SocketAddr::new(ip, addr.port()).to_string()])
            .auth(self.auth_token.as_str())
            .server_read_timeout(self.read_timeout)
            .fencing(true);
        match &self.tls {
            Some(tls) => tls.configure_client(builder),
            None => builder,
        }
    }

    pub(super) fn table_config(&self) -> TableConfig {
        TableConfig {
            max_keys: self.max_keys,
            max_waiters: self.max_waiters,
            gc_max_idle: self.gc_max_idle,
            auto_release: self.auto_release,
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the auth token, and without the seed, which reveals the tokens.
        f.debug_struct("ServerConfig")
            .field("bind", &public_part(&self.bind))
            .field("auth", &!self.auth_token.is_empty())
            .field("tls", &self.tls)
            .field("default_lease", &self.default_lease)
            .field("lease_sweep_interval", &self.lease_sweep_interval)
            .field("gc_interval", &self.gc_interval)
            .field("gc_max_idle", &self.gc_max_idle)
            .field("max_keys", &self.max_keys)
            .field("max_waiters", &self.max_waiters)
            .field("max_connections", &self.max_connections)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("auto_release", &self.auto_release)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    #[test]
    fn validate_names_the_invalid_option() {
        let zero = Duration::ZERO;
        let century = Duration::from_hours(1_000_000);
        for (config, want) in [
            (
                Server::builder().read_timeout(century).build(),
                "invalid read_timeout (3600000000s): it must be at most a century",
            ),
            (
                Server::builder().read_timeout(zero).build(),
                "invalid read_timeout (0ns): it must be more than zero",
            ),
            (
                Server::builder().gc_interval(zero).build(),
                "invalid gc_interval (0ns): it must be more than zero",
            ),
            (
                Server::builder().gc_max_idle(zero).build(),
                "invalid gc_max_idle (0ns): it must be more than zero",
            ),
            (
                Server::builder().lease_sweep_interval(zero).build(),
                "invalid lease_sweep_interval (0ns): it must be more than zero",
            ),
            (
                Server::builder().max_keys(0).build(),
                "invalid max_keys (0): it must be 1 or more",
            ),
            (
                Server::builder()
                    .default_lease(Duration::from_millis(1500))
                    .build(),
                "invalid default_lease (1.5s): it must be whole seconds from 1 to 9223372036",
            ),
            (
                Server::builder().auth_token("x".repeat(65_537)).build(),
                "invalid auth_token (65537 bytes): it must be at most 65536 bytes",
            ),
            (
                Server::builder().auth_token("two\nlines").build(),
                "invalid auth_token (not shown): \
                 it must be text without line breaks and without white space at either end",
            ),
            (
                Server::builder().auth_token("hush\u{200B}").build(),
                "invalid auth_token (text with U+200B ZERO WIDTH SPACE at an end): \
                 it must be text without invisible characters at either end",
            ),
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), want);
        }
        assert_eq!(Server::builder().build().validate().unwrap().get(), 33);
    }

    #[test]
    fn debug_shows_neither_auth_token_nor_seed() {
        let config = Server::builder().auth_token("hunter2").build().seed(4_711);
        let shown = format!("{config:?}");
        assert!(
            shown.contains("auth: true") && !shown.contains("hunter2") && !shown.contains("4711"),
            "{shown}"
        );
    }
}
