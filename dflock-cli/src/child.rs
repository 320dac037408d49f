//! The running command.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};

use crate::error::CliError;
use crate::exec::PendingCommand;
use crate::proc::in_foreground;
use crate::process_tree::ProcessTree;
use crate::reaper::Reaper;
use crate::signals::{InheritedMask, Received, Signals};
use crate::watchdog::Watchdog;

/// Interval at which `terminate` polls for processes that are left after the command has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The first of the command and its watchdog to end, with its exit status.
pub(crate) enum ChildEvent {
    CommandEnded(ExitStatus),
    /// Without a watchdog, the command would keep running if this process died or was stopped.
    WatchdogEnded(ExitStatus),
}

/// A running command. Dropping this kills the command and all processes that it started.
pub(crate) struct ChildCommand {
    reaper: Reaper,
    pid: Pid,
    watchdog: Watchdog,
    /// True if `dflock` is in the foreground of a terminal. Then the command shares its process
    /// group, so that it can read from the terminal and react to its keys. Otherwise the command is
    /// in the group of the watchdog.
    foreground: bool,
}

impl ChildCommand {
    /// Starts the command `words` with the environment `variables` and the signal mask `mask`.
    ///
    /// `variables` include the token of `watchdog`. `time_left` returns the time until the first
    /// deadline, as in [`extend_deadline`](Self::extend_deadline). Must be called on the main
    /// thread.
    pub(crate) fn start(
        watchdog: Watchdog,
        time_left: impl Fn() -> Duration,
        words: &[OsString],
        variables: &[(&str, Option<String>)],
        mask: &InheritedMask,
    ) -> Result<Self, CliError> {
        let not_started = |error| CliError::system("cannot start a process", &error);
        let (pending, mut command) = PendingCommand::new(words).map_err(not_started)?;
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                // An inherited value belongs to the slot of an enclosing `dflock run`.
                None => command.env_remove(name),
            };
        }
        let foreground = in_foreground();
        if !foreground {
            command.process_group(watchdog.group().as_raw_nonzero().get());
        }
        // The watchdog needs a deadline before the command exists.
        watchdog.extend_deadline(time_left()).map_err(not_started)?;
        let pid = Pid::from_child(&mask.spawn(&mut command).map_err(not_started)?);
        // Close this process's copy of the child's socket.
        drop(command);
        // After the spawn, because the command inherits the disposition of SIGCHLD.
        let reaper = Reaper::new([pid, watchdog.pid()]).map_err(not_started)?;
        let child = Self {
            reaper,
            pid,
            watchdog,
            foreground,
        };
        // If this process was stopped before the spawn, the watchdog may have ended. From here on
        // the watchdog kills the process that waits to become the command.
        child
            .watchdog
            .extend_deadline(time_left())
            .map_err(not_started)?;
        // If the process has ended already, it has printed the reason, and its status is reported.
        let _ = pending.start();
        Ok(child)
    }

    /// Sets the deadline of the command to `time` from now. After the deadline the watchdog kills
    /// the command, even if this process is stopped.
    pub(crate) fn extend_deadline(&self, time: Duration) {
        // Fails if the watchdog has ended or does not read.
        let _ = self.watchdog.extend_deadline(time);
    }

    /// Waits until the command or its watchdog has ended. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ChildEvent> {
        let pids = [self.pid, self.watchdog.pid()];
        let (pid, status) = self.reaper.wait_any(pids).await?;
        Ok(if pid == self.pid {
            ChildEvent::CommandEnded(status)
        } else {
            ChildEvent::WatchdogEnded(status)
        })
    }

    /// Forwards a signal that this process received.
    pub(crate) fn forward(&self, Received { signal, by_process }: Received) {
        if let Some(group) = self.group() {
            // Fails if all processes have ended. The watchdog ignores signals that can be caught.
            let _ = kill_process_group(group, signal);
            return;
        }
        // The terminal has sent it to the whole foreground group already. Some programs treat a
        // second SIGINT differently from the first.
        let by_key =
            self.foreground && !by_process && (signal == Signal::INT || signal == Signal::QUIT);
        // After the command is reaped, its pid may belong to another process.
        if !by_key && self.reaper.contains(self.pid) {
            // Fails if the command has ended.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Terminates the command and all processes that it started: SIGTERM first, and SIGKILL for
    /// those that are left after `grace`.
    pub(crate) async fn terminate(
        &mut self,
        grace: Duration,
        signals: &mut Signals,
    ) -> io::Result<()> {
        self.extend_deadline(grace);
        if !grace.is_zero() {
            self.process_tree().signal(Signal::TERM);
            // A stopped process handles SIGTERM only after SIGCONT.
            self.process_tree().signal(Signal::CONT);
            let timeout = tokio::time::sleep(grace);
            tokio::pin!(timeout);
            let mut ended = false;
            while !(ended && self.process_tree().pids().is_empty()) {
                tokio::select! {
                    _ = self.reaper.wait(self.pid), if !ended => ended = true,
                    () = tokio::time::sleep(POLL_INTERVAL), if ended => {}
                    () = &mut timeout => break,
                    received = signals.next() => self.forward(received),
                }
            }
        }
        self.process_tree().signal(Signal::KILL);
        self.reaper.wait(self.pid).await.map(drop)
    }

    /// Ends the watchdog after the command has ended. Processes that the command left behind keep
    /// running.
    pub(crate) async fn detach(mut self) {
        self.watchdog.disarm(&mut self.reaper).await;
    }

    fn process_tree(&self) -> ProcessTree {
        let command = self.reaper.contains(self.pid).then_some(self.pid);
        ProcessTree {
            token: self.watchdog.token().to_owned(),
            command,
            group: self.group(),
        }
    }

    /// Returns the command's own process group, if it has one and its id cannot have been reused.
    ///
    /// The id is in use until the watchdog, which leads the group, is reaped. After that it is in
    /// use while the command is in the group and not reaped. The command may have left the group.
    fn group(&self) -> Option<Pid> {
        let group = self.watchdog.group();
        let has_watchdog = self.reaper.contains(self.watchdog.pid());
        let has_command = || self.reaper.contains(self.pid) && getpgid(Some(self.pid)) == Ok(group);
        (!self.foreground && (has_watchdog || has_command())).then_some(group)
    }
}

impl Drop for ChildCommand {
    fn drop(&mut self) {
        if self.reaper.contains(self.pid) {
            // Fails if the command has ended.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}
