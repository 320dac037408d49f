//! Ways to cancel an operation.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::dice::Dice;

#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
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

impl Cut {
    pub(super) fn throw(dice: &mut Dice) -> Self {
        match dice.between(0..=9) {
            0..=4 => Self::Never,
            5 | 6 => Self::Polls(dice.between(0..=24)),
            7 => Self::After(dice.spread(1..=16_000)),
            8 => Self::Abort(dice.spread(1..=16_000)),
            _ => Self::Panic(dice.spread(1..=16_000)),
        }
    }

    /// Runs `operation`. Returns whether it ran to its end.
    pub(super) async fn run(self, act: impl Future<Output = ()> + Send + 'static) -> bool {
        match self {
            Self::Never => {
                act.await;
                true
            }
            Self::Polls(polls) => polled(polls, act).await,
            Self::After(time) => timeout(time, act).await.is_ok(),
            Self::Abort(time) => {
                let task = tokio::spawn(act);
                sleep(time).await;
                task.abort();
                task.await.is_ok()
            }
            Self::Panic(time) => {
                let task = tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = sleep(time) => resume_unwind(Box::new("planned panic")),
                        () = act => {}
                    }
                });
                task.await.is_ok()
            }
        }
    }
}

async fn polled(mut polls: u64, act: impl Future<Output = ()>) -> bool {
    let mut act = pin!(act);
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(false);
        }
        polls -= 1;
        match act.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if polls == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
