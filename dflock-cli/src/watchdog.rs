//! The watchdog process, which is the parent of the command, and kills it when `dflock` cannot.
//!
//! `dflock` and the watchdog share a socket. It ends when `dflock` ends, for whatever reason. Unless
//! the command runs in the foreground of a terminal, the watchdog leads its process group. On Linux
//! a descendant of the command that loses its parent becomes a child of the watchdog.
//!
//! | line | from | meaning |
//! |---|---|---|
//! | `ready` | watchdog | it reads |
//! | a byte with a file | `dflock` | the standard input of the command |
//! | `deadline MS` | `dflock` | a heartbeat; the first one starts the command |
//! | `started PID`, or a message | watchdog | the command was started, or was not |
//! | `signal N` | `dflock` | to send to the command |
//! | `ended STATUS` | watchdog | the wait status of the command |

mod process;

use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::error::CliError;
use crate::exec::self_command;
use crate::fd_passing;
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
    requests: OwnedWriteHalf,
    messages: Lines<BufReader<OwnedReadHalf>>,
}

impl Watchdog {
    /// Starts the watchdog of the command `words`, and waits until it reads.
    ///
    /// The command will have the environment `variables` and the signal mask `mask`. With
    /// `in_own_group` its process group will be that of the watchdog, and otherwise that of this
    /// process. Must be called on the main thread, because the watchdog notices when that ends.
    pub(crate) async fn start(
        words: &[OsString],
        variables: &[(&str, Option<String>)],
        mask: &InheritedMask,
        in_own_group: bool,
    ) -> Result<Self, CliError> {
        let (ours, theirs) =
            std::os::unix::net::UnixStream::pair().map_err(|error| not_started(&error))?;
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
        ours.set_nonblocking(true)
            .map_err(|error| not_started(&error))?;
        let (messages, requests) = UnixStream::from_std(ours)
            .map_err(|error| not_started(&error))?
            .into_split();
        let mut watchdog = Self {
            pid: Pid::from_child(&process),
            process,
            requests,
            messages: BufReader::new(messages).lines(),
        };
        watchdog.next_message().await?;
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
        fd_passing::send(self.requests.as_ref(), io::stdin().as_fd())
            .map_err(|error| not_started(&error))?;
        self.extend_deadline(time)
            .map_err(|error| not_started(&error))?;
        let message = self.next_message().await?;
        let pid = message.strip_prefix("started ");
        let pid = pid.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        pid.ok_or_else(|| not_started(&io::Error::other(message)))
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

    fn send(&self, line: &str) -> io::Result<()> {
        // A line is short, so it is written whole or not at all.
        self.requests.try_write(line.as_bytes()).map(drop)
    }

    /// Waits until the command has ended, and returns its exit status. Cancel safe. Never returns if
    /// the watchdog has ended first.
    pub(crate) async fn wait_for_command(&mut self) -> ExitStatus {
        loop {
            match self.messages.next_line().await {
                Ok(Some(message)) => {
                    let status = message.strip_prefix("ended ");
                    if let Some(status) = status.and_then(|status| status.parse().ok()) {
                        return ExitStatus::from_raw(status);
                    }
                }
                Ok(None) | Err(_) => return pending().await,
            }
        }
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

    async fn next_message(&mut self) -> Result<String, CliError> {
        match self.messages.next_line().await {
            Ok(Some(message)) => Ok(message),
            Err(error) => Err(not_started(&error)),
            // The watchdog has closed the socket, so it has ended.
            Ok(None) => Err(match self.process.wait() {
                // In the foreground of a terminal, a key sends a signal to it as well.
                Ok(status) => match status.signal().and_then(Signal::from_named_raw) {
                    Some(signal) => CliError::interrupted(signal),
                    None => not_started(&io::Error::other(status.to_string())),
                },
                Err(error) => not_started(&error),
            }),
        }
    }
}

fn not_started(error: &io::Error) -> CliError {
    CliError::system("cannot start a process", error)
}
