//! The watchdog process, which is the parent of the command, and kills it when `dflock` cannot.
//!
//! `dflock` and the watchdog share a socket. It ends when `dflock` ends, for whatever reason.
//! Unless the command runs in the foreground of a terminal, the watchdog leads its process group.
//! On Linux a descendant of the command that loses its parent becomes a child of the watchdog.
//!
//! | line | from | meaning |
//! |---|---|---|
//! | `ready` | watchdog | it reads |
//! | a byte with a file | `dflock` | the standard input of the command |
//! | `deadline MS` | `dflock` | a heartbeat; the first one starts the command |
//! | `started PID` | watchdog | the command was started |
//! | `signal N` | `dflock` | to send to the command |
//! | `ended STATUS` | watchdog | the wait status of the command |
//!
//! In place of `ready` and `started`, the watchdog sends the message of an error, and ends.

mod process;

use std::ffi::OsString;
use std::future::pending;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;

use crate::error::CliError;
use crate::exec::self_command;
use crate::fd_passing;
use crate::prctl::become_subreaper;
use crate::reaper::Reaper;
use crate::signals::InheritedMask;

pub(crate) use process::{NAME, run};

/// Handle of the watchdog process of one command.
///
/// The watchdog kills the command and all processes that it started when a deadline passes without
/// a heartbeat, and when this is dropped without [`disarm`](Self::disarm), as when `dflock` dies.
pub(crate) struct Watchdog {
    pid: Pid,
    process: Child,
    /// Does not block.
    requests: StdUnixStream,
    messages: Lines<BufReader<UnixStream>>,
}

impl Watchdog {
    /// Starts the watchdog of the command `words`, and waits until it reads.
    ///
    /// The command will have the environment `variables` and the signal mask `mask`. With
    /// `in_own_group` its process group will be that of the watchdog, and otherwise that of this
    /// process. Must be called on the main thread, because the watchdog notices when that ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watchdog.
    pub(crate) async fn start(
        words: &[OsString],
        variables: &[(&str, Option<String>)],
        mask: &InheritedMask,
        in_own_group: bool,
    ) -> Result<Self, CliError> {
        // If the watchdog ends, the processes that the command started become children of this one.
        // Before the spawn, because Linux before 4.11 applies it to later children only.
        become_subreaper().map_err(|error| not_started(&error))?;
        let (requests, theirs) = StdUnixStream::pair().map_err(|error| not_started(&error))?;
        let mut command = self_command(NAME);
        command.arg(std::process::id().to_string()).args(words);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                // An inherited value belongs to the slot of an enclosing `dflock run`.
                None => command.env_remove(name),
            };
        }
        if in_own_group {
            command.process_group(0);
        }
        command.stdin(OwnedFd::from(theirs));
        let process = mask
            .spawn(&mut command)
            .map_err(|error| not_started(&error))?;
        // Close this process's copy of the watchdog's socket.
        drop(command);
        let mut watchdog = Self {
            pid: Pid::from_child(&process),
            process,
            messages: read_lines(&requests).map_err(|error| not_started(&error))?,
            requests,
        };
        watchdog
            .receive(|message| (message == "ready").then_some(()))
            .await?;
        Ok(watchdog)
    }

    /// Returns the pid of the watchdog process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the process group that the watchdog leads. After the watchdog has ended, another
    /// group may have this id.
    pub(crate) fn group(&self) -> Pid {
        self.pid
    }

    /// Starts the command with the deadline `time` from now and the standard input of this process.
    /// Returns its pid.
    pub(crate) async fn start_command(&mut self, time: Duration) -> Result<Pid, CliError> {
        let sent = fd_passing::send(&self.requests, io::stdin().as_fd());
        if sent.and_then(|()| self.extend_deadline(time)).is_err() {
            return Err(self.end());
        }
        self.receive(|message| Pid::from_raw(message.strip_prefix("started ")?.parse().ok()?))
            .await
    }

    /// Sets the deadline of the command to `time` from now. Fails if the watchdog has ended, or
    /// does not read.
    pub(crate) fn extend_deadline(&self, time: Duration) -> io::Result<()> {
        self.send(&format!("deadline {}\n", time.as_millis()))
    }

    /// Sends `signal` to the command, unless it has ended. Fails if the watchdog has ended, or does
    /// not read.
    pub(crate) fn signal_command(&self, signal: Signal) -> io::Result<()> {
        self.send(&format!("signal {}\n", signal.as_raw()))
    }

    /// Waits until the command has ended, and returns its exit status. Cancel safe. Never returns
    /// if the watchdog has ended first.
    pub(crate) async fn wait_for_command(&mut self) -> ExitStatus {
        while let Ok(Some(message)) = self.messages.next_line().await {
            let status = message.strip_prefix("ended ");
            if let Some(status) = status.and_then(|status| status.parse().ok()) {
                return ExitStatus::from_raw(status);
            }
        }
        pending().await
    }

    /// Ends the watchdog. On Linux this ends a running command as well, but not the processes that
    /// it started: they become children of this process. `reaper` is that of this process.
    pub(crate) async fn disarm(&self, reaper: &mut Reaper) {
        if reaper.runs() {
            // Fails if the watchdog has ended.
            let _ = kill_process(self.pid, Signal::KILL);
        }
        // Wait before the socket is closed: a live watchdog kills the command when it ends.
        let _ = reaper.wait().await;
    }

    fn send(&self, line: &str) -> io::Result<()> {
        // The line is short, so it is written whole or not at all.
        (&self.requests).write_all(line.as_bytes())
    }

    /// Waits for the next message and parses it. A message that `parse` does not accept is that of
    /// an error.
    async fn receive<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T, CliError> {
        match self.messages.next_line().await {
            Ok(Some(message)) => {
                parse(&message).ok_or_else(|| not_started(&io::Error::other(message)))
            }
            // The watchdog has ended.
            Ok(None) | Err(_) => Err(self.end()),
        }
    }

    /// Returns the error for a watchdog that has ended before the command was started.
    fn end(&mut self) -> CliError {
        // Otherwise a socket that fails for another reason would make the wait endless.
        let _ = self.process.kill();
        let status = match self.process.wait() {
            Ok(status) => status,
            Err(error) => return not_started(&error),
        };
        match status.signal().and_then(Signal::from_named_raw) {
            // In the foreground of a terminal, a key sends a signal to the watchdog as well.
            Some(signal) if signal != Signal::KILL => CliError::interrupted(signal),
            _ => not_started(&io::Error::other(format!(
                "the watchdog process has ended: {status}"
            ))),
        }
    }
}

/// Returns a reader of the lines of `socket`. From here on, `socket` does not block.
fn read_lines(socket: &StdUnixStream) -> io::Result<Lines<BufReader<UnixStream>>> {
    socket.set_nonblocking(true)?;
    let socket = UnixStream::from_std(socket.try_clone()?)?;
    Ok(BufReader::new(socket).lines())
}

fn not_started(error: &io::Error) -> CliError {
    CliError::system("cannot start a process", error)
}
