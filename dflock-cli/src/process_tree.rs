//! The processes of a command.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::proc::Process;

/// The environment variable with the token of the slot, which is unique to one command.
pub(crate) const TOKEN_VARIABLE: &str = "DFLOCK_TOKEN";

/// The command and all processes that it started, in its session.
///
/// On Linux they are read from `/proc`. On other systems only the command and its process group are
/// known.
///
/// A process that has lost its parent is found by the token that it inherited in its environment. A
/// process that has created a new session is not a member.
pub(crate) struct ProcessTree {
    /// The value of [`TOKEN_VARIABLE`] in the environment of all members.
    pub(crate) token: String,
    /// Pid of the command, until it is reaped and the pid can be reused.
    pub(crate) command: Option<Pid>,
    /// The command's own process group, if it has one. The group leader is not a member.
    pub(crate) group: Option<Pid>,
}

impl ProcessTree {
    /// Returns the pids of the members that have not ended. Empty without a usable `/proc`.
    pub(crate) fn pids(&self) -> HashSet<Pid> {
        let Some(Process { session, .. }) = Process::current() else {
            return HashSet::new();
        };
        let mut others: Vec<_> = Process::all().collect();
        let mut pids: HashSet<Pid> = others
            .extract_if(.., |process| self.is_direct_member(process, session))
            .map(|process| process.pid)
            .collect();
        loop {
            let is_child = |process: &mut Process| {
                process.session == session
                    && process.parent.is_some_and(|parent| pids.contains(&parent))
                    && !self.is_group_leader(process)
            };
            let children: Vec<_> = others
                .extract_if(.., is_child)
                .map(|process| process.pid)
                .collect();
            if children.is_empty() {
                return pids;
            }
            pids.extend(children);
        }
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

    /// Returns whether `process` is a member regardless of its parent.
    fn is_direct_member(&self, process: &Process, session: Option<Pid>) -> bool {
        if self.command == Some(process.pid) {
            return true;
        }
        process.session == session
            && !self.is_group_leader(process)
            && (self.group.is_some_and(|group| process.group == Some(group))
                || self.has_token_env(process))
    }

    fn is_group_leader(&self, process: &Process) -> bool {
        self.group == Some(process.pid)
    }

    fn has_token_env(&self, process: &Process) -> bool {
        let environment =
            fs::read(format!("/proc/{}/environ", process.pid.as_raw_nonzero())).unwrap_or_default();
        let assignment = format!("{TOKEN_VARIABLE}={}", self.token);
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == assignment.as_bytes())
    }
}
