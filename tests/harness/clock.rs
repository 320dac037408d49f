//! Clock that all processes of this machine share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the time since boot, from the same clock as the client under test.
#[must_use]
pub fn now() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    // The time counts from boot, so neither part is negative.
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// Returns the time that has passed since `moment`.
#[must_use]
pub fn elapsed(moment: Duration) -> Duration {
    now().saturating_sub(moment)
}
