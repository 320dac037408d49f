//! The watchdog process, which kills the command when `dflock` cannot: `dflock __watchdog`.
//!
//! The parent-death signal reaches only the command itself, and nothing is sent when `dflock` is
//! stopped. The watchdog reads a pipe whose only writer is `dflock`. Each line is a heartbeat with
//! the time that the command may still run. The pipe ends when `dflock` ends, for whatever reason.
//! Unless the command runs in the foreground of a terminal, the watchdog leads its process group.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_current_process_group, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{Receiver as PipeReceiver, Sender};

use crate::exec::self_command;
use crate::process_tree::{ProcessTree, TOKEN_VARIABLE};
use crate::reaper::Reaper;
use crate::signals;

/// The first argument of the watchdog process.
pub(crate) const NAME: &str = "__watchdog";

/// Extra time before the watchdog kills the command, so that a running `dflock` does it first.
const GRACE: Duration = Duration::from_millis(250);

/// Handle of the watchdog process of one command.
///
/// The watchdog kills the command and all processes that it started when a deadline passes without
/// a heartbeat, and when this is dropped without [`disarm`](Self::disarm), as when `dflock` dies.
pub(crate) struct Watchdog {
    token: String,
    pid: Pid,
    heartbeat: Sender,
}

impl Watchdog {
    /// Starts the watchdog of the processes with `token` in their environment, and waits until it
    /// reads heartbeats.
    pub(crate) async fn start(token: &str) -> io::Result<Self> {
        let mut command = self_command(NAME);
        // Otherwise the watchdog of an enclosing `dflock run` would kill this one as a member.
        command.env_remove(TOKEN_VARIABLE);
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn()?;
        let pid = Pid::from_child(&process);
        let heartbeat = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let heartbeat = Sender::from_owned_fd(heartbeat.into())?;
        heartbeat.writable().await?;
        heartbeat.try_write(format!("{token}\n").as_bytes())?;
        let ready = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        PipeReceiver::from_owned_fd(ready.into())?.read_u8().await?;
        Ok(Self {
            token: token.to_owned(),
            pid,
            heartbeat,
        })
    }

    /// Returns the pid of the watchdog process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the token in the environment of the processes that the watchdog kills.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Returns the process group that the watchdog leads. After the watchdog has ended, another
    /// group may have this id.
    pub(crate) fn group(&self) -> Pid {
        self.pid
    }

    /// Sets the deadline of the command to `time` from now.
    ///
    /// Must be called before the command is started. Fails if the watchdog has ended, or does not
    /// read.
    pub(crate) fn extend_deadline(&self, time: Duration) -> io::Result<()> {
        // A line is shorter than PIPE_BUF, so it is written whole or not at all.
        self.heartbeat
            .try_write(format!("{}\n", time.as_millis()).as_bytes())
            .map(drop)
    }

    /// Ends the watchdog and leaves the processes of the command running. `reaper` is that of this
    /// process.
    pub(crate) async fn disarm(&self, reaper: &mut Reaper) {
        if reaper.contains(self.pid) {
            // Fails if the watchdog has ended.
            let _ = kill_process(self.pid, Signal::KILL);
        }
        // Wait before the pipe is closed: a live watchdog kills the command when the pipe ends.
        let _ = reaper.wait(self.pid).await;
    }
}

/// Runs the watchdog process: waits for the end of standard input or a missed deadline, then kills
/// the command, its descendants and its process group.
pub(crate) fn run() -> ExitCode {
    // Signal handlers need a runtime. Signals that are forwarded to the group arrive here as well.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    let _context = runtime.enter();
    let _ignored = signals::ignore_all();
    let Some(Ok(token)) = io::stdin().lines().next() else {
        return ExitCode::FAILURE;
    };
    let mut ready = io::stdout();
    if ready.write_all(b".").and_then(|()| ready.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    let (sender, deadlines) = channel();
    // Ends at the end of standard input, at a read error, or with this process.
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let time = line.parse().map_or(Duration::MAX, Duration::from_millis);
            if sender.send(Instant::now().checked_add(time)).is_err() {
                break;
            }
        }
    });
    wait_for_expiry(&deadlines);
    // The watchdog leads its group, so its pid is that of the group.
    ProcessTree {
        token,
        command: None,
        group: Some(getpid()),
    }
    .signal(Signal::KILL);
    // Kills this process as well; needed where `/proc` shows no processes.
    let _ = kill_current_process_group(Signal::KILL);
    ExitCode::FAILURE
}

/// Returns when the deadline passes or the sender is gone. The first deadline arrives before the
/// command starts, so it is waited for without a limit. A deadline of `None` never passes.
fn wait_for_expiry(deadlines: &Receiver<Option<Instant>>) {
    let Ok(mut deadline) = deadlines.recv() else {
        return;
    };
    loop {
        let left = deadline.map_or(Duration::MAX, |deadline: Instant| {
            deadline.saturating_duration_since(Instant::now())
        });
        let next = match deadlines.recv_timeout(left) {
            // If this process was stopped itself, it first reads heartbeats that arrived meanwhile.
            Err(RecvTimeoutError::Timeout) => deadlines.recv_timeout(GRACE),
            next => next,
        };
        match next {
            Ok(next) => deadline = next,
            Err(_) => return,
        }
    }
}
