//! What ends the command's process group when `dflock` is killed: `dflock __guard`.
//!
//! The death signal reaches only the command itself, not the processes that it has started. The guard leads the process group that they
//! are all in, and holds the other end of a pipe that only `dflock` has: the pipe ends when `dflock` does, however it does.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};

use rustix::process::{Pid, Signal, kill_current_process_group, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::exec::this_program;
use crate::signals::Signals;

/// The first argument that asks for this.
pub(crate) const NAME: &str = "__guard";

/// A process group to start a command in. It is killed when this is dropped without [`dismiss`](Self::dismiss), as when this process
/// dies.
pub(crate) struct Guard {
    process: Child,
    group: Pid,
}

impl Guard {
    /// Comes back when it watches: before that, nothing may be started that it is to end.
    pub(crate) async fn start() -> io::Result<Self> {
        let mut command = this_program(NAME);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Command::from(command).spawn()?;
        let group = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).ok_or(io::ErrorKind::NotFound)?;
        let mut ready = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        ready.read_u8().await?;
        Ok(Self { process, group })
    }

    /// The process group, for as long as this lives.
    pub(crate) fn group(&self) -> Pid {
        self.group
    }

    /// Sends all in the group a signal. The guard itself takes no notice of those that are passed on.
    pub(crate) fn signal(&self, signal: Signal) {
        // all have ended already if this fails
        let _ = kill_process_group(self.group, signal);
    }

    /// Watches no longer, and leaves alone what runs.
    pub(crate) async fn dismiss(mut self) {
        // it has ended already if this fails
        let _ = self.process.kill().await;
    }
}

/// Waits for the end of standard input, and kills its process group.
pub(crate) fn guard() -> ExitCode {
    // what is passed on to the group comes here, too, and is heard by nobody
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return ExitCode::FAILURE };
    let _context = runtime.enter();
    let Ok(_unheard) = Signals::listen() else { return ExitCode::FAILURE };
    let mut ready = io::stdout();
    if ready.write_all(b".").and_then(|()| ready.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    // an error is an end, too
    let _ = io::stdin().read_to_end(&mut Vec::new());
    // this is one of those that are killed
    let _ = kill_current_process_group(Signal::KILL);
    ExitCode::FAILURE
}
