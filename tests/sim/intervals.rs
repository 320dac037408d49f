//! Intervals of time in which a condition held.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Intervals(Vec<(Duration, Duration)>);

impl Intervals {
    pub(super) fn open(&mut self, at: Duration) {
        self.0.push((at, Duration::MAX));
    }

    /// Ends one of the open intervals. The union of the intervals does not depend on which one it
    /// is.
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

    /// Returns whether an interval, extended by `after_effect`, overlaps `from..=to`.
    pub(super) fn overlaps(&self, from: Duration, to: Duration, after_effect: Duration) -> bool {
        self.0
            .iter()
            .any(|(begin, end)| *begin <= to && end.saturating_add(after_effect) >= from)
    }

    /// Returns the first time from `at` on that no interval contains.
    pub(super) fn first_after(&self, at: Duration) -> Duration {
        let next = self
            .0
            .iter()
            .filter(|(from, to)| *from <= at && at < *to)
            .map(|(_, to)| *to)
            .max();
        // Another interval may begin before this one ends.
        next.map_or(at, |next| self.first_after(next))
    }
}
