//! What the system tells of processes: `/proc`, on Linux.

use std::fs::{self, File};

use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::process::{Pid, getpid};

/// A process that has not ended. A group or a session that began outside of this process's namespace has no number.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Option<Pid>,
    pub(crate) group: Option<Pid>,
    pub(crate) session: Option<Pid>,
    /// The group in the foreground of its terminal, if it has one.
    foreground: Option<Pid>,
}

impl Process {
    /// This process; none where nothing is told, or where the numbers are those of another namespace.
    pub(crate) fn own() -> Option<Self> {
        Self::told_own().filter(|own| own.pid == getpid())
    }

    /// The same in the numbers of whatever namespace, which can be compared with each other alone.
    fn told_own() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// All that are told of.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let names = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| {
            Self::parse(
                &fs::read_to_string(format!("/proc/{}/stat", name.parse::<u32>().ok()?)).ok()?,
            )
        })
    }

    /// Parses `PID (NAME) STATE PARENT GROUP SESSION TERMINAL FOREGROUND ..`; nothing of one that has ended and is only remembered.
    fn parse(stat: &str) -> Option<Self> {
        // there may be anything in a name, but no parenthesis behind it
        let (pid, rest) = (stat.split_once(' ')?.0, stat.rsplit_once(')')?.1);
        // 0 is a number of another namespace, and -1 one of a process that is just ending
        let pid_of = |text: &str| {
            text.parse()
                .ok()
                .filter(|raw| *raw > 0)
                .and_then(Pid::from_raw)
        };
        let mut fields = rest.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let (parent, group, session) = (
            pid_of(fields.next()?),
            pid_of(fields.next()?),
            pid_of(fields.next()?),
        );
        Some(Self {
            pid: pid_of(pid)?,
            parent,
            group,
            session,
            foreground: pid_of(fields.nth(1)?),
        })
    }
}

/// Whether this process is in the foreground of a terminal.
pub(crate) fn in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else {
        return false;
    };
    if let Some(own) = Process::told_own() {
        return own.group.is_some() && own.group == own.foreground;
    }
    // 0 is a group that began outside of this process's namespace
    let group = getpgrp();
    group.as_raw() > 0 && tcgetpgrp(terminal) == Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(stat: &str) -> Option<[i32; 5]> {
        let process = Process::parse(stat)?;
        Some(
            [
                Some(process.pid),
                process.parent,
                process.group,
                process.session,
                process.foreground,
            ]
            .map(Pid::as_raw),
        )
    }

    #[test]
    fn a_name_is_not_taken_for_a_field() {
        assert_eq!(
            parse("7 (a) R 1 (b)) S 2 3 4 34816 5 0"),
            Some([7, 2, 3, 4, 5])
        );
        assert_eq!(parse("7 (sh) Z 2 3 4 0 -1 0"), None);
    }

    #[test]
    fn what_has_no_number_here_is_none() {
        assert_eq!(parse("7 (sh) S 0 0 0 0 -1 0"), Some([7, 0, 0, 0, 0]));
        assert_eq!(parse("7 (sh) S 2 -1 -1 0 -1 0"), Some([7, 2, 0, 0, 0]));
    }
}
