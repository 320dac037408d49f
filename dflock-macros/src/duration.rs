//! Durations that are written as text: `"2s"`, `"500ms"`, `"1h30m"`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads numbers with their units, the larger unit first; `None` when it cannot be read.
pub(crate) fn read(text: &str) -> Option<Duration> {
    let (mut rest, mut units, mut millis) = (text, &UNITS[..], 0_u64);
    while !rest.is_empty() {
        let (number, behind) = split(rest, |c| c.is_ascii_digit());
        let (unit, behind) = split(behind, char::is_alphabetic);
        let at = units.iter().position(|(name, _)| *name == unit)?;
        millis = number
            .parse::<u64>()
            .ok()?
            .checked_mul(units[at].1)?
            .checked_add(millis)?;
        (rest, units) = (behind, &units[at + 1..]);
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// What `text` begins with, and the rest.
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
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_not_read() {
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
            assert_eq!(read(text), None, "{text}");
        }
    }
}
