//! The signals that are passed on.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Those that ask a process for something. SIGTSTP and SIGCONT are the terminal's and the shell's.
const PASSED_ON: [Signal; 6] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM];

/// The signals that come to this process from now on.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Listens for all that are not ignored: who was started with `nohup` stays deaf, and so does the command.
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let heard = PASSED_ON.into_iter().filter(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0);
        heard.map(|kind| Ok((kind, signal(SignalKind::from_raw(kind.as_raw()))?))).collect::<io::Result<_>>().map(Self)
    }

    /// The next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (kind, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Catches every signal that can be caught, whose default would stop or end this process, and does nothing with it.
pub(crate) fn all() -> Vec<unix::Signal> {
    // those for errors of a program's own, and those that the system keeps for itself, are refused
    (1..=64).filter_map(|number| signal(SignalKind::from_raw(number)).ok()).collect()
}

/// The signals that this process was started to ignore, a bit each; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
