//! The task that stays with a connection: a hold that is over at once needs none of its own.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::bell::Bell;

/// A task that sleeps until the bell of its connection rings, and then attends to the duty that it has, if any. Dropping this stops
/// it.
#[derive(Debug)]
pub(super) struct Attendant(AbortHandle);

impl Attendant {
    /// Starts the task, on the runtime that this is called on.
    pub(super) fn start(bell: Arc<Bell>) -> Self {
        Self(tokio::spawn(Service(bell).serve()).abort_handle())
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The task's side. However the task ends, even before its first poll, nobody relies on it any longer.
struct Service(Arc<Bell>);

impl Service {
    async fn serve(self) {
        loop {
            poll_fn(|cx| self.0.poll_duty(cx)).await.attend().await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(duty) = self.0.leave() {
            duty.abandon();
        }
    }
}
