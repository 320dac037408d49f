//! What cannot work is said before a byte is sent.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{AddressErrorKind, public_part};
use super::invisible;
use super::pem::PemErrorKind;
use crate::wire::InvalidKey;

/// An option or an argument that cannot work: what it was, and what is allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The key cannot be carried by the wire.
    #[error("key {key:?} is refused: {why}")]
    Key {
        /// The key as it was given, shortened.
        key: String,
        /// What is wrong with it.
        why: InvalidKey,
    },

    /// The limit is 0 or too high.
    #[error("limit {limit} is refused; a limit is 1 to 1048576")]
    Limit {
        /// The limit as it was given.
        limit: u32,
    },

    /// The lease is not whole seconds, or not in range.
    #[error("lease_ttl {lease:?} is refused; a lease is whole seconds from 1 s to 9223372036 s")]
    Lease {
        /// The lease as it was given.
        lease: Duration,
    },

    /// The renew ratio does not lie between 0 and 1.
    #[error("renew_ratio {ratio} is refused; it lies between 0 and 1, both excluded")]
    RenewRatio {
        /// The ratio as it was given.
        ratio: f64,
    },

    /// The wait is longer than a server can count.
    #[error("a wait of {wait:?} is refused; the longest is 9223372036 s")]
    Wait {
        /// The wait as it was given.
        wait: Duration,
    },

    /// A limit of time is not in range.
    #[error("{option} {given:?} is refused; {allowed}")]
    Duration {
        /// The option.
        option: &'static str,
        /// Its value as it was given.
        given: Duration,
        /// What it may be.
        allowed: &'static str,
    },

    /// The clock drift is not in range.
    #[error("clock_drift {drift} is refused; it is 0 or more and less than 0.5")]
    ClockDrift {
        /// The drift as it was given.
        drift: f64,
    },

    /// There is no server to ask.
    #[error("no server is configured; give at least one `host:port` to `servers`")]
    NoServers,

    /// The address of a server cannot be understood.
    #[error(
        "server {address:?} is refused: {why}; an address is `host:port`, an IPv6 one `[::1]:6388`"
    )]
    Address {
        /// The address as it was given, without what stands before an `@`, and without a query: a password may be in either.
        address: String,
        /// What is wrong with it.
        why: AddressErrorKind,
    },

    /// The sharding answered with a server that does not exist.
    #[error("sharding put key {key:?} on server {index} of {servers}; it must answer with an index from 0 to {}", servers - 1)]
    Shard {
        /// The key.
        key: String,
        /// What the sharding answered.
        index: usize,
        /// How many servers there are.
        servers: usize,
    },

    /// The secret cannot be carried by the wire.
    #[error(
        "the secret is refused: {why}; a secret is at most 65536 bytes without line break or NUL, and neither begins nor ends with \
         white space or an invisible character"
    )]
    Secret {
        /// What is wrong with it.
        why: TokenErrorKind,
    },

    /// The file with the secret cannot be used.
    #[error("the secret{} is refused: {why}", of_file(file.as_ref()))]
    AuthTokenFile {
        /// The file; not given when it may be the secret itself.
        file: Option<PathBuf>,
        /// What is wrong with it, and what is allowed.
        why: AuthTokenFileErrorKind,
    },

    /// A certificate or a key cannot be used.
    #[error("{what}{} is refused: {why}", of_file(file.as_ref()))]
    Pem {
        /// What it was to be, such as "the client key".
        what: &'static str,
        /// The file that it was to come from, if from one.
        file: Option<PathBuf>,
        /// What is wrong with it, and what is allowed.
        why: PemErrorKind,
    },

    /// The system trusts nobody.
    #[error(
        "the system has no certificate that can be trusted: {why}; install its CA certificates, or name one with `Tls::ca_pem_file`"
    )]
    NoNativeRoots {
        /// What was found.
        why: String,
    },

    /// No certificate can be for this name.
    #[error(
        "server name {name:?} is refused for TLS; it is a DNS name such as `lock.internal`, or an IP address without brackets and port"
    )]
    ServerName {
        /// The name as it was given, with `Tls::server_name` or as the host of a server.
        name: String,
    },

    /// An environment variable makes no sense.
    #[error("environment variable {name} is refused: {why}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it, and what is allowed.
        why: String,
    },

    /// There is a global client already.
    #[error(
        "a global client is installed already; `install_global` works once, use `scope` for anything else"
    )]
    GlobalInstalled,

    /// The call was made outside of a tokio runtime.
    #[error(
        "there is no tokio runtime here; call this from a task of a runtime with io and time enabled"
    )]
    NoRuntime,

    /// The tokio runtime here has no timers.
    ///
    /// Tokio can tell so only by a panic. It is caught, but the program's panic hook prints it before;
    /// where panics abort (`panic = "abort"`) the program ends.
    #[error(
        "the tokio runtime here has no timers; call `enable_time` or `enable_all` on its builder"
    )]
    NoTimers,

    /// The tokio runtime here has no IO, which sockets need.
    ///
    /// The panic hook prints a panic before, as for [`NoTimers`](Self::NoTimers).
    #[error("the tokio runtime here has no IO; call `enable_io` or `enable_all` on its builder")]
    NoIo,
}

impl ConfigError {
    pub(crate) fn key(key: &str, why: InvalidKey) -> Self {
        // enough to find it by, however long it is
        Self::Key {
            key: key.chars().take(64).collect(),
            why,
        }
    }

    /// Returns the error for a refused `address`, which may have a password in it.
    pub(crate) fn address(address: &str, why: AddressErrorKind) -> Self {
        Self::Address {
            address: public_part(address).to_owned(),
            why,
        }
    }
}

/// What is wrong with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// It has more than 65,536 bytes.
    TooLong,
    /// It has a line break or a NUL in it.
    Forbidden,
    /// It begins or ends with white space, which servers strip.
    Padded,
    /// It begins or ends with a character that shows nothing, such as a zero-width space.
    Invisible {
        /// The character.
        character: char,
    },
}

impl fmt::Display for TokenErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too long",
            Self::Forbidden => "it has a line break or a NUL in it",
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

/// What is wrong with the file of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthTokenFileErrorKind {
    /// The file cannot be read.
    Unreadable {
        /// The error of the operating system.
        error: String,
    },
    /// The path of a file is expected, and something else was given, such as the secret itself.
    NotPath,
    /// The file is not UTF-8.
    NotUtf8,
    /// The file has nothing but white space in it.
    Empty,
    /// The secret in the file is refused.
    Secret(TokenErrorKind),
}

impl fmt::Display for AuthTokenFileErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { error } => write!(f, "the file cannot be read: {error}"),
            Self::NotPath => f.write_str(
                "it is not the path of a file, and not shown because it may be the auth token; \
                 give the path of a file with the token in it, with a separator: `./token`",
            ),
            Self::NotUtf8 => f.write_str("the file is not UTF-8; save it as UTF-8"),
            Self::Empty => f.write_str("the file has no secret in it"),
            Self::Secret(why) => why.fmt(f),
        }
    }
}

fn of_file(file: Option<&PathBuf>) -> String {
    // Quoted with escapes, because a name may contain control characters.
    file.map_or_else(String::new, |file| {
        format!(" in {:?}", file.to_string_lossy())
    })
}
