//! Schedule of the faults of one target.

use std::time::Duration;

use dflock_tests::harness::clock::now;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::fault::FaultKind;

/// Ranges of durations, in milliseconds: below any lease, and above most. Each kind alternates
/// between them, so that it is often long enough to end a hold.
const LENGTHS: [std::ops::Range<u64>; 2] = [20..600, 1200..4500];

/// Schedule of faults. All kinds occur, in an order that the seed decides.
pub(crate) struct FaultSchedule {
    rng: StdRng,
    /// The kinds, each with the index of its next range of durations.
    kinds: Vec<(FaultKind, usize)>,
    /// Indices of the kinds that are still to come in this round.
    pending: Vec<usize>,
}

/// A fault that is due next.
pub(crate) struct ScheduledFault {
    /// Time to wait before the fault.
    pub(crate) wait: Duration,
    pub(crate) kind: FaultKind,
    /// Duration, unless the fault is instantaneous.
    pub(crate) length: Duration,
}

impl FaultSchedule {
    /// Creates a schedule of `kinds`, which must not be empty.
    pub(crate) fn new(seed: u64, kinds: impl Iterator<Item = FaultKind>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let kinds = kinds
            .map(|kind| (kind, rng.random_range(0..LENGTHS.len())))
            .collect();
        Self {
            rng,
            kinds,
            pending: Vec::new(),
        }
    }

    /// Returns the next fault, which ends before `end`, or `None` if there is no time left.
    pub(crate) fn next(&mut self, end: Duration) -> Option<ScheduledFault> {
        if self.pending.is_empty() {
            self.pending = (0..self.kinds.len()).collect();
            self.pending.shuffle(&mut self.rng);
        }
        let wait = Duration::from_millis(self.rng.random_range(0..600));
        let left = end
            .saturating_sub(now())
            .checked_sub(wait)
            .filter(|left| !left.is_zero())?;
        let (kind, turn) = &mut self.kinds[self.pending.pop()?];
        let length = Duration::from_millis(self.rng.random_range(LENGTHS[*turn].clone()));
        // A fault that `end` shortens keeps its range.
        if length <= left {
            *turn = (*turn + 1) % LENGTHS.len();
        }
        Some(ScheduledFault {
            wait,
            kind: *kind,
            length: length.min(left),
        })
    }
}
