//! The errors of `dflock` itself.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::error::ContextValue;
use dflock::server::ServerError;
use dflock::{ConfigError, Error, Lost};
use rustix::process::Signal;

use crate::exit_code::{
    self, AUTH, CANNOT_EXECUTE, LOST, NO_SUCH_HOLDER, NOT_FOUND, SYSTEM, TIMEOUT, UNAVAILABLE,
    USAGE,
};
use crate::message::{config_message, lost_message, message, server_message, timeout_message};

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

    /// Creates the error for a signal that ended a process while it started.
    pub(crate) fn interrupted(signal: Signal) -> Self {
        Self {
            code: exit_code::signal_code(signal),
            message: "interrupted before the command was started".to_owned(),
        }
    }

    /// Creates the error for a command that could not be executed.
    pub(crate) fn exec_failed(name: &OsStr, error: &io::Error) -> Self {
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
            message: timeout_message(key, server),
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

    /// Creates the error for a token that no holder of `key` has.
    pub(crate) fn no_such_holder(key: &str) -> Self {
        Self {
            code: NO_SUCH_HOLDER,
            message: format!("no holder of {key:?} has this token; see `dflock holders`"),
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
        Self::usage(config_message(&error))
    }
}

impl From<Lost> for CliError {
    fn from(lost: Lost) -> Self {
        Self {
            code: LOST,
            message: lost_message(&lost),
        }
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Config(_) | Error::LimitMismatch { .. } | Error::Unsupported { .. } => USAGE,
            Error::Timeout { .. }
            | Error::TooManyKeys { .. }
            | Error::TooManyWaiters { .. }
            | Error::LeaseExpired { .. } => TIMEOUT,
            Error::Lost(_) => LOST,
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
            message: server_message(&error),
        }
    }
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
