//! Intervals of time, and the times in which many of them overlap.

use std::time::Duration;

/// A closed interval of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Span {
    pub(crate) fn length(self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// Returns the intervals in which more than `limit` of `spans` overlap.
pub(crate) fn crowded(spans: impl Iterator<Item = Span>, limit: u32) -> Vec<Span> {
    // Both ends belong to the interval.
    let steps = steps(spans.map(|Span { from, to }| {
        (
            Span {
                from,
                to: to + Duration::from_nanos(1),
            },
            1,
        )
    }));
    let crowded = steps
        .windows(2)
        .filter(|pair| pair[0].1 > i64::from(limit))
        .map(|pair| Span {
            from: pair[0].0,
            to: pair[1].0,
        });
    joined(crowded)
}

/// Returns the times at which the total weight of the overlapping intervals changes, with the new
/// total.
pub(crate) fn steps(spans: impl Iterator<Item = (Span, i64)>) -> Vec<(Duration, i64)> {
    let mut ends: Vec<_> = spans
        .flat_map(|(Span { from, to }, weight)| [(from, weight), (to, -weight)])
        .collect();
    ends.sort_unstable();
    let mut steps: Vec<(Duration, i64)> = Vec::new();
    let mut sum = 0;
    for (at, weight) in ends {
        sum += weight;
        match steps.last_mut() {
            Some(last) if last.0 == at => last.1 = sum,
            _ => steps.push((at, sum)),
        }
    }
    steps
}

/// Merges intervals that follow each other without a gap.
pub(crate) fn joined(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.to == span.from => last.to = span.to,
            _ => joined.push(span),
        }
    }
    joined
}
