//! Until when something has to come on a connection.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;
use super::bell::Bell;

/// When whoever uses a connection has waited for long enough. Its alarm rings the connection's bell.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    /// `None` never comes.
    at: Option<Instant>,
    alarm: Alarm,
    /// What the clock showed when it was read last. To read it costs more than all else here.
    read: Option<Instant>,
}

impl Deadline {
    /// It is over when `limit` has passed from now on. To be polled after this.
    pub(super) fn set(&mut self, bell: &Bell, limit: Duration) {
        let now = Instant::now();
        self.read = Some(now);
        // what is too far to be counted never comes
        self.at = now.checked_add(limit);
        if self.at.is_some_and(|at| !self.alarm.rings_by(at)) {
            bell.suspect_alarm();
        }
    }

    /// The bell rings within `limit` from now on. To be polled after this.
    pub(super) fn ring_within(&mut self, bell: &Bell, limit: Duration) {
        // a clock does not go back: what is soon enough after it was read is soon enough after now
        let is_set = self.read.and_then(|read| read.checked_add(limit)).is_some_and(|at| self.alarm.rings_by(at));
        if bell.has_alarmed() || !is_set {
            self.set(bell, limit);
            bell.suspect_alarm();
        }
    }

    /// Resolves when it is over; or else the bell will ring.
    pub(super) fn poll(&mut self, bell: &Arc<Bell>) -> Poll<()> {
        let Some(at) = self.at.filter(|_| bell.has_alarmed()) else { return Poll::Pending };
        let over = self.alarm.poll(&mut Context::from_waker(&Chime::of(bell)), at);
        if over.is_ready() {
            // it is not set any more
            bell.suspect_alarm();
        }
        over
    }
}

/// Rings a bell for its alarm.
struct Chime(Arc<Bell>);

impl Chime {
    fn of(bell: &Arc<Bell>) -> Waker {
        Arc::new(Self(bell.clone())).into()
    }
}

impl Wake for Chime {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // first, so that whoever is woken sees it
        self.0.suspect_alarm();
        self.0.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    async fn over(deadline: &mut Deadline, bell: &Arc<Bell>) {
        let over = poll_fn(|cx| {
            bell.listen(cx.waker());
            bell.has_rung();
            deadline.poll(bell)
        });
        timeout(Duration::from_mins(1), over).await.expect("no alarm rang");
    }

    async fn rung(bell: &Bell) {
        let rung = poll_fn(|cx| {
            bell.listen(cx.waker());
            if bell.has_rung() { Poll::Ready(()) } else { Poll::Pending }
        });
        timeout(Duration::from_mins(1), rung).await.expect("no alarm rang");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_at_its_time_whatever_came_before() {
        let second = Duration::from_secs(1);
        let (bell, mut deadline) = (Arc::<Bell>::default(), Deadline::default());
        // another that is over, that is not yet, whose alarm has rung for nobody, or that is later
        for (before, after, limit) in [(3, 3, 3), (5, 1, 6), (2, 4, 2), (9, 0, 4), (7, 0, 0)] {
            deadline.set(&bell, before * second);
            assert_eq!(deadline.poll(&bell).is_pending(), before > 0);
            advance(after * second).await;
            let set = Instant::now();
            deadline.set(&bell, limit * second);
            over(&mut deadline, &bell).await;
            assert_eq!(set.elapsed(), limit * second, "{limit} s, {after} s after {before} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_bell_rings_within_the_time_whatever_came_before() {
        let second = Duration::from_secs(1);
        let (bell, mut deadline) = (Arc::<Bell>::default(), Deadline::default());
        // the alarm is set already, has rung, or is too late; the deadline before is near or far
        for (alarm, before, after, limit) in
            [(3, 3, 3, 3), (5, 5, 1, 6), (2, 2, 4, 2), (9, 9, 0, 4), (90, 90, 0, 8), (90, 90, 8, 3), (2, 90, 3, 4)]
        {
            for limit in [alarm, before] {
                deadline.set(&bell, limit * second);
                assert!(deadline.poll(&bell).is_pending());
            }
            advance(after * second).await;
            bell.has_rung();
            let set = Instant::now();
            deadline.ring_within(&bell, limit * second);
            if deadline.poll(&bell).is_pending() {
                rung(&bell).await;
            }
            assert!(set.elapsed() <= limit * second, "{limit} s, {after} s after {alarm} and {before} s: {:?}", set.elapsed());
            // as at the next use
            advance(second).await;
        }
    }
}
