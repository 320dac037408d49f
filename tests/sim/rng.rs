//! Source of all random numbers: `SplitMix64`, which yields the same numbers for the same seed on
//! every platform.

use std::ops::RangeInclusive;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// Creates an independent generator for `purpose`, so that the numbers drawn by one part of a
    /// simulation do not change another part.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = Self(
            seed.wrapping_mul(0xd134_2543_de82_ef95) ^ purpose.wrapping_mul(0xaf25_1af3_b0f0_25b5),
        );
        rng.next_u64();
        rng
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        let span = range.end() - range.start() + 1;
        range.start() + self.next_u64() % span
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next_u64() % len as u64).expect("less than a `usize`")
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.next_u64() % 100 < chance
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    pub(super) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.range(range))
    }

    /// Returns a random duration in which each power of two has the same chance, so that short
    /// times are as likely as long ones.
    pub(super) fn log_uniform(&mut self, range: RangeInclusive<u64>) -> Duration {
        let (low, high) = (range.start().max(&1).ilog2(), range.end().max(&1).ilog2());
        let power = self.range(u64::from(low)..=u64::from(high));
        let millis = self.range((1 << power)..=(2 << power));
        Duration::from_millis(millis.clamp(*range.start(), *range.end()))
    }
}
