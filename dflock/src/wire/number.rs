//! Numbers of the protocol: digits only, in the range that every server supports.

use std::num::NonZeroU64;
use std::time::Duration;

/// The largest number of seconds that servers support.
///
/// A v1.10.0 server overflows above it: a wait of one second more times out immediately (measured).
const MAX_SECONDS: u64 = 9_223_372_036;

/// The highest limit of a semaphore.
const MAX_LIMIT: u32 = 1_048_576;

/// Whole seconds from 0: the time limit of a wait, or the rest of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seconds(u64);

impl Seconds {
    /// The longest wait that every server supports.
    pub(crate) const MAX: Self = Self(MAX_SECONDS);

    /// Rounds `wait` up to whole seconds. Returns `None` if that is more than servers support.
    pub(crate) fn round_up(wait: Duration) -> Option<Self> {
        let seconds = wait
            .as_secs()
            .checked_add(u64::from(wait.subsec_nanos() > 0))?;
        (seconds <= MAX_SECONDS).then_some(Self(seconds))
    }

    /// Returns the value as a duration.
    #[cfg(feature = "server")]
    pub(crate) fn as_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// Returns the number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    pub(super) fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        let seconds = parse_decimal(text.as_ref())?;
        (seconds <= MAX_SECONDS).then_some(Self(seconds))
    }
}

/// A lease in whole seconds, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseSeconds(NonZeroU64);

impl LeaseSeconds {
    /// Creates a lease from whole seconds that are not zero and that every server supports.
    pub(crate) fn new(lease: Duration) -> Option<Self> {
        if lease.subsec_nanos() > 0 {
            return None;
        }
        Self::from_seconds(Seconds::round_up(lease)?)
    }

    /// Creates a lease from `seconds`, unless it is zero.
    pub(crate) fn from_seconds(seconds: Seconds) -> Option<Self> {
        NonZeroU64::new(seconds.0).map(Self)
    }

    /// Returns the value as a duration.
    pub(crate) fn as_duration(self) -> Duration {
        Duration::from_secs(self.0.get())
    }

    /// Returns the number.
    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    pub(super) fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        Self::from_seconds(Seconds::parse(text)?)
    }
}

impl From<LeaseSeconds> for Seconds {
    fn from(lease: LeaseSeconds) -> Self {
        Self(lease.0.get())
    }
}

/// The number of clients that may hold a semaphore at the same time: 1 to 1,048,576.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Limit(u32);

impl Limit {
    /// The limit of a lock.
    pub(crate) const ONE: Self = Self(1);

    /// Creates a limit if it is in range.
    pub(crate) fn new(limit: u32) -> Option<Self> {
        (1..=MAX_LIMIT).contains(&limit).then_some(Self(limit))
    }

    /// Returns the number.
    pub(crate) fn get(self) -> u32 {
        self.0
    }

    pub(super) fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        Self::new(parse_decimal(text.as_ref())?.try_into().ok()?)
    }
}

/// Appends `number` in decimal.
///
/// Formatting costs several times as much, and every request has a number.
pub(super) fn write_decimal(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        write_decimal(out, number / 10);
    }
    out.push(b"0123456789"[(number % 10) as usize]);
}

/// Parses a decimal number up to `u64::MAX`: digits only, without sign, space or exponent.
pub(super) fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            number.checked_mul(10)?.checked_add(digit.into())
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // T17, P33, G20, S10
    #[test]
    fn only_numbers_that_every_server_supports_are_parsed() {
        for bad in [
            "",
            "abc",
            "NaN",
            "30x",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "٣",
            "9223372037",
            "1000000000000000000000000000000",
        ] {
            assert_eq!(Seconds::parse(bad), None, "{bad:?}");
            assert_eq!(LeaseSeconds::parse(bad), None, "{bad:?}");
            assert_eq!(Limit::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Seconds::parse("0").map(Seconds::get), Some(0));
        assert_eq!(Seconds::parse("9223372036"), Some(Seconds::MAX));
        assert_eq!(LeaseSeconds::parse("0"), None);
        assert_eq!(LeaseSeconds::parse("1").map(LeaseSeconds::get), Some(1));
        assert_eq!(Limit::parse("0"), None);
        assert_eq!(Limit::parse("1048576").map(Limit::get), Some(1_048_576));
        assert_eq!(Limit::parse("1048577"), None);
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 99, 100, 1_048_576, 9_223_372_036, u64::MAX] {
            let mut out = b"x".to_vec();
            write_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{number}"));
        }
    }

    // T47, G13
    #[test]
    fn waits_round_up_and_leases_are_whole() {
        assert_eq!(Seconds::round_up(Duration::ZERO).map(Seconds::get), Some(0));
        assert_eq!(
            Seconds::round_up(Duration::from_millis(1)).map(Seconds::get),
            Some(1)
        );
        assert_eq!(
            Seconds::round_up(Duration::from_millis(1001)).map(Seconds::get),
            Some(2)
        );
        assert_eq!(
            Seconds::round_up(Duration::from_millis(9_223_372_036_001)),
            None
        );
        assert_eq!(Seconds::round_up(Duration::MAX), None);
        assert_eq!(LeaseSeconds::new(Duration::from_millis(1500)), None);
        assert_eq!(LeaseSeconds::new(Duration::from_millis(500)), None);
        assert_eq!(LeaseSeconds::new(Duration::ZERO), None);
        assert_eq!(
            LeaseSeconds::new(Duration::from_secs(20)).map(LeaseSeconds::get),
            Some(20)
        );
    }
}
