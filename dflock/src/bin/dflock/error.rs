//! Exit codes, as in `sysexits.h`, and the error type of the command line.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use clap::error::ContextValue;
use dflock::server::ServerError;
use dflock::{ConfigError, Error, Lost};
use rustix::process::Signal;

/// Invalid command line or environment.
const USAGE: u8 = 64;
/// Server not reachable, or no reply.
pub(crate) const UNAVAILABLE: u8 = 69;
/// System error.
const SYSTEM: u8 = 71;
/// No slot in time.
const TIMEOUT: u8 = 75;
/// The slot was lost.
pub(crate) const LOST: u8 = 76;
/// Authentication failed.
const AUTH: u8 = 77;
/// The command cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// The command was not found.
const NOT_FOUND: u8 = 127;

/// An error of `dflock` itself, with its exit code.
#[derive(Debug)]
pub(crate) struct CliError {
    code: u8,
    message: String,
}

impl CliError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
        }
    }

    /// Creates a system error. `action` says what failed, such as "cannot listen for signals".
    pub(crate) fn system(action: &str, error: &io::Error) -> Self {
        Self {
            code: SYSTEM,
            message: format!("{action}: {error}"),
        }
    }

    /// Creates the error for a command that could not be executed.
    pub(crate) fn exec_failed(name: &std::ffi::OsStr, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound {
            NOT_FOUND
        } else {
            CANNOT_EXECUTE
        };
        Self {
            code,
            message: format!("cannot run {}: {error}", name.display()),
        }
    }

    /// Creates the error for `--timeout` that ended while the client was in the queue of `key`.
    pub(crate) fn no_slot_in_time(key: &str, server: &str) -> Self {
        Self {
            code: TIMEOUT,
            message: format!(
                "timed out waiting for a slot of {key:?} on {server}; try again, or use a longer \
                 --timeout"
            ),
        }
    }

    /// Creates the error for `--timeout` that ended before the first reply of the server.
    pub(crate) fn no_reply_in_time(key: &str, server: &str) -> Self {
        Self {
            code: TIMEOUT,
            message: format!(
                "timed out waiting for a slot of {key:?}: no reply from {server}; check the \
                 server, or use a longer --timeout"
            ),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::usage(message(&error))
    }
}

impl From<Lost> for CliError {
    fn from(lost: Lost) -> Self {
        Self {
            code: LOST,
            message: format!(
                "the slot of {:?} on {} was lost: {}",
                lost.key, lost.server, lost.reason
            ),
        }
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Config(_) | Error::LimitMismatch { .. } => USAGE,
            Error::Timeout { context, waited } => {
                let key = context.key.as_deref().unwrap_or_default();
                if !waited.is_zero() {
                    return Self::no_slot_in_time(key, &context.server);
                }
                return Self {
                    code: TIMEOUT,
                    message: format!(
                        "no slot of {key:?} on {} is free now; use a longer --timeout to wait",
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
            code,
            message: message(&error),
        }
    }
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        let code = match &error {
            ServerError::InvalidOption { .. } | ServerError::Client(_) => USAGE,
            ServerError::Bind { .. } => UNAVAILABLE,
            _ => SYSTEM,
        };
        Self {
            code,
            message: message(&error),
        }
    }
}

/// Returns the exit code of a command that has ended: its own, or 128 plus the signal number.
pub(crate) fn exit_code_from_status(status: ExitStatus) -> ExitCode {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = signal
        .or(status.code())
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Returns the exit code of a process that a signal ended.
pub(crate) fn exit_code_from_signal(signal: Signal) -> ExitCode {
    u8::try_from(128 + signal.as_raw()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Prints a usage error, or the requested help or version, and returns the exit code.
pub(crate) fn print_clap_error(mut error: clap::Error) -> ExitCode {
    // Hides an address in the wrong place, such as `dflock stats redis://:PASSWORD@lock-1:6388`.
    let is_private = |value: &ContextValue| match value {
        ContextValue::String(text) => text.contains(['@', '%']),
        _ => false,
    };
    let private = error.context().filter(|(_, value)| is_private(value));
    for kind in private.map(|(kind, _)| kind).collect::<Vec<_>>() {
        let hidden = "(not shown: it may contain a password)".to_owned();
        error.insert(kind, ContextValue::String(hidden));
    }
    // Ignored: without a standard error there is no place to report the failure.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// Returns the message of a library error, with the names of the options of the command line.
pub(crate) fn message(error: &(dyn std::error::Error + 'static)) -> String {
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    OPTION_NAMES
        .iter()
        .fold(text, |text, (library, cli)| text.replace(library, cli))
}

/// Option names of the library, and their replacements in messages of the command line.
const OPTION_NAMES: [(&str, &str); 13] = [
    ("`servers`", "--servers"),
    ("`auth`", "--auth-token-file"),
    ("`tls`", "--tls-ca"),
    ("`Tls::ca_pem_file`", "--tls-ca"),
    (", or give it with `Tls::server_name`", ""),
    (
        "give one that it trusts with `Tls::client_pem_files`",
        "use a server that does not require one: dflock has no option for client certificates",
    ),
    ("`acquire_timeout`", "--timeout"),
    ("`lease_ttl`", "--lease"),
    ("lease_ttl ", "--lease "),
    ("`connect_timeout`", "DFLOCK_CONNECT_TIMEOUT"),
    ("`socket_timeout`", "DFLOCK_SOCKET_TIMEOUT"),
    (
        "`server_read_timeout` less `clock_drift`",
        "--server-read-timeout less 1 %",
    ),
    ("heartbeat ", "DFLOCK_HEARTBEAT "),
];
