//! Reaps the child processes of this process.

use std::collections::HashMap;
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

/// Reaps every child of this process and keeps the exit statuses of the registered ones.
///
/// The other children are orphans: the system reparents them to PID 1, which `dflock` is in many
/// containers. Each stays a zombie until it is reaped.
pub(crate) struct Reaper {
    /// Registered children; `None` until the child is reaped.
    statuses: HashMap<Pid, Option<ExitStatus>>,
    sigchld: Signal,
}

impl Reaper {
    /// Registers `pids` and handles SIGCHLD from now on. If SIGCHLD was ignored before, the system
    /// has discarded the statuses of children that have ended already.
    pub(crate) fn new(pids: impl IntoIterator<Item = Pid>) -> io::Result<Self> {
        let statuses = pids.into_iter().map(|pid| (pid, None)).collect();
        Ok(Self {
            statuses,
            sigchld: signal(SignalKind::child())?,
        })
    }

    /// Returns whether `pid` is registered and not yet reaped, so that the pid cannot have been
    /// reused.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.statuses.get(&pid).is_some_and(Option::is_none)
    }

    /// Waits until the registered child `pid` ends. Cancel safe, and may be called again.
    pub(crate) async fn wait(&mut self, pid: Pid) -> io::Result<ExitStatus> {
        self.wait_any([pid]).await.map(|(_, status)| status)
    }

    /// Waits until one of the registered children `pids` ends. Returns the first of them in the
    /// order of `pids` that has ended. Cancel safe, and may be called again.
    pub(crate) async fn wait_any<const N: usize>(
        &mut self,
        pids: [Pid; N],
    ) -> io::Result<(Pid, ExitStatus)> {
        loop {
            self.reap()?;
            for pid in pids {
                match self.statuses.get(&pid) {
                    Some(Some(status)) => return Ok((pid, *status)),
                    Some(None) => {}
                    None => return Err(io::ErrorKind::NotFound.into()),
                }
            }
            self.sigchld.recv().await;
        }
    }

    /// Reaps all children that have ended. Fails if there are no children left but the status of a
    /// registered child is unknown.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            match reap_one() {
                Ok(Some((pid, status))) => {
                    if let Some(known) = self.statuses.get_mut(&pid) {
                        *known = Some(ExitStatus::from_raw(status.as_raw()));
                    }
                }
                Err(Errno::CHILD) if self.statuses.values().all(Option::is_some) => return Ok(()),
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
