//! Until when something has to come on a connection.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant as Shown;

use super::Instant;
use super::alarm::Alarm;
use super::bell::Bell;

/// How long what two clocks showed at a time is good for: one of them stands still while the machine is suspended, and no deadline may
/// be later by more than this.
const COMPARED: Duration = Duration::from_millis(100);

/// When whoever uses a connection has waited for long enough. Its alarm rings the connection's bell.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    /// On the clock of the timers; `None` never comes.
    at: Option<Shown>,
    alarm: Alarm,
    /// What the clock of the timers showed last, and when. To read a clock costs as much as all else here.
    shown: Option<(Instant, Shown)>,
}

impl Deadline {
    /// It is over when `limit` has passed from `now` on. To be polled after this.
    pub(super) fn set(&mut self, bell: &Arc<Bell>, now: Instant, limit: Duration) {
        // what is too far to be counted never comes
        self.at = self.shown(now).checked_add(limit);
        if self.at.is_some_and(|at| !self.alarm.rings_by(at)) {
            bell.suspect_alarm();
        }
    }

    /// Resolves when it is over; or else the bell will ring.
    pub(super) fn poll(&mut self, bell: &Arc<Bell>) -> Poll<()> {
        let Some(at) = self.at.filter(|_| bell.has_alarmed()) else { return Poll::Pending };
        let over = self.alarm.poll(&mut Context::from_waker(&bell.chime()), at);
        if over.is_ready() {
            // it is not set any more
            bell.suspect_alarm();
        }
        over
    }

    /// What the clock of the timers shows `now`.
    fn shown(&mut self, now: Instant) -> Shown {
        match self.shown {
            Some((then, shown)) if now.since(then) < COMPARED => shown + now.since(then),
            _ => self.shown.insert((now, Shown::now())).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::advance;

    use super::*;
    use crate::transport::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_was_suspended_makes_no_deadline_late() {
        let start = Shown::now();
        let slept = Arc::new(AtomicU64::new(0));
        let all = slept.clone();
        let clock = Clock::Custom(Arc::new(move || start.elapsed() + Duration::from_millis(all.load(Ordering::Relaxed))));
        let bell = Bell::new();
        let mut deadline = Deadline::default();
        for (awake, asleep, late) in [(0, 0, 0), (99, 0, 0), (7000, 0, 0), (0, 3_600_000, 0), (20, 60, 60), (50, 50, 0)] {
            deadline.set(&bell, clock.now(), Duration::from_secs(9));
            advance(Duration::from_millis(awake)).await;
            slept.fetch_add(asleep, Ordering::Relaxed);
            let set = Shown::now();
            deadline.set(&bell, clock.now(), Duration::from_secs(3));
            poll_fn(|cx| {
                bell.listen(cx.waker());
                bell.has_rung();
                deadline.poll(&bell)
            })
            .await;
            assert_eq!(set.elapsed(), Duration::from_millis(3000 + late), "{awake} ms awake, {asleep} ms asleep");
        }
    }
}
