//! A timer that is set rarely.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use super::{Clock, Instant};

/// No timer is set for longer: what is too far to be counted never comes.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Tells when a deadline has passed.
///
/// Setting a timer costs a lock, and mostly wakes the runtime's driver; to read a clock costs something, too. So one that rings too
/// early is left as it is, and set anew when it has rung: a connection sets it once in some seconds, however many requests it carries.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Set>);

#[derive(Debug)]
struct Set {
    timer: Pin<Box<Sleep>>,
    /// When it rings, if timers go as fast as the clock.
    rings: Instant,
}

impl Alarm {
    /// Resolves when it is `deadline` on `clock`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, clock: &Clock, deadline: Instant) -> Poll<()> {
        loop {
            if let Some(Set { timer, rings }) = &mut self.0
                && *rings <= deadline
                && timer.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            // it has rung, or would too late
            let now = clock.now();
            if now >= deadline {
                return Poll::Ready(());
            }
            self.set(now, deadline.since(now).min(LONGEST));
        }
    }

    fn set(&mut self, now: Instant, after: Duration) {
        let (end, rings) = (tokio::time::Instant::now() + after, now.plus(after));
        match &mut self.0 {
            Some(set) => {
                set.timer.as_mut().reset(end);
                set.rings = rings;
            }
            None => self.0 = Some(Set { timer: Box::pin(sleep_until(end)), rings }),
        }
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
        let (clock, second) = (Clock::Tokio, Duration::from_secs(1));
        let start = clock.now();
        let mut alarm = Alarm::default();
        // earlier, later and passed already: each is set while another is
        for after in [8, 2, 5, 1, 1, 9, 3] {
            let deadline = start.plus(after * second);
            let early = deadline > clock.now();
            assert_eq!(at_once(|cx| alarm.poll(cx, &clock, deadline)).is_pending(), early, "{after}");
        }
        for after in [4, 6, 7] {
            poll_fn(|cx| alarm.poll(cx, &clock, start.plus(after * second))).await;
            assert_eq!(clock.now().since(start), after * second);
        }
        advance(9 * second).await;
        assert!(at_once(|cx| alarm.poll(cx, &clock, start.plus(10 * second))).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_when_it_was_set_for_somebody_else() {
        let (clock, second) = (Clock::Tokio, Duration::from_secs(1));
        let start = clock.now();
        let mut alarm = Alarm::default();
        assert!(at_once(|cx| alarm.poll(cx, &clock, start.plus(second))).is_pending());
        poll_fn(|cx| alarm.poll(cx, &clock, start.plus(3 * second))).await;
        assert_eq!(clock.now().since(start), 3 * second);
    }
}
