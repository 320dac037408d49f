//! Reaps the child processes of this process.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Interval at which [`reap_orphans`] reaps.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// Reaps every child of this process and keeps the exit status of the registered one.
///
/// The other children are orphans: the system reparents them to a subreaper, or to PID 1, which
/// `dflock` is in many containers. Each stays a zombie until it is reaped.
pub(crate) struct Reaper {
    /// The registered child.
    pid: Pid,
    /// Its exit status; `None` until it is reaped.
    status: Option<ExitStatus>,
    sigchld: Signal,
}

impl Reaper {
    /// Registers the child `pid` and handles SIGCHLD from now on. If SIGCHLD was ignored before,
    /// the system has discarded the status of a child that has ended already.
    pub(crate) fn new(pid: Pid) -> io::Result<Self> {
        Ok(Self {
            pid,
            status: None,
            sigchld: signal(SignalKind::child())?,
        })
    }

    /// Returns whether the registered child is not yet reaped, so that its pid cannot have been
    /// reused.
    pub(crate) fn runs(&self) -> bool {
        self.status.is_none()
    }

    /// Waits until the registered child ends. Cancel safe, and may be called again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            self.reap()?;
            if let Some(status) = self.status {
                return Ok(status);
            }
            self.sigchld.recv().await;
        }
    }

    /// Reaps all children that have ended. Fails if there are no children left but the status of
    /// the registered child is unknown.
    pub(crate) fn reap(&mut self) -> io::Result<()> {
        loop {
            match reap_one() {
                Ok(Some((pid, status))) if pid == self.pid && self.runs() => {
                    self.status = Some(ExitStatus::from_raw(status.as_raw()));
                }
                Ok(Some(_)) => {}
                Err(Errno::CHILD) if !self.runs() => return Ok(()),
                Err(error) => return Err(error.into()),
                Ok(None) => return Ok(()),
            }
        }
    }
}

/// Reaps the orphans that this process inherits as PID 1, while it has no children that it started.
///
/// Polls instead of handling SIGCHLD, because a command that is started later has to inherit the
/// disposition of SIGCHLD.
pub(crate) async fn reap_orphans() -> Infallible {
    loop {
        while let Ok(Some(_)) = reap_one() {}
        tokio::time::sleep(REAP_INTERVAL).await;
    }
}

fn reap_one() -> Result<Option<(Pid, WaitStatus)>, Errno> {
    rustix::io::retry_on_intr(|| wait(WaitOptions::NOHANG))
}
