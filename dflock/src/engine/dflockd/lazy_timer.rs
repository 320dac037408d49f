//! A timer that is re-armed only when it fires.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose deadline may change at each poll.
///
/// Arming a timer locks the timer wheel of the runtime and mostly wakes its driver. A timer that
/// fires before the deadline is therefore kept, and re-armed after it has fired. A connection arms
/// it once in some seconds, however many requests it carries.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Completes when `deadline` has passed.
    pub(crate) fn poll_elapsed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use std::pin::pin;

    use tokio::task::consume_budget;
    use tokio::time::{advance, timeout_at};

    use super::*;
    use crate::engine::dflockd::connection::poll_once;

    #[tokio::test(start_paused = true)]
    async fn elapses_at_the_deadline_of_the_last_poll() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut timer = LazyTimer::default();
        // Each deadline is earlier or later than the previous one, or has already passed.
        for after in [8, 2, 5, 1, 1, 9, 3] {
            let deadline = start + after * second;
            let early = deadline > Instant::now();
            assert_eq!(
                poll_once(|cx| timer.poll_elapsed(cx, deadline)).is_pending(),
                early,
                "{after}"
            );
        }
        for after in [4, 6, 7] {
            poll_fn(|cx| timer.poll_elapsed(cx, start + after * second)).await;
            assert_eq!(start.elapsed(), after * second);
        }
        advance(9 * second).await;
        assert!(poll_once(|cx| timer.poll_elapsed(cx, start + 10 * second)).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_a_task_that_armed_it_with_its_coop_budget_used_up() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut timer = LazyTimer::default();
        let mut is_exhausted = false;
        let elapsed = tokio::spawn(poll_fn(move |cx| {
            while !is_exhausted {
                is_exhausted = pin!(consume_budget()).poll(cx).is_pending();
            }
            timer.poll_elapsed(cx, deadline)
        }));
        timeout_at(deadline + Duration::from_secs(1), elapsed)
            .await
            .expect("the timer did not wake its task")
            .unwrap();
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_the_task_that_polled_last() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut timer = LazyTimer::default();
        assert!(poll_once(|cx| timer.poll_elapsed(cx, deadline)).is_pending());
        let other = tokio::spawn(poll_fn(move |cx| timer.poll_elapsed(cx, deadline)));
        timeout_at(deadline + Duration::from_secs(1), other)
            .await
            .expect("the timer did not wake its task")
            .unwrap();
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_the_task_that_polled_last_with_a_later_deadline() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut timer = LazyTimer::default();
        assert!(poll_once(|cx| timer.poll_elapsed(cx, start + second)).is_pending());
        poll_fn(|cx| timer.poll_elapsed(cx, start + 3 * second)).await;
        assert_eq!(start.elapsed(), 3 * second);
    }
}
