//! Parsers of durations on the command line.

use std::time::Duration;

/// Parses a duration such as `30s`, `1.5m`, `500ms` or `2h`. A number without a unit is in seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str =
        "expected a number with the unit ms, s, m or h, such as 30s; the default unit is s";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(EXPECTED.to_owned()),
    };
    // Rejects signs, exponents, and words such as `inf`, which `f64` would parse.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(EXPECTED.to_owned());
    }
    // Whole milliseconds are exact: a multiplication by 0.001 would round.
    match (digits.parse::<u64>(), digits.parse::<f64>()) {
        (Ok(millis), _) if unit < 1.0 => Ok(Duration::from_millis(millis)),
        (_, Ok(number)) => {
            Duration::try_from_secs_f64(number * unit).map_err(|_| format!("too long; {EXPECTED}"))
        }
        _ => Err(EXPECTED.to_owned()),
    }
}

/// Parses a duration of at least 10 ms.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_millis(10);
    duration(text).and_then(|interval| {
        if interval < MIN {
            Err("too short: must be at least 10ms".to_owned())
        } else {
            Ok(interval)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_unit_is_a_duration() {
        for (text, millis) in [
            ("30s", 30_000),
            ("30", 30_000),
            ("0", 0),
            ("1.5m", 90_000),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("0.25", 250),
            ("1m", 60_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_rejected() {
        for text in [
            "",
            "s",
            "-1",
            "+1",
            "1e3",
            "inf",
            "NaN",
            "1 s",
            "1d",
            "1s2",
            "1.2.3",
            ".",
            "1,5",
            "99999999999999999999999h",
            "½s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_interval_is_at_least_10_ms() {
        assert_eq!(interval("10ms"), Ok(Duration::from_millis(10)));
        for text in ["0", "9ms", "s"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
