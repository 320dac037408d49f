//! The running command.

use std::collections::HashSet;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, getpgid, getpid, kill_process, kill_process_group, test_kill_process,
};

use crate::error::CliError;
use crate::proc::Process;
use crate::process_tree::ProcessTree;
use crate::reaper::Reaper;
use crate::signals::{Received, Signals};
use crate::watchdog::Watchdog;

/// Interval at which `terminate` polls for processes that are left after the command has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The first of the command and its watchdog to end, with its exit status.
pub(crate) enum ChildEvent {
    CommandEnded(ExitStatus),
    /// Without a watchdog, the command would keep running if this process died or was stopped. On
    /// Linux the command is killed with its watchdog.
    WatchdogEnded(ExitStatus),
}

/// A running command. Dropping this kills the command and all processes that it started.
pub(crate) struct ChildCommand {
    reaper: Reaper,
    watchdog: Watchdog,
    /// The pid, unless the command is known to have ended.
    command: Option<Pid>,
    /// The children of this process that the command did not start.
    others: HashSet<Pid>,
    /// True if `dflock` is in the foreground of a terminal. Then the command shares its process
    /// group, so that it can read from the terminal and react to its keys. Otherwise the command is
    /// in the group of the watchdog.
    foreground: bool,
}

impl ChildCommand {
    /// Starts the command of `watchdog` with the deadline `time` from now. `foreground` says
    /// whether it runs in the process group of this process.
    pub(crate) async fn start(
        mut watchdog: Watchdog,
        foreground: bool,
        time: impl Fn() -> Duration,
    ) -> Result<Self, CliError> {
        let not_started = |error| CliError::system("cannot start a process", &error);
        // After the spawn of the watchdog, because the command inherits the disposition of SIGCHLD.
        let reaper = Reaper::new(watchdog.pid()).map_err(not_started)?;
        let mut others = Process::children_of_current();
        others.remove(&watchdog.pid());
        let command = watchdog.start_command(time()).await?;
        Ok(Self {
            reaper,
            watchdog,
            command: Some(command),
            others,
            foreground,
        })
    }

    /// Sets the deadline of the command to `time` from now. After the deadline the watchdog kills
    /// the command, even if this process is stopped.
    pub(crate) fn extend_deadline(&self, time: Duration) {
        // Fails if the watchdog has ended or does not read.
        let _ = self.watchdog.extend_deadline(time);
        if self.reaper.runs() {
            // A stopped watchdog would not report the end of the command. The command can stop it
            // with its process group, and continue alone.
            let _ = kill_process(self.watchdog.pid(), Signal::CONT);
        }
    }

    /// Waits until the command or its watchdog has ended. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ChildEvent> {
        let event = tokio::select! {
            biased;
            status = self.watchdog.wait_for_command() => ChildEvent::CommandEnded(status),
            status = self.reaper.wait() => ChildEvent::WatchdogEnded(status?),
        };
        if cfg!(target_os = "linux") || matches!(event, ChildEvent::CommandEnded(_)) {
            self.command = None;
        }
        Ok(event)
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
        let by_key = !by_process && (signal == Signal::INT || signal == Signal::QUIT);
        if self.foreground && !by_key {
            // By the watchdog, because only the parent of the command knows that its pid has not
            // been reused. Fails if the watchdog has ended.
            let _ = self.watchdog.signal_command(signal);
        }
    }

    /// Terminates the command and all processes that it started: SIGTERM first, and SIGKILL for
    /// those that are left after `grace`.
    pub(crate) async fn terminate(&mut self, grace: Duration, signals: &mut Signals) {
        self.extend_deadline(grace);
        if !grace.is_zero() {
            self.process_tree().signal(Signal::TERM);
            // A stopped process handles SIGTERM only after SIGCONT.
            self.process_tree().signal(Signal::CONT);
            let timeout = tokio::time::sleep(grace);
            tokio::pin!(timeout);
            while self.command_runs() || !self.process_tree().pids().is_empty() {
                // The watchdog reports the end of the command, but not that of other processes.
                let reported = self.command.is_some() && self.reaper.runs();
                tokio::select! {
                    ended = self.wait(), if reported => if ended.is_err() { break },
                    () = tokio::time::sleep(POLL_INTERVAL), if !reported => {
                        // Fails if no child is left.
                        let _ = self.reaper.reap();
                    }
                    () = &mut timeout => break,
                    received = signals.next() => self.forward(received),
                }
            }
        }
        self.process_tree().kill().await;
        self.watchdog.disarm(&mut self.reaper).await;
    }

    /// Ends the watchdog after the command has ended. Processes that the command left behind keep
    /// running.
    pub(crate) async fn detach(mut self) {
        self.watchdog.disarm(&mut self.reaper).await;
    }

    /// Returns whether the command has not ended. If the watchdog has ended, the pid of the command
    /// may have been reused, but only after it has ended.
    fn command_runs(&self) -> bool {
        self.command
            .is_some_and(|pid| self.reaper.runs() || test_kill_process(pid).is_ok())
    }

    fn process_tree(&self) -> ProcessTree {
        let watchdog = self.watchdog.pid();
        let (root, excluded) = if self.reaper.runs() {
            (watchdog, HashSet::new())
        } else {
            (getpid(), self.others.clone())
        };
        ProcessTree {
            root,
            excluded,
            command: self.command,
            group: self.group(),
        }
    }

    /// Returns the command's own process group, if it has one and its id cannot have been reused.
    ///
    /// The id is in use until the watchdog, which leads the group, is reaped. After that it is in
    /// use while the command is in the group. The command may have left the group.
    fn group(&self) -> Option<Pid> {
        let group = self.watchdog.group();
        let has_watchdog = self.reaper.runs();
        let has_command = || {
            self.command
                .is_some_and(|pid| getpgid(Some(pid)) == Ok(group))
        };
        (!self.foreground && (has_watchdog || has_command())).then_some(group)
    }
}
