//! The command's processes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};

use crate::exec;
use crate::guard::Guard;
use crate::signals::Signals;
use crate::status::Failure;

/// A command that runs. When this is dropped, it is killed.
pub(crate) struct Job {
    command: Child,
    reach: Reach,
}

/// Which processes are signalled and ended.
enum Reach {
    /// The command and all that it has started, in the process group of a guard.
    Group(Guard),
    /// The command alone: in the foreground of a terminal it shares the group of `dflock`, so that it may read from the terminal and is
    /// stopped and continued by the keys and the shell as anything else.
    Foreground(Pid),
}

impl Job {
    /// Starts `words` with `variables` in its environment. Must be called on the main thread.
    pub(crate) async fn start(words: &[OsString], variables: &[(&str, Option<String>)]) -> Result<Self, Failure> {
        let mut command = Command::from(exec::command(words));
        command.kill_on_drop(true);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                // one of a `dflock run` around this one would be another slot's
                None => command.env_remove(name),
            };
        }
        if in_foreground() {
            let (command, pid) = start(command, words)?;
            return Ok(Self { command, reach: Reach::Foreground(pid) });
        }
        let guard = Guard::start().await.map_err(|error| Failure::system("cannot start a process", &error))?;
        command.process_group(guard.group().as_raw_nonzero().get());
        let (command, _) = start(command, words)?;
        Ok(Self { command, reach: Reach::Group(guard) })
    }

    /// Waits until the command has ended. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.command.wait().await
    }

    /// Passes a signal on that came to `dflock`.
    pub(crate) fn pass_on(&self, signal: Signal) {
        // those of the keys have come to the whole foreground already, and some programs take the second for more than the first
        let by_key = signal == Signal::INT || signal == Signal::QUIT;
        if !(by_key && matches!(self.reach, Reach::Foreground(_))) {
            self.signal(signal);
        }
    }

    /// Ends the command: SIGTERM, and SIGKILL when it has ended or `grace` is over, for what it has left behind or for itself.
    pub(crate) async fn end(&mut self, grace: Duration, signals: &mut Signals) -> io::Result<()> {
        if !grace.is_zero() {
            self.signal(Signal::TERM);
            // one that is stopped hears nothing else
            self.signal(Signal::CONT);
            let over = tokio::time::sleep(grace);
            tokio::pin!(over);
            loop {
                tokio::select! {
                    _ = self.command.wait() => break,
                    () = &mut over => break,
                    signal = signals.next() => self.pass_on(signal),
                }
            }
        }
        self.signal(Signal::KILL);
        self.command.wait().await.map(drop)
    }

    /// The command has ended; what it has left behind is left alone.
    pub(crate) async fn leave(self) {
        if let Reach::Group(guard) = self.reach {
            guard.dismiss().await;
        }
    }

    fn signal(&self, signal: Signal) {
        match &self.reach {
            Reach::Group(guard) => guard.signal(signal),
            // not a stranger that has its number by now
            Reach::Foreground(pid) if self.command.id().is_some() => {
                // it has ended already if this fails
                let _ = kill_process(*pid, signal);
            }
            Reach::Foreground(_) => {}
        }
    }
}

fn start(mut command: Command, words: &[OsString]) -> Result<(Child, Pid), Failure> {
    let child = command.spawn().map_err(|error| Failure::not_run(&words[0], &error))?;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    Ok((child, pid.ok_or_else(|| Failure::system("cannot start a process", &io::ErrorKind::Other.into()))?))
}

/// Whether this process is in the foreground of a terminal.
fn in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
