//! What is wrong with a server.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

/// What [`Faults`](super::Faults) have made of the server. Every connection looks at it all the time, so looking takes no lock.
#[derive(Debug, Default)]
pub(super) struct Condition {
    frozen: AtomicBool,
    refusing: AtomicBool,
    /// In nanoseconds.
    reply_delay: AtomicU64,
    /// Wakes whoever waits in order, so that a run can be repeated.
    thawed: Notify,
}

impl Condition {
    pub(super) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    pub(super) fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
        self.thawed.notify_waiters();
    }

    pub(super) fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::SeqCst);
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::SeqCst)
    }

    /// Delays replies; 584 years are for ever.
    pub(super) fn delay_replies(&self, delay: Duration) {
        self.reply_delay.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub(super) fn reply_delay(&self) -> Duration {
        Duration::from_nanos(self.reply_delay.load(Ordering::SeqCst))
    }

    /// Runs `work`, but not while the server is frozen: then it is not polled at all, as if the process were stopped.
    pub(super) async fn unless_frozen<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            // what wakes it while it is frozen is handled when it is thawed: then it is polled
            let polled = poll_fn(|cx| if self.is_frozen() { Poll::Ready(None) } else { work.as_mut().poll(cx).map(Some) });
            match polled.await {
                Some(output) => return output,
                None => self.until_thawed().await,
            }
        }
    }

    async fn until_thawed(&self) {
        loop {
            let mut thawed = pin!(self.thawed.notified());
            // a change after the look must wake us
            thawed.as_mut().enable();
            if !self.is_frozen() {
                return;
            }
            thawed.await;
        }
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }
}
