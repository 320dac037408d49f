//! Pauses between attempts of one request.

use std::time::Duration;

use super::splitmix::splitmix64;

/// Bound of the first pause.
const INITIAL_BOUND: Duration = Duration::from_millis(100);

/// Exponential backoff with full jitter.
///
/// The waiters of a server that restarts lose their places at the same moment. Without jitter they
/// would all reconnect at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    max_bound: Duration,
    random: u64,
}

impl Backoff {
    /// Returns a backoff whose first pause is short, and whose pauses are at most `max_bound`.
    /// Different seeds give different pauses.
    pub(crate) fn new(seed: u64, max_bound: Duration) -> Self {
        Self {
            bound: INITIAL_BOUND,
            max_bound,
            random: seed,
        }
    }

    /// Returns the next pause: a random time up to a bound that doubles with each pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(self.max_bound);
        bound.mul_f64(self.random())
    }

    /// Resets the bound to that of the first pause.
    pub(crate) fn reset(&mut self) {
        self.bound = INITIAL_BOUND;
    }

    /// Returns a number from 0 to 1. `SplitMix64` gives independent numbers even for adjacent
    /// seeds.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = splitmix64(self.random);
        f64::from((mixed >> 32) as u32) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_are_spread_below_it() {
        for (attempt, bound) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (9, 1000)] {
            let bound = Duration::from_millis(bound);
            let pauses: Vec<_> = (0..1000)
                .map(|seed| {
                    let mut backoff = Backoff::new(seed, Duration::from_secs(1));
                    (0..attempt).for_each(|_| _ = backoff.pause());
                    backoff.pause()
                })
                .collect();
            assert!(pauses.iter().all(|pause| *pause <= bound), "{attempt}");
            for tenth in 0..10 {
                let (low, high) = (bound * tenth / 10, bound * (tenth + 1) / 10);
                let count = pauses
                    .iter()
                    .filter(|pause| (low..high).contains(*pause))
                    .count();
                assert!(
                    (50..150).contains(&count),
                    "{count} of 1000 from {low:?} to {high:?}"
                );
            }
        }
    }

    #[test]
    fn a_reset_begins_with_a_short_pause() {
        let mut backoff = Backoff::new(7, Duration::from_secs(1));
        (0..9).for_each(|_| _ = backoff.pause());
        backoff.reset();
        assert!(backoff.pause() <= INITIAL_BOUND);
    }
}
