//! Process information from `/proc`, on Linux.

use std::fs::{self, File};

use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::process::{Pid, getpid};

/// A process that has not ended.
///
/// A parent, group or session outside of this PID namespace is `None`.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Option<Pid>,
    pub(crate) group: Option<Pid>,
    pub(crate) session: Option<Pid>,
    /// The foreground process group of its terminal, if it has a terminal.
    foreground: Option<Pid>,
}

impl Process {
    /// Returns this process. `None` without `/proc`, or if `/proc` belongs to another PID
    /// namespace.
    pub(crate) fn current() -> Option<Self> {
        Self::current_unchecked().filter(|current| current.pid == getpid())
    }

    /// Returns this process, possibly with the pids of another PID namespace. Such pids can be
    /// compared only with each other.
    fn current_unchecked() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Returns all processes in `/proc`.
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

    /// Parses `PID (NAME) STATE PARENT GROUP SESSION TERMINAL FOREGROUND ..`. Returns `None` for a
    /// process that has ended, such as a zombie.
    fn parse(stat: &str) -> Option<Self> {
        // The name may contain anything, but no parenthesis follows it.
        let (pid, rest) = (stat.split_once(' ')?.0, stat.rsplit_once(')')?.1);
        // 0 means a process of another namespace; -1 occurs while a process is ending.
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

/// Returns whether this process is in the foreground of a terminal.
pub(crate) fn in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else {
        return false;
    };
    if let Some(current) = Process::current_unchecked() {
        return current.group.is_some() && current.group == current.foreground;
    }
    // 0 means a process group outside of this PID namespace.
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
    fn parentheses_in_a_name_do_not_end_the_name() {
        assert_eq!(
            parse("7 (a) R 1 (b)) S 2 3 4 34816 5 0"),
            Some([7, 2, 3, 4, 5])
        );
        assert_eq!(parse("7 (sh) Z 2 3 4 0 -1 0"), None);
    }

    #[test]
    fn a_pid_of_another_namespace_is_none() {
        assert_eq!(parse("7 (sh) S 0 0 0 0 -1 0"), Some([7, 0, 0, 0, 0]));
        assert_eq!(parse("7 (sh) S 2 -1 -1 0 -1 0"), Some([7, 2, 0, 0, 0]));
    }
}
