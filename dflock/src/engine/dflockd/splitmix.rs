//! The mixing function of `SplitMix64`.

/// Returns a number whose high bits are spread evenly, also for seeds that are close to each other.
pub(super) fn splitmix64(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}
