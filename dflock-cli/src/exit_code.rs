//! The exit codes, as in `sysexits.h`.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use rustix::process::Signal;

/// No holder has the token of `dflock revoke`.
pub(crate) const NO_SUCH_HOLDER: u8 = 1;
/// Invalid command line or environment.
pub(crate) const USAGE: u8 = 64;
/// Server not reachable, or no reply.
pub(crate) const UNAVAILABLE: u8 = 69;
/// System error.
pub(crate) const SYSTEM: u8 = 71;
/// No slot in time.
pub(crate) const TIMEOUT: u8 = 75;
/// The slot was lost.
pub(crate) const LOST: u8 = 76;
/// Authentication failed.
pub(crate) const AUTH: u8 = 77;
/// The command cannot be executed.
pub(crate) const CANNOT_EXECUTE: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// Returns the exit code of a command that has ended: its own, or 128 plus the signal number.
pub(crate) fn from_status(status: ExitStatus) -> ExitCode {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = signal
        .or(status.code())
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Returns the number of [`from_signal`].
pub(crate) fn signal_code(signal: Signal) -> u8 {
    // Signals are at most 64.
    u8::try_from(128 + signal.as_raw()).unwrap_or(1)
}

/// Returns the exit code of a process that a signal ended.
pub(crate) fn from_signal(signal: Signal) -> ExitCode {
    ExitCode::from(signal_code(signal))
}
