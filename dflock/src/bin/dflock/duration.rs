//! Times as people write them.

use std::time::Duration;

/// Parses `30s`, `1.5m`, `500ms`, `2h`, or `30`, which is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str =
        "a time is a number and one of ms, s, m, h, such as 30s; without a unit it is seconds";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(ALLOWED.to_owned()),
    };
    // neither signs nor exponents, nor words such as `inf`
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(ALLOWED.to_owned());
    }
    // whole numbers are kept exact
    match (digits.parse::<u64>(), digits.parse::<f64>()) {
        (Ok(millis), _) if unit < 1.0 => Ok(Duration::from_millis(millis)),
        (_, Ok(number)) => Duration::try_from_secs_f64(number * unit)
            .map_err(|_| format!("it is too long; {ALLOWED}")),
        _ => Err(ALLOWED.to_owned()),
    }
}

/// The same for what is done again and again.
pub(crate) fn pause(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(10);
    duration(text).and_then(|pause| {
        if pause < LEAST {
            Err("it is too short: at least 10ms".to_owned())
        } else {
            Ok(pause)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_time() {
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
    fn anything_else_is_refused() {
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
    fn nothing_is_done_without_a_pause() {
        assert_eq!(pause("10ms"), Ok(Duration::from_millis(10)));
        for text in ["0", "9ms", "s"] {
            assert!(pause(text).is_err(), "{text}");
        }
    }
}
