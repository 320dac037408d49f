//! Durations on the command line: those of the library, within limits.

use std::time::Duration;

use dflock::parse_duration_or_seconds;

/// Parses a duration. A number without a unit is in seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    // The error of the library quotes the text, which may be a password in the wrong place.
    parse_duration_or_seconds(text).map_err(|_| {
        "write numbers with the units d, h, m, s and ms, the larger units first, such as 1h30m, \
         30s, 500ms or 0.5s; a number without a unit is in seconds"
    })
}

/// Parses a duration of at least 10 ms.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, &'static str> {
    const MIN: Duration = Duration::from_millis(10);
    let interval = parse_duration(text)?;
    if interval < MIN {
        Err("too short: must be at least 10ms")
    } else {
        Ok(interval)
    }
}

/// Parses a duration that is more than 0 and at most a year.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, &'static str> {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let timeout = parse_duration(text)?;
    if timeout.is_zero() || timeout > YEAR {
        Err("must be more than 0 and at most a year")
    } else {
        Ok(timeout)
    }
}

#[cfg(test)]
#[path = "../../dflock-duration/tests/cases/mod.rs"]
mod cases;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::RunOptions;

    #[derive(clap::Parser)]
    struct Run {
        #[command(flatten)]
        options: RunOptions,
    }

    /// Parses `--timeout TEXT`, as the program does.
    fn timeout(text: &str) -> Result<Option<Duration>, clap::Error> {
        let option = format!("--timeout={text}");
        let run = Run::try_parse_from(["run", "--key", "k", &option, "true"]);
        run.map(|run| run.options.timeout)
    }

    #[test]
    fn an_option_has_the_grammar_of_all_durations() {
        for (text, duration) in cases::DURATIONS.into_iter().chain(cases::SECONDS) {
            assert_eq!(timeout(text).unwrap(), Some(duration), "{text:?}");
        }
        for text in cases::REFUSED {
            assert!(timeout(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_interval_is_at_least_10_ms() {
        assert_eq!(parse_interval("10ms"), Ok(Duration::from_millis(10)));
        for text in ["0", "9ms", "s"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_timeout_is_more_than_0_and_at_most_a_year() {
        assert_eq!(parse_timeout("365d"), Ok(Duration::from_hours(365 * 24)));
        for text in ["0", "366d", "s"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
