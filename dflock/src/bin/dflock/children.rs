//! The child processes of this process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time between two calls of [`reap_orphans`].
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// Reaps every child of this process, and keeps the exit statuses of those that it was given.
///
/// The other children are orphans: the system gives them to PID 1, which `dflock` is in many
/// containers. Each stays a zombie until it is reaped.
pub(crate) struct Children {
    statuses: HashMap<Pid, Option<ExitStatus>>,
    exits: Signal,
}

impl Children {
    /// Handles SIGCHLD from now on. Where it was ignored, the status of a child that has ended
    /// before is not known to the system any more.
    pub(crate) fn new(pids: impl IntoIterator<Item = Pid>) -> io::Result<Self> {
        let statuses = pids.into_iter().map(|pid| (pid, None)).collect();
        Ok(Self {
            statuses,
            exits: signal(SignalKind::child())?,
        })
    }

    /// Whether `pid`, one of those that this was given, is not reaped: no other process has its
    /// number.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.statuses.get(&pid).is_some_and(Option::is_none)
    }

    /// Waits until `pid` has ended. Cancel safe, and may be called again.
    pub(crate) async fn wait(&mut self, pid: Pid) -> io::Result<ExitStatus> {
        self.wait_any([pid]).await.map(|(_, status)| status)
    }

    /// Waits until one of `pids` has ended, and returns the first of them that has. Cancel safe, and
    /// may be called again.
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
            self.exits.recv().await;
        }
    }

    /// Reaps the children that have ended. Fails when there is no child left, but one of unknown
    /// status.
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

/// Reaps the children that this process inherits as PID 1, for as long as it has none of its own.
///
/// It does not handle SIGCHLD, so that a command started later inherits the disposition.
pub(crate) async fn reap_orphans() -> Infallible {
    loop {
        while let Ok(Some(_)) = reap_one() {}
        tokio::time::sleep(REAP_INTERVAL).await;
    }
}

fn reap_one() -> Result<Option<(Pid, WaitStatus)>, Errno> {
    rustix::io::retry_on_intr(|| wait(WaitOptions::NOHANG))
}
