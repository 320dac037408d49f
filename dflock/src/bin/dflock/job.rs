//! The command's processes.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};

use crate::children::Children;
use crate::exec::Waiting;
use crate::family::Family;
use crate::guard::Guard;
use crate::process::in_foreground;
use crate::signals::{InheritedMask, Received, Signals};
use crate::status::Failure;

/// How often it is looked whether what the command has left behind has ended, too.
const LOOK: Duration = Duration::from_millis(20);

/// The first to end of a command and its guard.
pub(crate) enum Ended {
    Command(ExitStatus),
    /// Without a guard, nothing would end the command when this process dies or is stopped.
    Guard(ExitStatus),
}

/// A command that runs. When this is dropped, it is killed, and so is what it has started.
pub(crate) struct Job {
    children: Children,
    pid: Pid,
    guard: Guard,
    /// In the foreground of a terminal the command shares the group of `dflock`, so that it may read from the terminal and is stopped
    /// and continued by the keys and the shell as anything else. Elsewhere it is in the group of the guard.
    foreground: bool,
}

impl Job {
    /// Starts `words` with `variables` in its environment, among them the token of `guard`, and
    /// with the signal mask `mask`. All may run for as long as `left` says, as with
    /// [`allow`](Self::allow). Must be called on the main thread.
    pub(crate) fn start(
        guard: Guard,
        left: impl Fn() -> Duration,
        words: &[OsString],
        variables: &[(&str, Option<String>)],
        mask: &InheritedMask,
    ) -> Result<Self, Failure> {
        let not_started = |error| Failure::system("cannot start a process", &error);
        let (waiting, mut command) = Waiting::new(words).map_err(not_started)?;
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
        // first, as the guard allows nothing to be started before
        guard.allow(left()).map_err(not_started)?;
        let pid = Pid::from_child(&mask.spawn(&mut command).map_err(not_started)?);
        // the other end of what it waits for is its own alone
        drop(command);
        // not earlier: the command inherits the disposition of SIGCHLD
        let children = Children::new([pid, guard.pid()]).map_err(not_started)?;
        let job = Self {
            children,
            pid,
            guard,
            foreground,
        };
        // this process may have been stopped before the start, until the guard has ended; from here
        // on the guard kills what waits to become the command
        job.guard.allow(left()).map_err(not_started)?;
        // one that has ended already has said why, and its status tells
        let _ = waiting.begin();
        Ok(job)
    }

    /// All may run for `time` from now on; after that they are killed, unless this is called again, also when this process is stopped.
    pub(crate) fn allow(&self, time: Duration) {
        // one that has ended, or that does not read, is told nothing
        let _ = self.guard.allow(time);
    }

    /// Waits until the command or its guard has ended. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<Ended> {
        let pids = [self.pid, self.guard.pid()];
        let (pid, status) = self.children.wait_any(pids).await?;
        Ok(if pid == self.pid {
            Ended::Command(status)
        } else {
            Ended::Guard(status)
        })
    }

    /// Passes a signal on that came to `dflock`.
    pub(crate) fn pass_on(&self, Received { signal, by_process }: Received) {
        if let Some(group) = self.group() {
            // all have ended already if this fails; the guard ignores what can be caught
            let _ = kill_process_group(group, signal);
            return;
        }
        // a key of the terminal has sent it to the whole foreground group already, and some programs
        // take a second one for more than the first
        let by_key =
            self.foreground && !by_process && (signal == Signal::INT || signal == Signal::QUIT);
        // not to a stranger that has its number by now
        if !by_key && self.children.contains(self.pid) {
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
                    _ = self.children.wait(self.pid), if !ended => ended = true,
                    () = tokio::time::sleep(LOOK), if ended => {}
                    () = &mut over => break,
                    received = signals.next() => self.pass_on(received),
                }
            }
        }
        self.family().signal(Signal::KILL);
        self.children.wait(self.pid).await.map(drop)
    }

    /// The command has ended; what it has left behind is left alone.
    pub(crate) async fn leave(mut self) {
        self.guard.dismiss(&mut self.children).await;
    }

    fn family(&self) -> Family {
        let command = self.children.contains(self.pid).then_some(self.pid);
        Family {
            token: self.guard.token().to_owned(),
            command,
            group: self.group(),
        }
    }

    /// Returns the process group of the command, unless it is that of `dflock`, for as long as no
    /// other group can have its number: one of its members is not reaped, either the guard, which
    /// leads it, or the command, which may have left it.
    fn group(&self) -> Option<Pid> {
        let group = self.guard.group();
        let has_guard = self.children.contains(self.guard.pid());
        let has_command =
            || self.children.contains(self.pid) && getpgid(Some(self.pid)) == Ok(group);
        (!self.foreground && (has_guard || has_command())).then_some(group)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.children.contains(self.pid) {
            // it has ended already if this fails
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}
