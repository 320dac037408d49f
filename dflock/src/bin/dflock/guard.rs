//! What ends the command's process group when `dflock` is killed: `dflock __guard`.
//!
//! The death signal reaches only the command itself, not the processes that it has started. The guard holds the other end of a pipe
//! that only `dflock` writes to: the pipe ends when `dflock` does, however it does.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::exec::this_program;

/// The first argument that asks for this.
pub(crate) const NAME: &str = "__guard";

/// A guard that waits. Whom it watches is killed when it is dropped without [`dismiss`](Self::dismiss), as when this process dies.
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = this_program(NAME);
        // a group of its own, so that it outlives what the terminal or a shell ends
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Command::from(command).spawn().map(Self)
    }

    /// Watches over the process group `group`.
    pub(crate) async fn watch(&mut self, group: Pid) -> io::Result<()> {
        let pipe = self.0.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        pipe.write_all(group.as_raw_nonzero().to_string().as_bytes()).await
    }

    /// Watches no longer.
    pub(crate) async fn dismiss(mut self) {
        // it has ended already if this fails
        let _ = self.0.kill().await;
    }
}

/// Waits for the end of standard input, and kills the process group that was named there.
pub(crate) fn guard() -> ExitCode {
    let mut group = String::new();
    let read = io::stdin().read_to_string(&mut group);
    if let (Ok(_), Some(group)) = (read, group.parse().ok().and_then(Pid::from_raw)) {
        // it has ended already if this fails
        let _ = kill_process_group(group, Signal::KILL);
    }
    ExitCode::SUCCESS
}
