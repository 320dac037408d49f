//! A timer that is set rarely.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// Tells when a deadline has passed.
///
/// Setting a timer costs a lock, and mostly wakes the runtime's driver. So one that rings too early is left as it is, and set anew
/// when it has rung: a connection sets it once in some seconds, however many requests it carries.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Timer>);

#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// That of `sleep`, which lies elsewhere in memory.
    deadline: Instant,
    /// Who will be woken by it.
    woken: Option<Waker>,
}

impl Alarm {
    /// Resolves when `deadline` has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Timer { sleep: Box::pin(sleep_until(deadline)), deadline, woken: None });
        if deadline < timer.deadline {
            timer.reset(deadline);
        } else if !timer.sleep.is_elapsed() && timer.wakes(cx) {
            return Poll::Pending;
        }
        // a task whose share of time is used up would go away without being known to the timer
        while pin!(unconstrained(timer.sleep.as_mut())).poll(cx).is_ready() {
            if timer.deadline == deadline {
                return Poll::Ready(());
            }
            timer.reset(deadline);
        }
        if !timer.wakes(cx) {
            timer.woken = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether it is set to ring by `deadline`, if it has not rung yet.
    pub(super) fn rings_by(&self, deadline: Instant) -> bool {
        self.0.as_ref().is_some_and(|timer| timer.deadline <= deadline)
    }
}

impl Timer {
    fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
        self.deadline = deadline;
    }

    fn wakes(&self, cx: &Context<'_>) -> bool {
        self.woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::task::consume_budget;
    use tokio::time::{advance, timeout_at};

    use super::*;
    use crate::transport::once::at_once;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_deadline_that_is_asked_for_last() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut alarm = Alarm::default();
        // earlier, later and passed already: each is set while another is
        for after in [8, 2, 5, 1, 1, 9, 3] {
            let deadline = start + after * second;
            let early = deadline > Instant::now();
            assert_eq!(at_once(|cx| alarm.poll(cx, deadline)).is_pending(), early, "{after}");
        }
        for after in [4, 6, 7] {
            poll_fn(|cx| alarm.poll(cx, start + after * second)).await;
            assert_eq!(start.elapsed(), after * second);
        }
        advance(9 * second).await;
        assert!(at_once(|cx| alarm.poll(cx, start + 10 * second)).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_for_a_task_whose_share_of_time_was_used_up_when_it_was_set() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut alarm = Alarm::default();
        let mut is_tired = false;
        let rings = tokio::spawn(poll_fn(move |cx| {
            while !is_tired {
                is_tired = pin!(consume_budget()).poll(cx).is_pending();
            }
            alarm.poll(cx, deadline)
        }));
        timeout_at(deadline + Duration::from_secs(1), rings).await.expect("it did not ring").unwrap();
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_last_is_woken() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut alarm = Alarm::default();
        assert!(at_once(|cx| alarm.poll(cx, deadline)).is_pending());
        let other = tokio::spawn(poll_fn(move |cx| alarm.poll(cx, deadline)));
        timeout_at(deadline + Duration::from_secs(1), other).await.expect("it did not ring").unwrap();
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_when_it_was_set_for_somebody_else() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut alarm = Alarm::default();
        assert!(at_once(|cx| alarm.poll(cx, start + second)).is_pending());
        poll_fn(|cx| alarm.poll(cx, start + 3 * second)).await;
        assert_eq!(start.elapsed(), 3 * second);
    }
}
