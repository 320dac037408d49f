//! A child process, and the signals that it is sent.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::sleep;

/// The pause between two looks whether a process has stopped.
const LOOK: Duration = Duration::from_millis(1);

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
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let gone = || io::Error::other("it ended at once");
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?))
            .ok_or_else(gone)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(gone());
        };
        Ok((Self { child, pid }, Pipes { stdin, stdout }))
    }

    /// Whether nobody has ended it.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGSTOP; no thread of the process runs any more when this returns.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn stop(&mut self) -> io::Result<()> {
        kill_process(self.pid, Signal::STOP)?;
        // one thread takes the signal, when it gets a processor, and the others run on until then
        while self.is_running() && !self.has_stopped()? {
            sleep(LOOK).await;
        }
        Ok(())
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

    fn has_stopped(&self) -> io::Result<bool> {
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), look)?.is_some_and(|status| status.stopped()))
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
