//! Texts that the environment, the attribute macros and the command line parse alike. The tests of
//! each include this file.

use std::time::Duration;

/// Durations.
pub(crate) const DURATIONS: [(&str, Duration); 20] = [
    ("0s", Duration::ZERO),
    ("2s", Duration::from_secs(2)),
    ("500ms", Duration::from_millis(500)),
    ("1500ms", Duration::from_millis(1_500)),
    ("1m", Duration::from_mins(1)),
    ("90m", Duration::from_mins(90)),
    ("1h30m", Duration::from_mins(90)),
    ("1h0m30s", Duration::from_secs(3_630)),
    ("1d2h3m4s5ms", Duration::from_millis(93_784_005)),
    ("007s", Duration::from_secs(7)),
    ("0.5s", Duration::from_millis(500)),
    ("0.1s", Duration::from_millis(100)),
    ("1.5m", Duration::from_secs(90)),
    ("0.25h", Duration::from_mins(15)),
    ("1m0.5s", Duration::from_millis(60_500)),
    ("0.001ms", Duration::from_micros(1)),
    ("1.000000001s", Duration::from_nanos(1_000_000_001)),
    // Rounded to nanoseconds.
    ("4.0999999999999996s", Duration::from_millis(4_100)),
    ("0.00000000049s", Duration::ZERO),
    ("9223372036s", Duration::from_secs(9_223_372_036)),
];

/// Numbers without a unit, which are seconds where the entry point allows them.
pub(crate) const SECONDS: [(&str, Duration); 5] = [
    ("0", Duration::ZERO),
    ("5", Duration::from_secs(5)),
    ("0.5", Duration::from_millis(500)),
    ("0.25", Duration::from_millis(250)),
    ("1.000000001", Duration::from_nanos(1_000_000_001)),
];

/// Texts that are refused everywhere.
pub(crate) const REFUSED: [&str; 34] = [
    "",
    "s",
    "ms",
    ".",
    "soon",
    "-2s",
    "+2s",
    "-1",
    "+1",
    "2 s",
    " 2s",
    "2s ",
    "1h 30m",
    "2x",
    "2sec",
    "2S",
    "2us",
    ".5s",
    "5.s",
    "5.",
    ".5",
    "1.2.3",
    "1,5",
    "1e3",
    "inf",
    "NaN",
    "2s2s",
    "2m1h",
    "5ms1s",
    "1s2",
    "1.5h30m",
    "٢s",
    "½s",
    "99999999999999999999999h",
];
