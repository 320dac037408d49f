//! A child process, and the signals that it is sent.

use std::io;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pid: Pid,
}

/// What a process is talked with.
#[derive(Debug)]
pub struct Pipes {
    /// What it reads.
    pub stdin: ChildStdin,
    /// What it says.
    pub stdout: ChildStdout,
}

impl Program {
    /// Starts this very program with other arguments.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> io::Result<(Self, Pipes)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let gone = || io::Error::other("it ended at once");
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).ok_or_else(gone)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err(gone()) };
        Ok((Self { child, pid }, Pipes { stdin, stdout }))
    }

    /// Whether nobody has ended it.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGSTOP.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn stop(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::STOP)?)
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn go_on(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    /// SIGKILL; the sockets of the process are closed when this returns.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

/// Makes this process end with its parent, even if it is stopped then.
///
/// # Errors
///
/// The system's.
pub fn end_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}
