//! Ways to cancel an operation.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::rng::Rng;

#[derive(Clone, Copy, Debug)]
pub(super) enum Cancellation {
    Never,
    /// Drops the future after this number of polls.
    Polls(u64),
    /// Drops the future after this time.
    After(Duration),
    /// Aborts the task after this time.
    Abort(Duration),
    /// Panics in the task after this time.
    Panic(Duration),
}

impl Cancellation {
    pub(super) fn random(rng: &mut Rng) -> Self {
        match rng.range(0..=9) {
            0..=4 => Self::Never,
            5 | 6 => Self::Polls(rng.range(0..=24)),
            7 => Self::After(rng.log_uniform(1..=16_000)),
            8 => Self::Abort(rng.log_uniform(1..=16_000)),
            _ => Self::Panic(rng.log_uniform(1..=16_000)),
        }
    }

    /// Runs `operation`. Returns whether it ran to its end.
    pub(super) async fn run(self, operation: impl Future<Output = ()> + Send + 'static) -> bool {
        match self {
            Self::Never => {
                operation.await;
                true
            }
            Self::Polls(polls) => poll_at_most(polls, operation).await,
            Self::After(time) => timeout(time, operation).await.is_ok(),
            Self::Abort(time) => {
                let task = tokio::spawn(operation);
                sleep(time).await;
                task.abort();
                task.await.is_ok()
            }
            Self::Panic(time) => {
                let task = tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = sleep(time) => resume_unwind(Box::new("planned panic")),
                        () = operation => {}
                    }
                });
                task.await.is_ok()
            }
        }
    }
}

async fn poll_at_most(mut polls: u64, operation: impl Future<Output = ()>) -> bool {
    let mut operation = pin!(operation);
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(false);
        }
        polls -= 1;
        match operation.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if polls == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
