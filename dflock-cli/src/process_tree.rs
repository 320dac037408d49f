//! The processes of a command.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::proc::Process;

/// Upper bound of the pause after which [`ProcessTree::kill`] looks again for processes that have
/// not ended. The first pause is 1 ms.
const MAX_KILL_INTERVAL: Duration = Duration::from_millis(50);

/// The command and all processes that it started, in its session.
///
/// On Linux they are the descendants of `root`, which is their subreaper, as read from `/proc`. On
/// other systems only the command and its process group are known.
///
/// A process that has created a new session is not a member, apart from the command itself.
pub(crate) struct ProcessTree {
    /// The watchdog, or a process that has become its successor as the subreaper. Not a member.
    pub(crate) root: Pid,
    /// Children of `root` that the command did not start.
    pub(crate) excluded: HashSet<Pid>,
    /// Pid of the command, unless it is known to have ended.
    pub(crate) command: Option<Pid>,
    /// The command's own process group, if it has one.
    pub(crate) group: Option<Pid>,
}

impl ProcessTree {
    /// Returns the pids of the members that have not ended. Empty without a usable `/proc`.
    pub(crate) fn pids(&self) -> HashSet<Pid> {
        let Some(Process { session, .. }) = Process::current() else {
            return HashSet::new();
        };
        let mut others: Vec<_> = Process::all().collect();
        let mut members = HashSet::new();
        let mut parents = HashSet::from([self.root]);
        while !parents.is_empty() {
            let is_child = |process: &mut Process| {
                process
                    .parent
                    .is_some_and(|parent| parents.contains(&parent))
                    && !self.excluded.contains(&process.pid)
            };
            let children: Vec<_> = others.extract_if(.., is_child).collect();
            parents = children.iter().map(|child| child.pid).collect();
            let is_member =
                |child: &Process| child.session == session || self.command == Some(child.pid);
            members.extend(
                children
                    .into_iter()
                    .filter(is_member)
                    .map(|child| child.pid),
            );
        }
        members
    }

    /// Sends `signal` once to each member, including members that are started meanwhile.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut signaled = HashSet::new();
        loop {
            let new: Vec<_> = self
                .pids()
                .into_iter()
                .filter(|pid| signaled.insert(*pid))
                .collect();
            for pid in &new {
                // Fails if the process has ended, or belongs to another user by now.
                let _ = kill_process(*pid, signal);
            }
            if new.is_empty() {
                break;
            }
        }
        if signaled.is_empty() {
            self.signal_group(signal);
        }
    }

    /// Sends SIGKILL until no member is left, apart from processes of another user.
    ///
    /// Looks at least twice, because one look misses a process that loses its parent meanwhile.
    pub(crate) async fn kill(&self) {
        let kill = |pid| kill_process(pid, Signal::KILL).is_ok();
        // Not `any`, which would stop at the first.
        let kill_all = || self.pids().into_iter().filter(|pid| kill(*pid)).count();
        if kill_all() == 0 {
            self.signal_group(Signal::KILL);
        }
        let mut interval = Duration::from_millis(1);
        loop {
            tokio::time::sleep(interval).await;
            if kill_all() == 0 {
                break;
            }
            // A process that waits for a device ends late, and each look reads all of `/proc`.
            interval = (interval * 2).min(MAX_KILL_INTERVAL);
        }
    }

    /// Sends `signal` to the process group, or to the command if it has no own group. The
    /// fallback without `/proc`.
    fn signal_group(&self, signal: Signal) {
        // Fails if all processes have ended.
        let _ = match (self.group, self.command) {
            (Some(group), _) => kill_process_group(group, signal),
            (None, Some(command)) => kill_process(command, signal),
            (None, None) => Ok(()),
        };
    }
}
