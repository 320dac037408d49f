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

/// The signals that are forwarded to the command. SIGTSTP and SIGCONT are not among them, because
/// the terminal and the shell use them for job control.
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
    /// Unblocks the signals that this process handles, for this thread and all threads that it
    /// starts later. If the parent has blocked them, SIGTERM would otherwise never arrive.
    pub(crate) fn unblock() -> io::Result<Self> {
        let handled: SigSet = FORWARDED.into_iter().chain([NixSignal::SIGCHLD]).collect();
        Ok(Self(handled.thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?))
    }

    /// Spawns a process with the inherited mask.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let current = self.0.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let child = command.spawn();
        current.thread_set_mask()?;
        child
    }
}

/// A received signal.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// True if a process sent it. Otherwise it came from a key of the terminal, which signals
    /// the whole foreground group.
    pub(crate) by_process: bool,
}

/// A stream of the received signals.
pub(crate) struct Signals {
    received: UnboundedReceiver<Received>,
    handle: Handle,
}

impl Signals {
    /// Listens for the forwarded signals, except for those that are ignored. So after `nohup`,
    /// neither `dflock` nor the command reacts to SIGHUP.
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = ignored_signals();
        let numbers = FORWARDED.into_iter().map(|signal| signal as i32);
        let mut signals =
            SignalsInfo::<WithOrigin>::new(numbers.filter(|n| ignored & (1 << (n - 1)) == 0))?;
        let handle = signals.handle();
        let (sender, received) = unbounded_channel();
        // The thread ends when the handle is closed.
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

/// Waits for SIGINT or SIGTERM if this process is PID 1, and forever otherwise. The kernel does not
/// apply the default actions of signals to PID 1.
pub(crate) async fn pid_1_termination() -> io::Result<Signal> {
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

/// Catches every signal that can be caught and does nothing with it, for as long as the result
/// lives.
pub(crate) fn ignore_all() -> Vec<unix::Signal> {
    // Tokio refuses the signals that cannot be caught, and those for errors such as SIGSEGV.
    (1..=64)
        .filter_map(|number| signal(SignalKind::from_raw(number)).ok())
        .collect()
}

/// Returns the signals that this process ignores since its start, as a bit mask. Empty without
/// `/proc`.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
