//! When something was so, again and again.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Spans(Vec<(Duration, Duration)>);

impl Spans {
    pub(super) fn open(&mut self, at: Duration) {
        self.0.push((at, Duration::MAX));
    }

    /// Ends one of those that are open; which of them makes no difference to when it was so.
    pub(super) fn close(&mut self, at: Duration) {
        if let Some((_, to)) = self.0.iter_mut().find(|(_, to)| *to == Duration::MAX) {
            *to = at;
        }
    }

    pub(super) fn add(&mut self, from: Duration, to: Duration) {
        self.0.push((from, to));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it was so at any time from `from` to `to`, or no longer than `trace` before.
    pub(super) fn meet(&self, from: Duration, to: Duration, trace: Duration) -> bool {
        self.0
            .iter()
            .any(|(begin, end)| *begin <= to && end.saturating_add(trace) >= from)
    }

    /// The first moment from `at` on in which it was not so.
    pub(super) fn after(&self, at: Duration) -> Duration {
        let next = self
            .0
            .iter()
            .filter(|(from, to)| *from <= at && at < *to)
            .map(|(_, to)| *to)
            .max();
        // one may begin where another ends
        next.map_or(at, |next| self.after(next))
    }
}
