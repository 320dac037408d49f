//! What is wrong with a server.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;

use crate::mutex::Mutex;

/// What [`Faults`](super::Faults) have made of the server. Whoever waits for a change is woken in order, so that a run can be
/// repeated; a `watch` wakes in any.
#[derive(Debug, Default)]
pub(super) struct Condition {
    wrong: Mutex<Wrong>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrong {
    pub(super) frozen: bool,
    pub(super) refusing: bool,
    pub(super) reply_delay: Duration,
}

impl Condition {
    pub(super) fn now(&self) -> Wrong {
        *self.wrong.lock()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Wrong)) {
        change(&mut self.wrong.lock());
        self.changed.notify_waiters();
    }

    /// Runs `work`, but not while the server is frozen: then it is not polled at all, as if the process were stopped.
    pub(super) async fn unless_frozen<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.until(|wrong| wrong.frozen) => {}
                output = &mut work => return output,
            }
            self.until(|wrong| !wrong.frozen).await;
        }
    }

    async fn until(&self, seen: impl Fn(Wrong) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // a change after the look must wake us
            changed.as_mut().enable();
            if seen(self.now()) {
                return;
            }
            changed.await;
        }
    }
}
