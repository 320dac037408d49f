//! The process that becomes the command: `dflock __exec PID CMD ARGS..`.
//!
//! It is started before `dflock` handles SIGCHLD, and waits until it does: a SIGCHLD that the parent
//! of `dflock` ignores stays ignored for the command, and its exit status is not lost all the same.

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

use crate::status::Failure;

/// The first argument that asks for this.
pub(crate) const NAME: &str = "__exec";

/// A command that waits to begin.
pub(crate) struct Waiting(UnixStream);

impl Waiting {
    /// Returns the process to start, and what makes it become the command `words`. It must be
    /// started by the main thread: on Linux, it is killed when its parent thread ends.
    pub(crate) fn new(words: &[OsString]) -> io::Result<(Self, Command)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = this_program(NAME);
        command
            .arg(std::process::id().to_string())
            .args(words)
            .stdin(OwnedFd::from(theirs));
        Ok((Self(ours), command))
    }

    /// Lets the command begin, with the standard input of this process.
    pub(crate) fn begin(self) -> io::Result<()> {
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

/// Returns this program, to be started anew as `name`.
pub(crate) fn this_program(name: &str) -> Command {
    // a link to the running file, also after an upgrade has replaced it; without `/proc`, the name
    // by which this process was started has to do
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

/// Asks for SIGKILL at the death of the process that started this one, waits until the command may
/// begin, and becomes it.
pub(crate) fn exec(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = args.next().and_then(|parent| parent.to_str()?.parse().ok());
    let (Some(parent), Some(name)) = (parent, args.next()) else {
        return failed(&Failure::usage(format!(
            "`{NAME}` is no command for people; see --help"
        )));
    };
    failed(&become_command(parent, &name, args))
}

fn become_command(parent: i32, name: &OsStr, args: impl Iterator<Item = OsString>) -> Failure {
    if let Err(error) = die_with(parent) {
        return Failure::system("cannot run without dflock", &error);
    }
    match receive_stdin() {
        Ok(stdin) => Failure::not_run(name, &Command::new(name).args(args).stdin(stdin).exec()),
        Err(error) => Failure::system("cannot run without dflock", &error),
    }
}

/// Waits for the standard input of the command.
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
    // or the command would have it twice
    fcntl_setfd(&stdin, FdFlags::CLOEXEC)?;
    Ok(stdin)
}

#[cfg(target_os = "linux")]
fn die_with(parent: i32) -> io::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL))?;
    // it may have died before it was asked
    if Pid::as_raw(getppid()) == parent {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Does nothing: only Linux has a signal for the death of a parent.
#[cfg(not(target_os = "linux"))]
fn die_with(_parent: i32) -> io::Result<()> {
    Ok(())
}

fn failed(failure: &Failure) -> ExitCode {
    // nobody is left to tell when this fails
    let _ = writeln!(io::stderr(), "dflock: {failure}");
    failure.status()
}
