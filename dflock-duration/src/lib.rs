//! The grammar of durations in [dflock](https://docs.rs/dflock), such as `1h30m`.
//!
//! Use it through that crate, which exports both functions. This crate is separate because a
//! procedural macro can neither depend on `dflock` nor export functions to it. The attribute macros
//! and the SDK thus parse the same texts.

use std::error::Error;
use std::fmt;
use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The units, from large to small, each with its length in nanoseconds.
const UNITS: [(&str, u128); 5] = [
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", NANOS_PER_SECOND / 1_000),
];

/// Parses a duration such as `1h30m`, `2s`, `500ms` or `0.5s`.
///
/// A duration is one or more decimal numbers, each with the unit `d`, `h`, `m`, `s` or `ms`. The
/// larger units come first, and each occurs once. The last number may have a fraction, which is
/// rounded to nanoseconds. Signs, spaces, and numbers without a unit are refused.
///
/// # Errors
///
/// [`ParseDurationError`] if `text` is not a duration, or one longer than [`Duration::MAX`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// # use dflock_duration as dflock;
///
/// assert_eq!(dflock::parse_duration("1h30m")?, Duration::from_secs(5_400));
/// assert_eq!(dflock::parse_duration("0.5s")?, Duration::from_millis(500));
/// assert!(dflock::parse_duration("2").is_err());
/// # Ok::<(), dflock::ParseDurationError>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    parse(text).map_err(|kind| ParseDurationError {
        text: text.to_owned(),
        kind,
        allows_seconds: false,
    })
}

/// Parses a duration like [`parse_duration`], or a number of seconds without a unit.
///
/// The environment variables of dflock are parsed by this function.
///
/// # Errors
///
/// [`ParseDurationError`] if `text` is neither, or longer than [`Duration::MAX`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// # use dflock_duration as dflock;
///
/// assert_eq!(dflock::parse_duration_or_seconds("5")?, Duration::from_secs(5));
/// assert_eq!(dflock::parse_duration_or_seconds("0.5")?, Duration::from_millis(500));
/// assert_eq!(dflock::parse_duration_or_seconds("500ms")?, Duration::from_millis(500));
/// # Ok::<(), dflock::ParseDurationError>(())
/// ```
pub fn parse_duration_or_seconds(text: &str) -> Result<Duration, ParseDurationError> {
    let has_unit = text.ends_with(char::is_alphabetic);
    let parsed = if has_unit {
        parse(text)
    } else {
        scale(text, NANOS_PER_SECOND).and_then(from_nanos)
    };
    parsed.map_err(|kind| ParseDurationError {
        text: text.to_owned(),
        kind,
        allows_seconds: true,
    })
}

/// The error for a text that is not a duration. Its message quotes the text and says what is
/// allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseDurationError {
    text: String,
    kind: ErrorKind,
    /// Set if a number without a unit is allowed.
    allows_seconds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorKind {
    Malformed,
    TooLong,
}

impl fmt::Display for ParseDurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::Malformed => {
                write!(
                    f,
                    "{:?} is not a duration; write numbers with the units d, h, m, s and ms, the \
                     larger units first, such as `1h30m`, `2s`, `500ms` or `0.5s`",
                    self.text
                )?;
                if self.allows_seconds {
                    f.write_str("; a number without a unit is in seconds")?;
                }
                Ok(())
            }
            ErrorKind::TooLong => {
                let longest = Duration::MAX.as_secs();
                write!(
                    f,
                    "{:?} is too long; the longest duration is {longest}s",
                    self.text
                )
            }
        }
    }
}

impl Error for ParseDurationError {}

fn parse(text: &str) -> Result<Duration, ErrorKind> {
    let (mut rest, mut units, mut nanos) = (text, &UNITS[..], 0);
    loop {
        let (number, after_number) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after_unit) = split(after_number, char::is_alphabetic);
        let index = units.iter().position(|(name, _)| *name == unit);
        let index = index.ok_or(ErrorKind::Malformed)?;
        nanos += scale(number, units[index].1)?;
        (rest, units) = (after_unit, &units[index + 1..]);
        if rest.is_empty() {
            return from_nanos(nanos);
        }
        if number.contains('.') {
            return Err(ErrorKind::Malformed);
        }
    }
}

/// Parses a decimal number, and returns its product with `unit` as nanoseconds.
///
/// Integers only: a product of floats would round `0.1s` to less than 100 ms.
fn scale(number: &str, unit: u128) -> Result<u128, ErrorKind> {
    /// Digits of a fraction beyond these change less than a nanosecond.
    const MAX_DIGITS: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(ErrorKind::Malformed);
    }
    // The product of any two `u64` fits into a `u128`.
    let whole: u64 = whole.parse().map_err(|_| ErrorKind::TooLong)?;
    let (mut numerator, mut denominator) = (0_u128, 1_u128);
    for digit in fraction.bytes().take(MAX_DIGITS) {
        numerator = 10 * numerator + u128::from(digit - b'0');
        denominator *= 10;
    }
    Ok(u128::from(whole) * unit + (numerator * unit + denominator / 2) / denominator)
}

fn from_nanos(nanos: u128) -> Result<Duration, ErrorKind> {
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).map_err(|_| ErrorKind::TooLong)?;
    // A remainder of 1,000,000,000 is less than 2^32.
    let subsec_nanos = (nanos % NANOS_PER_SECOND) as u32;
    Ok(Duration::new(seconds, subsec_nanos))
}

/// Splits `text` before the first character that does not match `part`.
fn split(text: &str, part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !part(c)).unwrap_or(text.len()))
}

#[cfg(test)]
#[path = "../tests/cases/mod.rs"]
mod cases;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_parsed_or_refused() {
        for (text, duration) in cases::DURATIONS {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
            assert_eq!(parse_duration_or_seconds(text), Ok(duration), "{text}");
        }
        for (text, duration) in cases::SECONDS {
            assert!(parse_duration(text).is_err(), "{text}");
            assert_eq!(parse_duration_or_seconds(text), Ok(duration), "{text}");
        }
        for text in cases::REFUSED {
            assert!(parse_duration(text).is_err(), "{text}");
            assert!(parse_duration_or_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_duration_is_that_of_the_standard_library() {
        let longest = format!("{}s999.999999ms", u64::MAX);
        assert_eq!(parse_duration(&longest), Ok(Duration::MAX));
        for text in [format!("{}s1000ms", u64::MAX), format!("{}0s", u64::MAX)] {
            let error = parse_duration(&text).unwrap_err().to_string();
            assert!(
                error.contains("is too long; the longest duration is"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_error_quotes_the_text_and_says_what_is_allowed() {
        assert_eq!(
            parse_duration("2\n").unwrap_err().to_string(),
            "\"2\\n\" is not a duration; write numbers with the units d, h, m, s and ms, the \
             larger units first, such as `1h30m`, `2s`, `500ms` or `0.5s`"
        );
        let error = parse_duration_or_seconds("soon").unwrap_err().to_string();
        assert!(
            error.starts_with("\"soon\" is not a duration; write"),
            "{error}"
        );
        assert!(
            error.ends_with("; a number without a unit is in seconds"),
            "{error}"
        );
    }
}
