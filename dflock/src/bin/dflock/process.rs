//! What the system tells of processes: `/proc`, on Linux.

use std::fs;

use rustix::process::{Pid, getpid};

/// A process that has not ended. A group or a session that began outside of this process's namespace has no number.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Option<Pid>,
    pub(crate) group: Option<Pid>,
    pub(crate) session: Option<Pid>,
}

impl Process {
    /// This process; none where nothing is told, or where the numbers are those of another namespace.
    pub(crate) fn own() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?).filter(|own| own.pid == getpid())
    }

    /// All that are told of.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let names = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Self::parse(&fs::read_to_string(format!("/proc/{}/stat", name.parse::<u32>().ok()?)).ok()?))
    }

    /// Parses `PID (NAME) STATE PARENT GROUP SESSION ..`; nothing of one that has ended and is only remembered.
    fn parse(stat: &str) -> Option<Self> {
        // there may be anything in a name, but no parenthesis behind it
        let (pid, rest) = (stat.split_once(' ')?.0, stat.rsplit_once(')')?.1);
        // 0 is a number of another namespace, and -1 one of a process that is just ending
        let pid_of = |text: &str| text.parse().ok().filter(|raw| *raw > 0).and_then(Pid::from_raw);
        let mut fields = rest.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        Some(Self { pid: pid_of(pid)?, parent: pid_of(fields.next()?), group: pid_of(fields.next()?), session: pid_of(fields.next()?) })
    }
}

/// The process group of this process, if it has a number.
pub(crate) fn own_group() -> Option<Pid> {
    // what asks the system takes it that there is a number
    if cfg!(target_os = "linux") { Process::own()?.group } else { Some(rustix::process::getpgrp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(stat: &str) -> Option<[i32; 4]> {
        let process = Process::parse(stat)?;
        Some([Some(process.pid), process.parent, process.group, process.session].map(Pid::as_raw))
    }

    #[test]
    fn a_name_is_not_taken_for_a_field() {
        assert_eq!(parse("7 (a) R 1 (b)) S 2 3 4 0 -1"), Some([7, 2, 3, 4]));
        assert_eq!(parse("7 (sh) Z 2 3 4 0 -1"), None);
    }

    #[test]
    fn what_has_no_number_here_is_none() {
        assert_eq!(parse("7 (sh) S 0 0 0 0 -1"), Some([7, 0, 0, 0]));
        assert_eq!(parse("7 (sh) S 2 -1 -1 0 -1"), Some([7, 2, 0, 0]));
    }
}
