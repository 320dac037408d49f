//! Errors of options and arguments, which are found before a request is sent.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{AddressErrorKind, public_part};
use super::invisible;
use super::pem::PemErrorKind;
use crate::wire::{KeyErrorKind, MIN_STATS};

/// An error of an option or an argument.
///
/// The message names the refused value and the allowed ones.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The key has a length or a character that the protocol does not allow.
    #[error("key {key:?} is refused: {kind}")]
    Key {
        /// The given key, or its start if it is long.
        key: String,
        /// The reason of the refusal.
        kind: KeyErrorKind,
    },

    /// The limit is 0 or too high.
    #[error("limit {limit} is refused; a limit is 1 to 1048576")]
    Limit {
        /// The given limit.
        limit: u32,
    },

    /// The lease is not a whole number of seconds, or is out of range.
    #[error("lease_ttl {lease:?} is refused; a lease is whole seconds from 1 s to 9223372036 s")]
    Lease {
        /// The given lease.
        lease: Duration,
    },

    /// The longest hold is shorter than the lease.
    #[error("max_hold {max_hold:?} is refused; it must be at least lease_ttl, {lease_ttl:?}")]
    MaxHold {
        /// The given longest hold.
        max_hold: Duration,
        /// The given lease.
        lease_ttl: Duration,
    },

    /// The shortest hold is longer than the longest one.
    #[error("min_hold {min_hold:?} is refused; it must be at most max_hold, {max_hold:?}")]
    MinHold {
        /// The given shortest hold.
        min_hold: Duration,
        /// The given longest hold.
        max_hold: Duration,
    },

    /// The renew ratio is not between 0 and 1.
    #[error("renew_ratio {ratio} is refused; it lies between 0 and 1, both excluded")]
    RenewRatio {
        /// The given ratio.
        ratio: f64,
    },

    /// The local queue lets no waiter through.
    #[error("local_queue 0 is refused; it must be 1 or more")]
    LocalQueue,

    /// The wait is longer than servers can represent.
    #[error("a wait of {wait:?} is refused; the longest is 9223372036 s")]
    Wait {
        /// The given wait.
        wait: Duration,
    },

    /// `acquire_all` was given no semaphore.
    #[error("acquire_all was given no semaphore; give it at least one")]
    NoSemaphores,

    /// `acquire_all` was given the same key twice.
    #[error(
        "acquire_all was given key {key:?} twice; give each key once, because the second slot \
         could wait for the first"
    )]
    RepeatedKey {
        /// The key.
        key: String,
    },

    /// `acquire_all` was given semaphores of different clients.
    #[error(
        "acquire_all was given keys {:?} and {:?} of different clients; give it semaphores of one \
         client and its clones",
        keys[0],
        keys[1]
    )]
    DifferentClients {
        /// Two keys whose semaphores have different clients.
        keys: [String; 2],
    },

    /// A duration is out of range.
    #[error("{option} {given:?} is refused; {allowed}")]
    Duration {
        /// The name of the option.
        option: &'static str,
        /// The given value.
        given: Duration,
        /// The allowed values.
        allowed: &'static str,
    },

    /// The limit for replies to `stats` is too low for any reply.
    #[error("max_stats_size {bytes} is refused; it must be {MIN_STATS} bytes or more")]
    MaxStatsSize {
        /// The given limit.
        bytes: usize,
    },

    /// The clock drift is out of range.
    #[error("clock_drift {drift} is refused; it must be 0 or more, and less than 0.5")]
    ClockDrift {
        /// The given drift.
        drift: f64,
    },

    /// The client has no servers.
    #[error("no server is configured; give at least one `host:port` to `servers`")]
    NoServers,

    /// The address of a server is invalid.
    #[error(
        "server {address:?} is refused: {kind}; an address is `host:port`, an IPv6 one `[::1]:6388`"
    )]
    Address {
        /// The given address without user info and query, because a password may be in either.
        address: String,
        /// The reason of the refusal.
        kind: AddressErrorKind,
    },

    /// Servers of both engines are configured.
    #[error(
        "the servers are of two kinds: {dflockd:?} is one of dflockd, and {etcd:?} a member of \
         etcd; a client has servers of one kind"
    )]
    MixedServers {
        /// A server of dflockd.
        dflockd: String,
        /// A member of an etcd cluster.
        etcd: String,
    },

    /// The servers need a feature of this crate that is not enabled.
    #[error(
        "server {address:?} is refused: it needs the feature `{feature}` of the crate `dflock`"
    )]
    MissingFeature {
        /// The server.
        address: String,
        /// The feature.
        feature: &'static str,
    },

    /// The user of an etcd cluster is not `name:password`.
    #[error("the user of the etcd cluster is refused; give `auth` the form `name:password`")]
    EtcdUser,

    /// The prefix of the keys in etcd has a control character.
    #[error("etcd_prefix {prefix:?} is refused; it may have no control character")]
    EtcdPrefix {
        /// The given prefix.
        prefix: String,
    },

    /// The lease is shorter than the engine can grant.
    #[error(
        "lease_ttl {lease:?} is refused; the shortest lease that {engine} grants is {shortest:?}"
    )]
    ShortLease {
        /// The given lease.
        lease: Duration,
        /// The engine.
        engine: &'static str,
        /// The shortest lease.
        shortest: Duration,
    },

    /// The sharding returned the index of a server that does not exist.
    #[error(
        "sharding put key {key:?} on server {index} of {servers}; it must return an index from 0 \
         to {}",
        servers - 1
    )]
    Shard {
        /// The key.
        key: String,
        /// The index that the sharding returned.
        index: usize,
        /// The number of servers.
        servers: usize,
    },

    /// The auth token has a length or a character that the protocol does not allow.
    #[error(
        "the auth token is refused: {kind}; it must have at most 65536 bytes without line break or \
         NUL, and neither begin nor end with white space or an invisible character"
    )]
    AuthToken {
        /// The reason of the refusal.
        kind: AuthTokenErrorKind,
    },

    /// The file with the auth token cannot be used.
    #[error("the auth token{} is refused: {kind}", file_location(file.as_ref()))]
    AuthTokenFile {
        /// The file. `None` if the given path may be the token itself.
        file: Option<PathBuf>,
        /// The reason of the refusal, and the allowed values.
        kind: AuthTokenFileErrorKind,
    },

    /// A certificate or a key cannot be used.
    #[error("{role}{} is refused: {kind}", file_location(file.as_ref()))]
    Pem {
        /// The role of the certificate or key, such as "the client key".
        role: &'static str,
        /// The file, unless the PEM was given as text.
        file: Option<PathBuf>,
        /// The reason of the refusal, and the allowed values.
        kind: PemErrorKind,
    },

    /// The system has no trusted CA certificates.
    #[error(
        "the system has no certificate that is trusted: {reason}; install its CA certificates, or \
         name one with `Tls::ca_pem_file`"
    )]
    NoNativeRoots {
        /// The reason, such as the error of the operating system.
        reason: String,
    },

    /// The name is not one that a certificate can be issued for.
    #[error(
        "server name {name:?} is refused for TLS; it must be a DNS name such as `lock.internal`, \
         or an IP address without brackets and port"
    )]
    ServerName {
        /// The name that was given with `Tls::server_name` or as the host of a server.
        name: String,
    },

    /// The value of an environment variable is invalid.
    #[error("environment variable {name} is refused: {reason}")]
    Variable {
        /// The name of the variable.
        name: &'static str,
        /// The reason of the refusal, and the allowed values.
        reason: String,
    },

    /// A global client is already installed.
    #[error(
        "a global client is already installed; `install_global` works once, use `scope` for other \
         clients"
    )]
    GlobalInstalled,

    /// The call was made outside of a tokio runtime.
    #[error(
        "there is no tokio runtime here; call this from a task of a runtime with io and time \
         enabled"
    )]
    NoRuntime,

    /// The tokio runtime here has no timers.
    ///
    /// Tokio reports this only by a panic. The panic is caught, but the program's panic hook prints
    /// it first. With `panic = "abort"` the program ends.
    #[error(
        "the tokio runtime here has no timers; call `enable_time` or `enable_all` on its builder"
    )]
    NoTimers,

    /// The tokio runtime here has no IO, which sockets need.
    ///
    /// The panic hook prints a panic first, as for [`NoTimers`](Self::NoTimers).
    #[error("the tokio runtime here has no IO; call `enable_io` or `enable_all` on its builder")]
    NoIo,
}

impl ConfigError {
    /// Returns the error for a refused `key`.
    pub(crate) fn key(key: &str, kind: KeyErrorKind) -> Self {
        // A long key is cut to the part that is enough to find it by.
        Self::Key {
            key: key.chars().take(64).collect(),
            kind,
        }
    }

    /// Returns the error for a refused `address`, which may have a password in it.
    pub(crate) fn address(address: &str, kind: AddressErrorKind) -> Self {
        Self::Address {
            address: public_part(address).to_owned(),
            kind,
        }
    }
}

/// The reason why an auth token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthTokenErrorKind {
    /// More than 65,536 bytes.
    TooLong,
    /// A line break or a NUL.
    Forbidden,
    /// White space at the start or end, which servers strip.
    Padded,
    /// An invisible character at the start or end, such as a zero-width space.
    Invisible {
        /// The character.
        character: char,
    },
}

impl fmt::Display for AuthTokenErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too long",
            Self::Forbidden => "it contains a line break or a NUL",
            Self::Padded => "it begins or ends with white space",
            Self::Invisible { character } => {
                let character = invisible::describe(*character);
                return write!(
                    f,
                    "it begins or ends with an invisible character, {character}"
                );
            }
        })
    }
}

/// The reason why the file of an auth token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthTokenFileErrorKind {
    /// The file cannot be read.
    Unreadable {
        /// The error of the operating system.
        error: String,
    },
    /// The file cannot be read, and the value that was given as its path may be the token itself.
    NotPath {
        /// The error of the operating system.
        error: String,
    },
    /// The file is not UTF-8.
    NotUtf8,
    /// The file has no content apart from white space.
    Empty,
    /// The token in the file is refused.
    Invalid(AuthTokenErrorKind),
}

impl fmt::Display for AuthTokenFileErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { error } => write!(f, "the file cannot be read: {error}"),
            Self::NotPath { error } => write!(
                f,
                "the file cannot be read: {error}; the value is not shown, as it may be the token \
                 itself; give the path of a file with the token in it, with a separator: `./token`"
            ),
            Self::NotUtf8 => f.write_str("the file is not UTF-8; save it as UTF-8"),
            Self::Empty => f.write_str("the file has no auth token in it"),
            Self::Invalid(kind) => kind.fmt(f),
        }
    }
}

fn file_location(file: Option<&PathBuf>) -> String {
    // Quoted with escapes, because a name may contain control characters.
    file.map_or_else(String::new, |file| {
        format!(" in {:?}", file.to_string_lossy())
    })
}
