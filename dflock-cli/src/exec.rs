//! The process that becomes the command: `dflock __exec PID CMD ARGS..`.
//!
//! The process is started before its parent handles SIGCHLD, and becomes the command afterwards. So
//! a SIGCHLD that the parent of `dflock` ignores stays ignored for the command, and its exit status
//! is still available.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::Signal;

use crate::error::CliError;
use crate::fd_passing;
use crate::prctl::request_death_signal;

/// The first argument of this process.
pub(crate) const NAME: &str = "__exec";

/// A process that waits for [`start`](Self::start) to become the command.
pub(crate) struct PendingCommand(UnixStream);

impl PendingCommand {
    /// Returns the process to spawn, and the handle that makes it become the command `words`.
    ///
    /// The main thread must spawn it: on Linux it is killed when the thread that spawned it ends.
    pub(crate) fn new(words: &[OsString]) -> io::Result<(Self, Command)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = self_command(NAME);
        command
            .arg(std::process::id().to_string())
            .args(words)
            .stdin(OwnedFd::from(theirs));
        Ok((Self(ours), command))
    }

    /// Starts the command with the standard input `stdin`.
    pub(crate) fn start(self, stdin: BorrowedFd<'_>) -> io::Result<()> {
        fd_passing::send(&self.0, stdin)
    }
}

/// Returns a command that runs this program with `name` as its first argument.
pub(crate) fn self_command(name: &str) -> Command {
    // The link refers to the running executable even after an upgrade has replaced its file.
    let link = Path::new("/proc/self/exe");
    let mut command = if link.exists() {
        let mut command = Command::new(link);
        command.arg0("dflock");
        command
    } else {
        // Without `/proc`, the path that this process was started with, also for its children.
        let path = std::env::current_exe().ok().map(OsString::from);
        let path = path.or_else(|| std::env::args_os().next());
        Command::new(path.unwrap_or_else(|| "dflock".into()))
    };
    command.arg(name);
    command
}

/// Requests SIGKILL at the death of the parent, waits for the standard input of the command, and
/// executes the command.
pub(crate) fn exec(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = args.next().and_then(|parent| parent.to_str()?.parse().ok());
    let (Some(parent), Some(name)) = (parent, args.next()) else {
        return report(&CliError::usage(format!(
            "`{NAME}` is for internal use; see --help"
        )));
    };
    report(&exec_command(parent, &name, args))
}

fn exec_command(parent: i32, name: &OsStr, args: impl Iterator<Item = OsString>) -> CliError {
    if let Err(error) = request_death_signal(Signal::KILL, parent) {
        return CliError::system("cannot request the parent-death signal", &error);
    }
    match fd_passing::receive(io::stdin()) {
        Ok(stdin) => {
            CliError::exec_failed(name, &Command::new(name).args(args).stdin(stdin).exec())
        }
        Err(error) => CliError::system("cannot receive the standard input of the command", &error),
    }
}

fn report(error: &CliError) -> ExitCode {
    // Ignored: without a standard error there is no place to report the failure.
    let _ = writeln!(io::stderr(), "dflock: {error}");
    error.exit_code()
}
