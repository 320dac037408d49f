//! A command and all that it has started, as far as it can be found.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::process::Process;

/// The variable whose value no other command has.
pub(crate) const TOKEN: &str = "DFLOCK_TOKEN";

/// The processes of one command. The system tells of them in `/proc`, on Linux; elsewhere the command and its group stand for all.
///
/// A parent that has ended leaves its children to others, so one of them is known by what it has inherited: a token that no other
/// command has. What has begun a session of its own is let go.
pub(crate) struct Family {
    /// The value of [`TOKEN`] in the environment of all.
    pub(crate) token: String,
    /// The command itself, for as long as nobody else can have its number.
    pub(crate) command: Option<Pid>,
    /// The process group in which it was started, if it is one of its own; its leader is no member.
    pub(crate) group: Option<Pid>,
}

impl Family {
    /// Those that have not ended.
    pub(crate) fn members(&self) -> HashSet<Pid> {
        let Some(Process { session, .. }) = Process::own() else {
            return HashSet::new();
        };
        let mut others: Vec<_> = Process::all().collect();
        let mut members: HashSet<Pid> = others
            .extract_if(.., |process| self.is_sure(process, session))
            .map(|process| process.pid)
            .collect();
        loop {
            let is_child = |process: &mut Process| {
                process.session == session
                    && process
                        .parent
                        .is_some_and(|parent| members.contains(&parent))
                    && !self.leads(process)
            };
            let children: Vec<_> = others
                .extract_if(.., is_child)
                .map(|process| process.pid)
                .collect();
            if children.is_empty() {
                return members;
            }
            members.extend(children);
        }
    }

    /// Sends each member a signal, once, and those that are started meanwhile as well.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut told = HashSet::new();
        loop {
            let new: Vec<_> = self
                .members()
                .into_iter()
                .filter(|pid| told.insert(*pid))
                .collect();
            for pid in &new {
                // it has ended already, or is another user's now, if this fails
                let _ = kill_process(*pid, signal);
            }
            if new.is_empty() {
                break;
            }
        }
        if told.is_empty() {
            self.signal_blindly(signal);
        }
    }

    /// Where nothing is told of processes.
    fn signal_blindly(&self, signal: Signal) {
        // all have ended already if these fail
        let _ = match (self.group, self.command) {
            (Some(group), _) => kill_process_group(group, signal),
            (None, Some(command)) => kill_process(command, signal),
            (None, None) => Ok(()),
        };
    }

    /// Whether it is a member whoever its parent is.
    fn is_sure(&self, process: &Process, session: Option<Pid>) -> bool {
        if self.command == Some(process.pid) {
            return true;
        }
        process.session == session
            && !self.leads(process)
            && (self.group.is_some_and(|group| process.group == Some(group))
                || self.marked(process))
    }

    fn leads(&self, process: &Process) -> bool {
        self.group == Some(process.pid)
    }

    fn marked(&self, process: &Process) -> bool {
        let environment =
            fs::read(format!("/proc/{}/environ", process.pid.as_raw_nonzero())).unwrap_or_default();
        let mark = format!("{TOKEN}={}", self.token);
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
    }
}
