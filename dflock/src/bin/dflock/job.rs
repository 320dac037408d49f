//! The command's processes.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::exec;
use crate::family::Family;
use crate::guard::Guard;
use crate::process::in_foreground;
use crate::signals::Signals;
use crate::status::Failure;

/// How often it is looked whether what the command has left behind has ended, too.
const LOOK: Duration = Duration::from_millis(20);

/// A command that runs. When this is dropped, it is killed, and so is what it has started.
pub(crate) struct Job {
    command: Child,
    pid: Pid,
    guard: Guard,
    /// In the foreground of a terminal the command shares the group of `dflock`, so that it may read from the terminal and is stopped
    /// and continued by the keys and the shell as anything else. Elsewhere it is in the group of the guard.
    foreground: bool,
}

impl Job {
    /// Starts `words` with `variables` in its environment, among them the token of `guard`. All may run for as long as `left` says, as
    /// with [`allow`](Self::allow). Must be called on the main thread.
    pub(crate) fn start(
        guard: Guard,
        left: impl Fn() -> Duration,
        words: &[OsString],
        variables: &[(&str, Option<String>)],
    ) -> Result<Self, Failure> {
        let not_guarded = |error| Failure::system("cannot start a process", &error);
        let mut command = Command::from(exec::command(words));
        command.kill_on_drop(true);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                // one of a `dflock run` around this one would be another slot's
                None => command.env_remove(name),
            };
        }
        let foreground = in_foreground();
        if !foreground {
            command.process_group(guard.group().as_raw_nonzero().get());
        }
        // first, as this process may be stopped by the command at once
        guard.allow(left()).map_err(not_guarded)?;
        let command = command.spawn().map_err(|error| Failure::not_run(&words[0], &error))?;
        // this process may have been stopped before the start, until the guard has ended
        guard.allow(left()).map_err(not_guarded)?;
        let pid = command.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| Failure::system("cannot start a process", &io::ErrorKind::Other.into()))?;
        Ok(Self { command, pid, guard, foreground })
    }

    /// All may run for `time` from now on; after that they are killed, unless this is called again, also when this process is stopped.
    pub(crate) fn allow(&self, time: Duration) {
        // one that has ended, or that does not read, is told nothing
        let _ = self.guard.allow(time);
    }

    /// Waits until the command has ended. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.command.wait().await
    }

    /// Passes a signal on that came to `dflock`.
    pub(crate) fn pass_on(&self, signal: Signal) {
        if !self.foreground {
            return self.guard.signal(signal);
        }
        // those of the keys have come to the whole foreground already, and some programs take the second for more than the first
        let by_key = signal == Signal::INT || signal == Signal::QUIT;
        // not to a stranger that has its number by now
        if !by_key && self.command.id().is_some() {
            // it has ended already if this fails
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Ends the command and what it has started: SIGTERM, and SIGKILL for those that are left when `grace` is over.
    pub(crate) async fn end(&mut self, grace: Duration, signals: &mut Signals) -> io::Result<()> {
        self.allow(grace);
        if !grace.is_zero() {
            self.family().signal(Signal::TERM);
            // one that is stopped hears nothing else
            self.family().signal(Signal::CONT);
            let over = tokio::time::sleep(grace);
            tokio::pin!(over);
            let mut ended = false;
            while !(ended && self.family().members().is_empty()) {
                tokio::select! {
                    _ = self.command.wait(), if !ended => ended = true,
                    () = tokio::time::sleep(LOOK), if ended => {}
                    () = &mut over => break,
                    signal = signals.next() => self.pass_on(signal),
                }
            }
        }
        self.family().signal(Signal::KILL);
        self.command.wait().await.map(drop)
    }

    /// The command has ended; what it has left behind is left alone.
    pub(crate) async fn leave(self) {
        self.guard.dismiss().await;
    }

    fn family(&self) -> Family {
        let command = self.command.id().is_some().then_some(self.pid);
        let group = (!self.foreground).then(|| self.guard.group());
        Family { token: self.guard.token().to_owned(), command, group }
    }
}
