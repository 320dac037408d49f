//! That a server is shutting down.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Begins once and never ends. Whoever waits for it is woken in order.
#[derive(Debug, Default)]
pub(super) struct Draining {
    begun: AtomicBool,
    beginning: Notify,
}

impl Draining {
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.beginning.notify_waiters();
    }

    /// Whether it has begun. This takes no lock: every request asks.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Resolves when it has begun.
    pub(super) async fn begun(&self) {
        let mut beginning = pin!(self.beginning.notified());
        // a beginning after the look must wake us
        beginning.as_mut().enable();
        if !self.has_begun() {
            beginning.await;
        }
    }
}
