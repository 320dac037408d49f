//! What becomes the command: `dflock __exec PID CMD ARGS..`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use crate::status::Failure;

/// The first argument that asks for this.
pub(crate) const NAME: &str = "__exec";

/// The command, to be started by the main thread: on Linux, it is killed when this process dies, however it dies.
#[cfg(target_os = "linux")]
pub(crate) fn command(words: &[OsString]) -> Command {
    let mut command = this_program(NAME);
    command.arg(std::process::id().to_string()).args(words);
    command
}

/// The command. Only Linux has a signal for the death of a parent.
#[cfg(not(target_os = "linux"))]
pub(crate) fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// This program, to be started anew as `name`.
pub(crate) fn this_program(name: &str) -> Command {
    use std::os::unix::process::CommandExt;

    // a link to the file that runs, also when another has taken its place since
    let file = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    let mut command = Command::new(file.unwrap_or_else(|_| "dflock".into()));
    command.arg0("dflock").arg(name);
    command
}

/// Asks for SIGKILL at the death of the process that started this one, and becomes the command.
pub(crate) fn exec(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = args.next().and_then(|parent| parent.to_str()?.parse().ok());
    let (Some(parent), Some(name)) = (parent, args.next()) else {
        return failed(&Failure::usage(format!("`{NAME}` is no command for people; see --help")));
    };
    failed(&become_command(parent, &name, args))
}

#[cfg(target_os = "linux")]
fn become_command(parent: i32, name: &OsStr, args: impl Iterator<Item = OsString>) -> Failure {
    use std::os::unix::process::CommandExt;

    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Failure::system("cannot ask to die with dflock", &error.into());
    }
    // it may have died before it was asked
    if getppid().map(Pid::as_raw_nonzero).map(std::num::NonZeroI32::get) != Some(parent) {
        return Failure::system("cannot run without dflock", &io::ErrorKind::NotFound.into());
    }
    Failure::not_run(name, &Command::new(name).args(args).exec())
}

#[cfg(not(target_os = "linux"))]
fn become_command(_parent: i32, _name: &OsStr, _args: impl Iterator<Item = OsString>) -> Failure {
    Failure::usage(format!("`{NAME}` needs Linux"))
}

fn failed(failure: &Failure) -> ExitCode {
    // nobody is left to tell when this fails
    let _ = writeln!(io::stderr(), "dflock: {failure}");
    failure.status()
}
