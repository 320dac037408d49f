//! The messages of library errors, with the options of the command line in place of those of the
//! library.

use dflock::server::ServerError;
use dflock::{
    AddressErrorKind, AuthErrorKind, ConfigError, Error, Lost, LostReason, Operation, TlsErrorKind,
};

/// Returns the message of a failed request or a lost slot, with its cause.
pub(crate) fn message(error: &Error) -> String {
    with_source(own_message(error), error)
}

fn own_message(error: &Error) -> String {
    match error {
        Error::Config(error) => config_message(error),
        Error::Lost(lost) => lost_message(lost),
        Error::Timeout { context, waited } => {
            let key = context.key.as_deref().unwrap_or_default();
            let server = &context.server;
            if waited.is_zero() {
                format!(
                    "no slot of {key:?} on {server} is free now; use a longer --timeout to wait"
                )
            } else {
                timeout_message(key, server)
            }
        }
        Error::LeaseExpired { context } => format!(
            "{context}: the lease of the granted slot expired before the grant arrived; try again, \
             with a longer --lease if this repeats"
        ),
        Error::Auth { context, kind } => match auth_message(*kind) {
            Some(text) => format!("{context}: {text}"),
            None => error.to_string(),
        },
        Error::NotLeader { context, leader } => {
            let leader = leader.as_deref().map(|leader| format!(", {leader} does"));
            format!(
                "{context}: the server does not lead its cluster{}; name the leader with --servers",
                leader.unwrap_or_default()
            )
        }
        Error::Connect { context, .. } => format!(
            "{context}: no connection; check that the server runs and that --servers names it"
        ),
        Error::ConnectTimeout {
            context,
            limit,
            stage,
        } => format!(
            "{context}: no connection within {limit:?}; {stage}, or raise DFLOCK_CONNECT_TIMEOUT, or \
             on etcd DFLOCK_SOCKET_TIMEOUT, of which one member has a fifth{}",
            timeout_hint(context.operation)
        ),
        Error::Tls { context, kind, .. } => match tls_message(*kind) {
            Some(text) => format!("{context}: no TLS connection: {text}"),
            None => error.to_string(),
        },
        Error::Unresponsive { context, limit } => format!(
            "{context}: no answer within {limit:?}; the connection was closed; check the server, \
             or raise DFLOCK_SOCKET_TIMEOUT{}",
            timeout_hint(context.operation)
        ),
        Error::StatsTooLarge { context, limit } => {
            format!(
                "{context}: the reply is longer than {limit} bytes; the server has too many keys"
            )
        }
        Error::Unsupported {
            context, engine, ..
        } => format!(
            "{context}: {engine} does not support this; an etcd cluster does (--servers \
             etcd://HOST:PORT)"
        ),
        Error::Protocol { context, received } => format!(
            "{context}: the server answered {received:?}, which is no reply to {}; check that \
             --servers names the host and port of a dflockd server, and give --tls-ca if the \
             server speaks TLS",
            context.operation
        ),
        error => error.to_string(),
    }
}

/// Returns the message of an invalid option or variable.
pub(crate) fn config_message(error: &ConfigError) -> String {
    match error {
        ConfigError::Lease { lease } => {
            format!("--lease {lease:?} is refused; a lease is whole seconds from 1s to 9223372036s")
        }
        ConfigError::Duration {
            option: "heartbeat",
            given,
            ..
        } if !given.is_zero() => format!(
            "DFLOCK_HEARTBEAT {given:?} is refused; it must be less than --server-read-timeout \
             less 1 %"
        ),
        ConfigError::MaxHold {
            max_hold,
            lease_ttl,
        } => format!(
            "--max-hold {max_hold:?} is refused; it must be at least the --lease, {lease_ttl:?}"
        ),
        ConfigError::Duration {
            option: "max_hold",
            given,
            allowed,
        } => format!("--max-hold {given:?} is refused; {allowed}"),
        ConfigError::MinHold { min_hold, max_hold } => format!(
            "--min-hold {min_hold:?} is refused; it must be at most the --max-hold, {max_hold:?}"
        ),
        ConfigError::Permits { permits, limit } => {
            format!("--permits {permits} is refused; with --limit {limit} it must be 1 to {limit}")
        }
        ConfigError::PermitsKey { key, bytes, max } => format!(
            "key {key:?} is refused with --permits: it has {bytes} bytes; the longest has {max}"
        ),
        ConfigError::TooManyPermits { permits, max } => {
            format!("--permits {permits} is refused; an etcd cluster grants at most {max} at once")
        }
        ConfigError::ShortLease {
            lease,
            engine,
            shortest,
        } => format!(
            "--lease {lease:?} is refused; the shortest lease that {engine} grants is {shortest:?}"
        ),
        ConfigError::EtcdUser => {
            "the user of the etcd cluster is refused; the file of --auth-token-file must have the \
             form NAME:PASSWORD"
                .to_owned()
        }
        ConfigError::MissingFeature { address, feature } => format!(
            "server {address:?} is refused: this `dflock` was built without the feature `{feature}`"
        ),
        ConfigError::NoServers => {
            "no server is configured; name at least one `host:port` with --servers".to_owned()
        }
        ConfigError::Address {
            address,
            kind: AddressErrorKind::UserInfo,
        } => format!(
            "server {address:?} is refused: user and password are not allowed in an address; give \
             the auth token with --auth-token-file"
        ),
        ConfigError::NoNativeRoots { reason } => format!(
            "the system has no certificate that is trusted: {reason}; install its CA certificates, or \
             name one with --tls-ca"
        ),
        error => error.to_string(),
    }
}

/// Returns the message of a server that cannot start, with its cause.
pub(crate) fn server_message(error: &ServerError) -> String {
    let text = match error {
        ServerError::InvalidOption {
            option,
            given,
            allowed,
            ..
        } => {
            let option = match *option {
                "default_lease" => "--default-lease-ttl".to_owned(),
                "max_keys" => "--max-locks".to_owned(),
                option => format!("--{}", option.replace('_', "-")),
            };
            format!("invalid {option} ({given}): it must be {allowed}")
        }
        ServerError::Client(error) | ServerError::Runtime(error) => return config_message(error),
        error => error.to_string(),
    };
    with_source(text, error)
}

/// Returns the message of a lost slot.
pub(crate) fn lost_message(lost: &Lost) -> String {
    let Lost {
        key,
        server,
        reason,
        ..
    } = lost;
    match reason {
        LostReason::Overdue => format!(
            "the slot of {key:?} on {server} was lost: it was held for as long as --max-hold allows"
        ),
        reason => format!("the slot of {key:?} on {server} was lost: {reason}"),
    }
}

/// Returns the message of a `--timeout` that ended while the client was in the queue of `key`.
pub(crate) fn timeout_message(key: &str, server: &str) -> String {
    format!(
        "timed out waiting for a slot of {key:?} on {server}; try again, or use a longer --timeout"
    )
}

fn auth_message(kind: AuthErrorKind) -> Option<&'static str> {
    Some(match kind {
        AuthErrorKind::Missing => {
            "the server requires an auth token; give it with --auth-token-file, on etcd as \
             NAME:PASSWORD"
        }
        AuthErrorKind::Wrong { long: false } => {
            "the server refuses the auth token of --auth-token-file or DFLOCK_AUTH_TOKEN; check it"
        }
        AuthErrorKind::Wrong { long: true } => {
            "the server refuses the auth token of --auth-token-file or DFLOCK_AUTH_TOKEN; check it, \
             and note that servers before v1.15 accept none of more than 256 bytes"
        }
        AuthErrorKind::Unneeded => {
            "the server requires no auth token; leave --auth-token-file and DFLOCK_AUTH_TOKEN out, \
             or enable authentication there"
        }
        AuthErrorKind::TooLong => {
            "the server answered `error` to an auth token of more than 256 bytes: servers before \
             v1.15 accept none of that length, or the server requires none; use a shorter one, or \
             leave --auth-token-file and DFLOCK_AUTH_TOKEN out"
        }
        _ => return None,
    })
}

fn tls_message(kind: TlsErrorKind) -> Option<&'static str> {
    Some(match kind {
        TlsErrorKind::Name => {
            "the server's certificate is for another name; use the name of the certificate in \
             --servers"
        }
        TlsErrorKind::Issuer => {
            "the server's certificate is not issued by a trusted CA; give the CA's certificate \
             with --tls-ca"
        }
        TlsErrorKind::NotTls => {
            "the server's answer is not TLS, so it does not speak TLS here; check the port, or \
             leave --tls-ca, DFLOCK_TLS_CA and DFLOCK_TLS out"
        }
        TlsErrorKind::Refused => {
            "the server refused the handshake; if it requires a client certificate, give one that \
             it trusts with --tls-cert and --tls-key"
        }
        _ => return None,
    })
}

/// Returns the mention of `--timeout` for the operation that it limits, too.
fn timeout_hint(operation: Operation) -> &'static str {
    match operation {
        Operation::Acquire => ", or --timeout if that is shorter",
        _ => "",
    }
}

fn with_source(text: String, error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{text}: {source}"),
        None => text,
    }
}
