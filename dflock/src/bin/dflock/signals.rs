//! The signals that this process handles, and the signal mask that it was started with.

use std::future::pending;
use std::io;
use std::process::{Child, Command};
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use rustix::process::{Signal, getpid};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The signals that ask a process for something. SIGTSTP and SIGCONT belong to the terminal and
/// the shell.
const FORWARDED: [NixSignal; 6] = [
    NixSignal::SIGHUP,
    NixSignal::SIGINT,
    NixSignal::SIGQUIT,
    NixSignal::SIGUSR1,
    NixSignal::SIGUSR2,
    NixSignal::SIGTERM,
];

/// The signal mask that this process inherited from its parent.
pub(crate) struct InheritedMask(SigSet);

impl InheritedMask {
    /// Unblocks the signals that this process handles, for this thread and those that it starts
    /// later: a parent may have blocked them, and then SIGTERM would never arrive.
    pub(crate) fn unblock() -> io::Result<Self> {
        let handled: SigSet = FORWARDED.into_iter().chain([NixSignal::SIGCHLD]).collect();
        Ok(Self(handled.thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?))
    }

    /// Starts a process that has the inherited mask.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let current = self.0.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let child = command.spawn();
        current.thread_set_mask()?;
        child
    }
}

/// A signal that has arrived.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// Whether a process has sent it. A terminal's keys send theirs to the whole foreground group.
    pub(crate) by_process: bool,
}

/// The signals that arrive from now on.
pub(crate) struct Signals {
    received: UnboundedReceiver<Received>,
    handle: Handle,
}

impl Signals {
    /// Listens for the signals that are not ignored: after `nohup`, neither `dflock` nor the
    /// command reacts to SIGHUP.
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let numbers = FORWARDED.into_iter().map(|signal| signal as i32);
        let mut signals =
            SignalsInfo::<WithOrigin>::new(numbers.filter(|n| ignored & (1 << (n - 1)) == 0))?;
        let handle = signals.handle();
        let (sender, received) = unbounded_channel();
        // ends when the handle is closed
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for origin in signals.forever() {
                    if let Some(signal) = Signal::from_named_raw(origin.signal) {
                        let by_process = origin.process.is_some();
                        if sender.send(Received { signal, by_process }).is_err() {
                            break;
                        }
                    }
                }
            })?;
        Ok(Self { received, handle })
    }

    /// Waits for the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Received {
        match self.received.recv().await {
            Some(received) => received,
            None => pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Waits for a signal that is to end this process, if it is PID 1. The system spares PID 1 the
/// default actions of signals.
pub(crate) async fn end_of_pid_1() -> io::Result<Signal> {
    if !getpid().is_init() {
        return pending().await;
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::INT,
        _ = terminate.recv() => Signal::TERM,
    })
}

/// Catches every signal that can be caught, whose default would stop or end this process, and does nothing with it.
pub(crate) fn all() -> Vec<unix::Signal> {
    // those for errors of a program's own, and those that the system keeps for itself, are refused
    (1..=64)
        .filter_map(|number| signal(SignalKind::from_raw(number)).ok())
        .collect()
}

/// The signals that this process was started to ignore, a bit each; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
