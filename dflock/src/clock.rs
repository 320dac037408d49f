//! The time that leases are counted in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a [`Connector`](crate::Connector) takes the time from. Deadlines of leases are counted on it.
#[derive(Clone)]
#[non_exhaustive]
pub enum Clock {
    /// The system's clock that goes on while the machine is suspended: `CLOCK_BOOTTIME` on Linux and Android, `CLOCK_MONOTONIC` on
    /// Apple's systems. Elsewhere it is [`std::time::Instant`], which may stand still meanwhile. For real networks: a server does not
    /// sleep when its client does.
    Boottime,
    /// Tokio's clock, which tests can pause. For transports inside one process.
    Tokio,
    /// A clock of the connector's own, which says how much time has passed since some moment and never goes back. For
    /// simulations: it may go faster or slower than the timers do.
    Custom(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Boottime => Instant::after(boottime()),
            Self::Tokio => Instant::after(since_first_use(tokio::time::Instant::now().into_std())),
            Self::Custom(since) => Instant::after(since()),
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

/// A point on a [`Clock`], in nanoseconds, of which there are 584 years; points of different clocks have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    fn after(beginning: Duration) -> Self {
        Self(beginning.as_nanos().try_into().unwrap_or(u64::MAX))
    }

    /// A time that is never reached.
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// Returns the time so much later than this one, or [`MAX`](Self::MAX) if that is too far.
    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        let nanos = duration.as_nanos().try_into().unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds since the clock's beginning.
    pub(crate) fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point so many `seconds` later than this one; they are not negative.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is too much becomes the most, and less than zero zero"
    )]
    pub(crate) fn plus(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1e9 + 0.5) as u64))
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn boottime() -> Duration {
    #[cfg(not(target_vendor = "apple"))]
    use ClockId::Boottime as GoesOn;
    #[cfg(target_vendor = "apple")]
    use ClockId::Monotonic as GoesOn;
    use rustix::time::{ClockId, clock_gettime};

    let now = clock_gettime(GoesOn);
    // the kernel counts from boot: neither part is negative
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn boottime() -> Duration {
    since_first_use(std::time::Instant::now())
}

/// A `std` instant has no number of its own; counted from the first use, less a century so that no earlier one is cut off: paused
/// clocks differ by as much as was slept on them.
fn since_first_use(now: std::time::Instant) -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    const CENTURY: Duration = Duration::from_hours(24 * 365 * 100);
    let first = *FIRST.get_or_init(|| now);
    match now.checked_duration_since(first) {
        Some(after) => CENTURY + after,
        None => CENTURY.saturating_sub(first - now),
    }
}
