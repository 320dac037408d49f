//! The time, the same for all processes of this machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long the machine has been up, as the client under test counts it.
#[must_use]
pub fn now() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    // counted from boot: neither part is negative
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// How long ago `moment` was.
#[must_use]
pub fn since(moment: Duration) -> Duration {
    now().saturating_sub(moment)
}
