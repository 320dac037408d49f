//! A timer that is set rarely.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Tells when a deadline has passed.
///
/// Setting a timer costs a lock, and mostly wakes the runtime's driver. So one that rings too early is left as it is, and set anew
/// when it has rung: a connection sets it once in some seconds, however many requests it carries.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Resolves when `deadline` has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let mut sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut();
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() == deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::transport::at_once;

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
    async fn who_waits_is_woken_when_it_was_set_for_somebody_else() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut alarm = Alarm::default();
        assert!(at_once(|cx| alarm.poll(cx, start + second)).is_pending());
        poll_fn(|cx| alarm.poll(cx, start + 3 * second)).await;
        assert_eq!(start.elapsed(), 3 * second);
    }
}
