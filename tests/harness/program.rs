//! Child processes, and the signals sent to them.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::sleep;

/// Interval between two checks whether a process has stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A child process that is killed on drop.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pid: Pid,
}

/// Standard streams of a child process.
#[derive(Debug)]
pub struct Pipes {
    /// Its standard input.
    pub stdin: ChildStdin,
    /// Its standard output.
    pub stdout: ChildStdout,
}

impl Program {
    /// Starts the current executable with other arguments.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> io::Result<(Self, Pipes)> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let gone = || io::Error::other("the process ended immediately");
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?))
            .ok_or_else(gone)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(gone());
        };
        Ok((Self { child, pid }, Pipes { stdin, stdout }))
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGSTOP, and returns when no thread of the process runs any more.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub async fn stop(&mut self) -> io::Result<()> {
        kill_process(self.pid, Signal::STOP)?;
        // Only one thread takes the signal, when it is scheduled. The other threads run until then.
        while self.is_running() && !self.has_stopped()? {
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub fn resume(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    /// Sends SIGKILL, and returns when the sockets of the process are closed.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    fn has_stopped(&self) -> io::Result<bool> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), options)?.is_some_and(|status| status.stopped()))
    }
}

/// Makes this process end with its parent, even while it is stopped.
///
/// # Errors
///
/// Returns the error of the operating system.
pub fn end_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}
