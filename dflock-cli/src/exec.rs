//! The process that becomes the command: `dflock __exec PID CMD ARGS..`.
//!
//! The process is started before `dflock` handles SIGCHLD, and becomes the command afterwards. So a
//! SIGCHLD that the parent of `dflock` ignores stays ignored for the command, and `dflock` still
//! gets the exit status.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::error::CliError;

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

    /// Starts the command with the standard input of this process.
    pub(crate) fn start(self) -> io::Result<()> {
        let stdin = io::stdin();
        let stdin = [stdin.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        message.push(SendAncillaryMessage::ScmRights(&stdin));
        let byte = [IoSlice::new(b".")];
        retry_on_intr(|| sendmsg(&self.0, &byte, &mut message, SendFlags::empty()))?;
        Ok(())
    }
}

/// Returns a command that runs this program with `name` as its first argument.
pub(crate) fn self_command(name: &str) -> Command {
    // The link refers to the running executable even after an upgrade has replaced its file.
    // Without `/proc`, use the path that this process was started with.
    let link = Path::new("/proc/self/exe");
    let file = if link.exists() {
        Some(link.to_owned())
    } else {
        std::env::current_exe().ok()
    };
    let file = file
        .map(OsString::from)
        .or_else(|| std::env::args_os().next());
    let mut command = Command::new(file.unwrap_or_else(|| "dflock".into()));
    command.arg0("dflock").arg(name);
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
    if let Err(error) = request_death_signal(parent) {
        return CliError::system("cannot request the parent-death signal", &error);
    }
    match receive_stdin() {
        Ok(stdin) => {
            CliError::exec_failed(name, &Command::new(name).args(args).stdin(stdin).exec())
        }
        Err(error) => CliError::system("cannot receive the standard input of the command", &error),
    }
}

/// Waits for the standard input of the command and returns it.
fn receive_stdin() -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let control = io::stdin();
    retry_on_intr(|| {
        let mut byte = [IoSliceMut::new(&mut byte)];
        recvmsg(&control, &mut byte, &mut message, RecvFlags::empty())
    })?;
    let stdin = message.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let stdin = stdin.ok_or(io::ErrorKind::UnexpectedEof)?;
    // Otherwise the command would inherit a second copy of its standard input.
    fcntl_setfd(&stdin, FdFlags::CLOEXEC)?;
    Ok(stdin)
}

/// Requests SIGKILL for this process when `parent` dies.
#[cfg(target_os = "linux")]
fn request_death_signal(parent: i32) -> io::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the request.
    if Pid::as_raw(getppid()) == parent {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Does nothing: only Linux has a parent-death signal.
#[cfg(not(target_os = "linux"))]
fn request_death_signal(_parent: i32) -> io::Result<()> {
    Ok(())
}

fn report(error: &CliError) -> ExitCode {
    // Ignored: without a standard error there is no place to report the failure.
    let _ = writeln!(io::stderr(), "dflock: {error}");
    error.exit_code()
}
