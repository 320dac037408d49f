//! How it ended: exit statuses, in the manner of `sysexits.h`, and what is said with them.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use clap::error::ContextValue;
use dflock::server::ServerError;
use dflock::{ConfigError, Error, Lost};
use rustix::process::Signal;

/// The command line, or the environment, makes no sense.
const USAGE: u8 = 64;
/// No server, or none that answers.
pub(crate) const UNAVAILABLE: u8 = 69;
/// The system refused.
const SYSTEM: u8 = 71;
/// No slot in time.
const TIMEOUT: u8 = 75;
/// The slot was lost.
pub(crate) const LOST: u8 = 76;
/// The server does not take the secret.
const AUTH: u8 = 77;
/// The command cannot be run.
const NOT_RUN: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// Why `dflock` itself failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    what: String,
}

impl Failure {
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self {
            status: USAGE,
            what: what.into(),
        }
    }

    /// The system refused `what`.
    pub(crate) fn system(what: &str, error: &io::Error) -> Self {
        Self {
            status: SYSTEM,
            what: format!("{what}: {error}"),
        }
    }

    /// The command `name` could not be started.
    pub(crate) fn not_run(name: &std::ffi::OsStr, error: &io::Error) -> Self {
        let status = if error.kind() == io::ErrorKind::NotFound {
            NOT_FOUND
        } else {
            NOT_RUN
        };
        Self {
            status,
            what: format!("cannot run {}: {error}", name.display()),
        }
    }

    /// No slot of `key` came free within `--timeout`.
    pub(crate) fn no_slot_in_time(key: &str, server: &str) -> Self {
        Self {
            status: TIMEOUT,
            what: format!(
                "no slot of {key:?} on {server} came free in time; try again, or wait longer with --timeout"
            ),
        }
    }

    /// The server said nothing about `key` within `--timeout`, which ended before any other limit.
    pub(crate) fn no_answer_in_time(key: &str, server: &str) -> Self {
        Self {
            status: TIMEOUT,
            what: format!(
                "no slot of {key:?}: {server} did not answer in time; check the server, or wait longer with --timeout"
            ),
        }
    }

    pub(crate) fn status(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(said(&error))
    }
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Self {
            status: LOST,
            what: format!(
                "the slot of {:?} on {} was lost: {}",
                lost.key, lost.server, lost.reason
            ),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Config(_) | Error::LimitMismatch { .. } => USAGE,
            Error::Timeout { context, waited } => {
                let key = context.key.as_deref().unwrap_or_default();
                if !waited.is_zero() {
                    return Self::no_slot_in_time(key, &context.server);
                }
                return Self {
                    status: TIMEOUT,
                    what: format!(
                        "no slot of {key:?} on {} is free now; wait for one with a longer --timeout",
                        context.server
                    ),
                };
            }
            Error::TooManyKeys { .. }
            | Error::TooManyWaiters { .. }
            | Error::LeaseExpired { .. } => TIMEOUT,
            Error::Lost(lost) => return lost.clone().into(),
            Error::Auth { .. } => AUTH,
            _ => UNAVAILABLE,
        };
        Self {
            status,
            what: said(&error),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let status = match &error {
            ServerError::InvalidOption { .. } | ServerError::Client(_) => USAGE,
            ServerError::Bind { .. } => UNAVAILABLE,
            _ => SYSTEM,
        };
        Self {
            status,
            what: said(&error),
        }
    }
}

/// The status of a command that ended: its own, or 128 and the signal.
pub(crate) fn of_command(status: ExitStatus) -> ExitCode {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = signal
        .or(status.code())
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The status of who was ended by a signal.
pub(crate) fn of_signal(signal: Signal) -> ExitCode {
    u8::try_from(128 + signal.as_raw()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Says what is wrong with the command line, or gives the help that was asked for.
pub(crate) fn of_usage(mut error: clap::Error) -> ExitCode {
    // an address in the wrong place, such as `dflock stats redis://:PASSWORD@lock-1:6388`
    let is_private = |value: &ContextValue| matches!(value, ContextValue::String(text) if text.contains(['@', '%']));
    let private = error.context().filter(|(_, value)| is_private(value));
    for kind in private.map(|(kind, _)| kind).collect::<Vec<_>>() {
        let hidden = "(not shown: it may hold a password)".to_owned();
        error.insert(kind, ContextValue::String(hidden));
    }
    // nobody is left to tell when this fails
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// What the library says, in the words of the command line.
pub(crate) fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    OPTIONS
        .iter()
        .fold(text, |text, (library, here)| text.replace(library, here))
}

/// What the library calls its options, and what to turn here instead.
const OPTIONS: [(&str, &str); 13] = [
    ("`servers`", "--servers"),
    ("`auth`", "--auth-token-file"),
    ("`tls`", "--tls-ca"),
    ("`Tls::ca_pem_file`", "--tls-ca"),
    (", or give it with `Tls::server_name`", ""),
    (
        "give one that it trusts with `Tls::client_pem_files`",
        "use one that does not: there is no option for one",
    ),
    ("`acquire_timeout`", "--timeout"),
    ("`lease_ttl`", "--lease"),
    ("lease_ttl ", "--lease "),
    ("`connect_timeout`", "DFLOCK_CONNECT_TIMEOUT"),
    ("`socket_timeout`", "DFLOCK_SOCKET_TIMEOUT"),
    (
        "`server_read_timeout` less `clock_drift`",
        "--server-read-timeout less one part in a hundred",
    ),
    ("heartbeat ", "DFLOCK_HEARTBEAT "),
];
