//! The clock of the leases.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The clock of a [`Connector`](crate::Connector), which measures the leases.
#[derive(Clone)]
#[non_exhaustive]
pub enum Clock {
    /// The system clock that includes the time for which the machine is suspended.
    ///
    /// It is for real networks, because a server keeps running while the machine of the client is
    /// suspended.
    ///
    /// It is `CLOCK_BOOTTIME` on Linux and Android, and `CLOCK_MONOTONIC` on Apple systems.
    /// Elsewhere it is [`std::time::Instant`], which may stop during suspension.
    Boottime,
    /// Tokio's clock, which tests can pause. For transports within one process.
    Tokio,
    /// A custom clock for simulations. The function returns the time since a fixed moment, and must
    /// never go backwards. It may run faster or slower than the timers.
    Custom(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Boottime => Instant::from_duration(boottime()),
            Self::Tokio => {
                Instant::from_duration(since_first_use(tokio::time::Instant::now().into_std()))
            }
            Self::Custom(since) => Instant::from_duration(since()),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boottime => "Boottime",
            Self::Tokio => "Tokio",
            Self::Custom(_) => "Custom(..)",
        })
    }
}

/// A moment on a [`Clock`], in nanoseconds. The range is 584 years. Moments of different clocks
/// must not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    fn from_duration(since_start: Duration) -> Self {
        Self(since_start.as_nanos().try_into().unwrap_or(u64::MAX))
    }

    /// A moment that is never reached.
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// Returns the moment `duration` later, or [`MAX`](Self::MAX) if that is out of range.
    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        let nanos = duration.as_nanos().try_into().unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the nanoseconds since the start of the clock.
    pub(crate) fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the moment so many nanoseconds after the start of the clock.
    #[cfg(feature = "etcd")]
    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the time since `earlier`; zero if this is not later.
    pub(crate) fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `seconds` later, which must not be negative.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates: too large becomes MAX, and negative becomes zero"
    )]
    pub(crate) fn saturating_add_secs_f64(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1e9 + 0.5) as u64))
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn boottime() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(not(target_vendor = "apple"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(target_vendor = "apple")]
    const CLOCK: ClockId = ClockId::Monotonic;

    let now = clock_gettime(CLOCK);
    // The kernel counts from boot, so neither part is negative.
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn boottime() -> Duration {
    since_first_use(std::time::Instant::now())
}

/// Returns the time since the first use, plus a century.
///
/// A `std` instant has no numeric value. The century keeps moments before the first use apart:
/// paused clocks differ by the time for which each has slept.
fn since_first_use(now: std::time::Instant) -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    const CENTURY: Duration = Duration::from_hours(24 * 365 * 100);
    let first = *FIRST.get_or_init(|| now);
    match now.checked_duration_since(first) {
        Some(after) => CENTURY + after,
        None => CENTURY.saturating_sub(first - now),
    }
}
