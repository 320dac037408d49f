//! Client clock that runs at another rate than the server's.

use std::sync::Arc;
use std::time::Duration;

use dflock::Clock;
use tokio::time::Instant;

/// Returns a clock that advances by `per_million` microseconds in each second since `start`.
pub(super) fn skewed(start: Instant, per_million: u32) -> Clock {
    Clock::Custom(Arc::new(move || {
        let nanos = start.elapsed().as_nanos() * u128::from(per_million) / 1_000_000;
        Duration::from_nanos(u64::try_from(nanos).expect("a simulation takes less than 500 years"))
    }))
}
