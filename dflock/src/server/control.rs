//! Injected faults and shutdown.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

/// Switches that [`Faults`](super::Faults) and [`Server::shutdown`](super::Server::shutdown) set.
/// Every request reads them, so a read takes no lock.
#[derive(Debug, Default)]
pub(super) struct Control {
    shutdown: AtomicBool,
    frozen: AtomicBool,
    refuse_connections: AtomicBool,
    /// In nanoseconds.
    reply_delay: AtomicU64,
    /// Notified when a shutdown begins or the server is unfrozen. A `Notify` wakes tasks in the
    /// order in which they wait, so that a seeded simulation is repeatable; a `watch` does not.
    changed: Notify,
}

impl Control {
    /// Begins the shutdown, and unfreezes the server.
    pub(super) fn shut_down(&self) {
        self.shutdown.store(true, Ordering::SeqCst);
        self.unfreeze();
    }

    pub(super) fn is_shutdown(&self) -> bool {
        self.shutdown.load(Ordering::SeqCst)
    }

    /// Waits until the shutdown begins.
    pub(super) async fn wait_for_shutdown(&self) {
        self.wait_until(|| self.is_shutdown()).await;
    }

    pub(super) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    pub(super) fn unfreeze(&self) {
        self.frozen.store(false, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Runs `task`, and does not poll it while the server is frozen, as if the process were
    /// stopped.
    pub(super) async fn pause_while_frozen<F: Future>(&self, task: F) -> F::Output {
        let mut task = pin!(task);
        loop {
            // A wake-up that arrives while the server is frozen is not lost: the task is polled
            // when the server is unfrozen.
            let poll = poll_fn(|cx| {
                if self.is_frozen() {
                    return Poll::Ready(None);
                }
                task.as_mut().poll(cx).map(Some)
            });
            match poll.await {
                Some(output) => return output,
                None => self.wait_until(|| !self.is_frozen()).await,
            }
        }
    }

    pub(super) fn refuse_connections(&self, refuse: bool) {
        self.refuse_connections.store(refuse, Ordering::SeqCst);
    }

    pub(super) fn refuses_connections(&self) -> bool {
        self.refuse_connections.load(Ordering::SeqCst)
    }

    /// Delays every reply. A delay of more than `u64::MAX` nanoseconds is capped.
    pub(super) fn delay_replies(&self, delay: Duration) {
        let nanoseconds = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.reply_delay.store(nanoseconds, Ordering::SeqCst);
    }

    pub(super) fn reply_delay(&self) -> Duration {
        Duration::from_nanos(self.reply_delay.load(Ordering::SeqCst))
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            // Created before the check: it receives every `notify_waiters` from now on, so a change
            // after the check is not missed.
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}
