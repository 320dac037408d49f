//! What a server is started with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use typed_builder::TypedBuilder;

use super::observer::{Event, Observer};
use super::table::Rules;
use super::{Server, ServerError, ServerTls};
use crate::client::LONGEST;
use crate::error::{invisible, public_part};
use crate::wire::{LeaseSeconds, MAX_SECRET};

/// The options of a [`Server`]; each has the default of the real server. Made by [`Server::builder`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), dflock::server::ServerError> {
/// use std::time::Duration;
/// use dflock::server::Server;
///
/// let server = Server::builder().default_lease(Duration::from_secs(5)).max_keys(10).build().start().await?;
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
    /// Where to listen, as `host:port`; an IPv6 address in brackets. Port 0 takes a free one.
    ///
    /// Defaults to `127.0.0.1:0`. An address that cannot be listened on is refused by [`start`](ServerConfig::start).
    #[builder(default = "127.0.0.1:0".into(), setter(into))]
    pub(super) bind: String,

    /// The secret that every connection has to begin with; empty for none. Never printed.
    ///
    /// Defaults to none. More than 65,536 bytes, line breaks, and white space at either end are refused: the wire cannot carry them.
    #[builder(default, setter(into))]
    pub(super) auth_token: String,

    /// Speaks TLS on every connection, in memory, too. A connection has its `read_timeout` for the handshake.
    ///
    /// Defaults to none.
    #[cfg_attr(any(feature = "tls", feature = "tls-aws-lc"), builder(default, setter(into)))]
    #[cfg_attr(not(any(feature = "tls", feature = "tls-aws-lc")), builder(default, setter(skip)))]
    pub(super) tls: Option<ServerTls>,

    /// The lease of requests that name none.
    ///
    /// Defaults to 33 s. Zero, fractions of a second and more than 9,223,372,036 s are refused.
    #[builder(default = Duration::from_secs(33))]
    pub(super) default_lease: Duration,

    /// How often leases that are over are looked for. A request looks for them, too, among the keys that share a lock with its own.
    ///
    /// Defaults to 1 s. Zero is refused.
    #[builder(default = Duration::from_secs(1))]
    pub(super) lease_sweep_interval: Duration,

    /// How often keys that have been idle for long are looked for.
    ///
    /// Defaults to 5 s. Zero is refused.
    #[builder(default = Duration::from_secs(5))]
    pub(super) gc_interval: Duration,

    /// How long a key, and with it the limit of a semaphore, is remembered while nobody holds it or waits for it.
    ///
    /// Defaults to 60 s. Zero is refused.
    #[builder(default = Duration::from_mins(1))]
    pub(super) gc_max_idle: Duration,

    /// How many keys there may be at once, locks and semaphores together. One more is answered `error_max_locks`.
    ///
    /// Defaults to 1024. Zero is refused.
    #[builder(default = 1024)]
    pub(super) max_keys: usize,

    /// How many may stand in line for one key; 0 for no limit. One more is answered `error_max_waiters`.
    ///
    /// Defaults to 0.
    #[builder(default = 0)]
    pub(super) max_waiters: usize,

    /// How many connections there may be at once; 0 for no limit. One more is closed at once.
    ///
    /// Defaults to 0.
    #[builder(default = 0)]
    pub(super) max_connections: usize,

    /// How long a connection may go without a request; waiting for the answer to one does not count. Then it is closed, and its
    /// slots go with it, however long their leases are.
    ///
    /// Defaults to 23 s. Zero is refused, and more than a century.
    #[builder(default = Duration::from_secs(23))]
    pub(super) read_timeout: Duration,

    /// How long a client may take to take its replies before it is cut off; zero for as long as it likes.
    ///
    /// Defaults to 5 s.
    #[builder(default = Duration::from_secs(5))]
    pub(super) write_timeout: Duration,

    /// How long [`Server::shutdown`] waits for those who hold slots; zero for as long as they like.
    ///
    /// Defaults to 30 s.
    #[builder(default = Duration::from_secs(30))]
    pub(super) shutdown_timeout: Duration,

    /// Whether slots are given up when the connection that acquired them ends. If not, they live until their leases end.
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
    /// Makes the tokens the same at each start: for simulations only, whoever knows the seed knows all tokens.
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Tells `observer` all that happens, at once and in order for each key; it must not ask the server anything.
    #[doc(hidden)]
    pub fn observer(mut self, observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.observer = Observer(Some(Arc::new(observer)));
        self
    }

    /// Starts a server that is reached through its [`connector`](Server::connector) only, so that nothing outside has a say.
    #[doc(hidden)]
    pub fn start_in_memory(self) -> Result<Server, ServerError> {
        Server::in_memory(self)
    }

    /// Starts a server: it listens when this returns, and stops when the [`Server`] is dropped.
    ///
    /// # Errors
    ///
    /// [`ServerError`] when an option has a value that cannot be, when the address cannot be listened on, or when the system has
    /// no random numbers. [`ServerError::Runtime`] outside of a tokio runtime, and on one without timers
    /// or IO.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, nothing was started.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::builder().max_waiters(100).build().start().await?;
    /// # Ok(()) }
    /// ```
    pub async fn start(self) -> Result<Server, ServerError> {
        Server::with(self).await
    }

    /// Checks what the types cannot, and gives back the default lease as the wire carries it.
    pub(super) fn validated(&self) -> Result<LeaseSeconds, ServerError> {
        let invalid = |option, given: String, allowed| ServerError::InvalidOption { option, given, allowed };
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
        if self.read_timeout > LONGEST {
            return Err(invalid("read_timeout", format!("{:?}", self.read_timeout), "no more than a century"));
        }
        if self.max_keys == 0 {
            return Err(invalid("max_keys", "0".into(), "1 or more"));
        }
        let secret = &self.auth_token;
        if secret.len() > MAX_SECRET {
            return Err(invalid("auth_token", format!("{} bytes", secret.len()), "at most 65536 bytes"));
        }
        if secret.trim() != secret || secret.contains(['\r', '\n']) {
            let allowed = "text without line breaks, and without white space at its ends";
            return Err(invalid("auth_token", "other text".into(), allowed));
        }
        if let Some(character) = invisible::at_an_end(secret) {
            let given = format!("text that begins or ends with {}", invisible::describe(character));
            return Err(invalid("auth_token", given, "text without invisible characters at its ends"));
        }
        LeaseSeconds::new(self.default_lease)
            .ok_or_else(|| invalid("default_lease", format!("{:?}", self.default_lease), "whole seconds from 1 to 9223372036"))
    }

    pub(super) fn rules(&self) -> Rules {
        Rules { max_keys: self.max_keys, max_waiters: self.max_waiters, gc_max_idle: self.gc_max_idle, auto_release: self.auto_release }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // neither the secret nor the seed, which tells the tokens
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

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        let zero = Duration::ZERO;
        for (config, want) in [
            (
                Server::builder().read_timeout(Duration::from_hours(1_000_000)).build(),
                "read_timeout cannot be 3600000000s; it is no more than a century",
            ),
            (Server::builder().read_timeout(zero).build(), "read_timeout cannot be 0ns; it is more than zero"),
            (Server::builder().gc_interval(zero).build(), "gc_interval cannot be 0ns; it is more than zero"),
            (Server::builder().gc_max_idle(zero).build(), "gc_max_idle cannot be 0ns; it is more than zero"),
            (Server::builder().lease_sweep_interval(zero).build(), "lease_sweep_interval cannot be 0ns; it is more than zero"),
            (Server::builder().max_keys(0).build(), "max_keys cannot be 0; it is 1 or more"),
            (
                Server::builder().default_lease(Duration::from_millis(1500)).build(),
                "default_lease cannot be 1.5s; it is whole seconds from 1 to 9223372036",
            ),
            (Server::builder().auth_token("x".repeat(65_537)).build(), "auth_token cannot be 65537 bytes; it is at most 65536 bytes"),
            (
                Server::builder().auth_token("two\nlines").build(),
                "auth_token cannot be other text; it is text without line breaks, and without white space at its ends",
            ),
            (
                Server::builder().auth_token("hush\u{200B}").build(),
                "auth_token cannot be text that begins or ends with U+200B ZERO WIDTH SPACE; \
                 it is text without invisible characters at its ends",
            ),
        ] {
            assert_eq!(config.validated().unwrap_err().to_string(), want);
        }
        assert_eq!(Server::builder().build().validated().unwrap().get(), 33);
    }

    #[test]
    fn the_secret_is_never_printed() {
        let config = Server::builder().auth_token("hunter2").build().seed(4_711);
        let shown = format!("{config:?}");
        assert!(shown.contains("auth: true") && !shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
    }
}
