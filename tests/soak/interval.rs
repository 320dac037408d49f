//! Intervals of time, and the times in which many of them overlap.

use std::time::Duration;

/// A closed interval of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Interval {
    pub(crate) fn length(self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// Returns the intervals in which more than `limit` of `intervals` overlap.
pub(crate) fn excess(intervals: impl Iterator<Item = Interval>, limit: u32) -> Vec<Interval> {
    // Both ends belong to the interval.
    let weights = weights(intervals.map(|Interval { from, to }| {
        (
            Interval {
                from,
                to: to + Duration::from_nanos(1),
            },
            1,
        )
    }));
    let excess = weights
        .windows(2)
        .filter(|pair| pair[0].1 > i64::from(limit))
        .map(|pair| Interval {
            from: pair[0].0,
            to: pair[1].0,
        });
    merge(excess)
}

/// Returns the times at which the total weight of the overlapping intervals changes, with the new
/// total.
pub(crate) fn weights(intervals: impl Iterator<Item = (Interval, i64)>) -> Vec<(Duration, i64)> {
    let mut ends: Vec<_> = intervals
        .flat_map(|(Interval { from, to }, weight)| [(from, weight), (to, -weight)])
        .collect();
    ends.sort_unstable();
    let mut weights: Vec<(Duration, i64)> = Vec::new();
    let mut sum = 0;
    for (at, weight) in ends {
        sum += weight;
        match weights.last_mut() {
            Some(last) if last.0 == at => last.1 = sum,
            _ => weights.push((at, sum)),
        }
    }
    weights
}

/// Merges intervals that follow each other without a gap.
pub(crate) fn merge(intervals: impl Iterator<Item = Interval>) -> Vec<Interval> {
    let mut merge: Vec<Interval> = Vec::new();
    for interval in intervals {
        match merge.last_mut() {
            Some(last) if last.to == interval.from => last.to = interval.to,
            _ => merge.push(interval),
        }
    }
    merge
}
