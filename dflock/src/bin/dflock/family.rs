//! A command and all that it has started, as far as it can be found.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, getsid, kill_process, kill_process_group};

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

/// What is told of a process.
struct Process {
    pid: Pid,
    parent: Option<Pid>,
    group: Option<Pid>,
    session: Option<Pid>,
}

impl Family {
    /// Those that have not ended.
    pub(crate) fn members(&self) -> HashSet<Pid> {
        let session = getsid(None).ok();
        let mut others: Vec<_> = processes().collect();
        let mut members: HashSet<Pid> =
            others.extract_if(.., |process| self.is_sure(process, session)).map(|process| process.pid).collect();
        loop {
            let is_child = |process: &mut Process| {
                process.session == session && process.parent.is_some_and(|parent| members.contains(&parent)) && !self.leads(process)
            };
            let children: Vec<_> = others.extract_if(.., is_child).map(|process| process.pid).collect();
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
            let new: Vec<_> = self.members().into_iter().filter(|pid| told.insert(*pid)).collect();
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
            && (self.group.is_some_and(|group| process.group == Some(group)) || self.marked(process))
    }

    fn leads(&self, process: &Process) -> bool {
        self.group == Some(process.pid)
    }

    fn marked(&self, process: &Process) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", process.pid.as_raw_nonzero())).unwrap_or_default();
        let mark = format!("{TOKEN}={}", self.token);
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    }
}

/// All processes that have not ended; none where there is no `/proc`.
fn processes() -> impl Iterator<Item = Process> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Process::parse(&fs::read_to_string(format!("/proc/{}/stat", name.parse::<u32>().ok()?)).ok()?))
}

impl Process {
    /// Parses `PID (NAME) STATE PARENT GROUP SESSION ..`; nothing of one that has ended and is only remembered.
    fn parse(stat: &str) -> Option<Self> {
        // there may be anything in a name, but no parenthesis behind it
        let (pid, rest) = (stat.split_once(' ')?.0, stat.rsplit_once(')')?.1);
        let pid_of = |text: &str| Pid::from_raw(text.parse().ok()?);
        let mut fields = rest.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        Some(Self { pid: pid_of(pid)?, parent: pid_of(fields.next()?), group: pid_of(fields.next()?), session: pid_of(fields.next()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_taken_for_a_field() {
        let process = Process::parse("7 (a) R 1 (b)) S 2 3 4 0 -1").unwrap();
        let raw = [Some(process.pid), process.parent, process.group, process.session].map(Pid::as_raw);
        assert_eq!(raw, [7, 2, 3, 4]);
        assert!(Process::parse("7 (sh) Z 2 3 4 0 -1").is_none());
    }
}
