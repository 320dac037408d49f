//! Parser for durations in text form: `"2s"`, `"500ms"`, `"1h30m"`.

use std::time::Duration;

/// Unit names with their length in milliseconds, from large to small.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses numbers with their units, larger units first. Returns `None` for any other text.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut units, mut millis) = (text, &UNITS[..], 0_u64);
    while !rest.is_empty() {
        let (number, after_number) = split(rest, |c| c.is_ascii_digit());
        let (unit, after_unit) = split(after_number, char::is_alphabetic);
        let index = units.iter().position(|(name, _)| *name == unit)?;
        millis = number
            .parse::<u64>()
            .ok()?
            .checked_mul(units[index].1)?
            .checked_add(millis)?;
        (rest, units) = (after_unit, &units[index + 1..]);
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// Splits `text` before the first character that does not match `part`.
fn split(text: &str, part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !part(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_go_from_large_to_small() {
        for (text, millis) in [
            ("0s", 0),
            ("2s", 2000),
            ("500ms", 500),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_text_is_not_parsed() {
        for text in [
            "",
            "2",
            "s",
            "2 s",
            " 2s",
            "2x",
            "1.5s",
            "-2s",
            "2s2s",
            "2m1h",
            "2sec",
            "٢s",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
