//! The table of `dflock stats`.

use std::io::{self, IsTerminal};

use dflock::Stats;
use unicode_width::UnicodeWidthStr;

use crate::error::message;
use crate::escape::escape;
use crate::stats::Report;

/// Maximum width of the bar of holders, in characters.
const BAR_WIDTH: u64 = 16;

/// Color mode of the table.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Style {
    Plain,
    Colored,
}

impl Style {
    /// Returns `Colored` if standard output is a terminal that supports colors, unless `NO_COLOR`
    /// is set.
    pub(crate) fn for_stdout() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !no_color && !dumb {
            Self::Colored
        } else {
            Self::Plain
        }
    }

    fn paint(self, code: u8, text: &str) -> String {
        if self == Self::Plain || text.is_empty() {
            text.to_owned()
        } else {
            format!("\x1b[{code}m{text}\x1b[0m")
        }
    }
}

const BOLD: u8 = 1;
const DIM: u8 = 2;
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

/// Returns the table: a paragraph for each server with a line for each key.
pub(crate) fn table(reports: &[Report], style: Style) -> String {
    let mut text = String::new();
    for (n, Report { server, stats }) in reports.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        text.push_str(&style.paint(BOLD, server));
        match stats {
            Ok(stats) => {
                let connections = if stats.connections == 1 {
                    "connection"
                } else {
                    "connections"
                };
                text.push_str(
                    &style.paint(DIM, &format!("  {} {connections}\n", stats.connections)),
                );
                write_keys(&mut text, stats, style);
            }
            Err(error) => {
                text.push_str(&style.paint(RED, &format!("  {}\n", escape(&message(error)))));
            }
        }
    }
    text
}

/// The table row of one key.
struct Row {
    key: String,
    kind: &'static str,
    /// Number of holders and limit; `None` for an idle key.
    held: Option<(u64, u32)>,
    waiters: u64,
    /// Remaining lease, or idle time.
    time: String,
}

fn write_keys(text: &mut String, stats: &Stats, style: Style) {
    let rows = rows(stats);
    if rows.is_empty() {
        text.push_str(&style.paint(DIM, "  no keys\n"));
        return;
    }
    let width = rows
        .iter()
        .map(|row| row.key.width())
        .max()
        .unwrap_or(0)
        .max(3);
    let bars = rows
        .iter()
        .filter_map(|row| row.held)
        .map(|(_, limit)| BAR_WIDTH.min(limit.into()))
        .max()
        .unwrap_or(0);
    // The conversion cannot fail: `bars` is at most `BAR_WIDTH`.
    let bars = usize::try_from(bars).unwrap_or(0).max(4);
    let head = format!(
        "  {:width$}  {:9}  {:>7}  {:bars$}  {:>7}  TIME\n",
        "KEY", "KIND", "HOLDERS", "HELD", "WAITERS"
    );
    text.push_str(&style.paint(DIM, &head));
    for Row {
        key,
        kind,
        held,
        waiters,
        time,
    } in rows
    {
        let count = held.map_or_else(String::new, |(holders, limit)| format!("{holders}/{limit}"));
        let (full, free) = held.map_or_else(Default::default, |(holders, limit)| {
            bar(holders, limit.into())
        });
        let gap = " ".repeat(bars.saturating_sub(full.chars().count() + free.chars().count()));
        let waiters = style.paint(
            if waiters > 0 { YELLOW } else { DIM },
            &format!("{waiters:>7}"),
        );
        let bar = format!(
            "{}{}{gap}",
            style.paint(GREEN, &full),
            style.paint(DIM, &free)
        );
        // `format!` pads by characters, but a terminal has columns.
        let pad = " ".repeat(width - key.width());
        let line = format!(
            "  {key}{pad}  {kind:9}  {count:>7}  {bar}  {waiters}  {}",
            style.paint(DIM, &time)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn rows(stats: &Stats) -> Vec<Row> {
    let semaphores = stats.semaphores.iter().map(|s| Row {
        key: escape_key(&s.key),
        kind: "semaphore",
        held: Some((s.holders, s.limit)),
        waiters: s.waiters,
        // Servers do not report the leases of semaphores.
        time: String::new(),
    });
    let locks = stats.locks.iter().map(|l| Row {
        key: escape_key(&l.key),
        kind: "lock",
        held: Some((u64::from(l.owner_conn_id != 0), 1)),
        waiters: l.waiters,
        time: if l.owner_conn_id == 0 {
            String::new()
        } else {
            format!("lease left {:.0} s", l.lease_expires_in_s)
        },
    });
    let idle = |kind| {
        move |i: &dflock::IdleStats| Row {
            key: escape_key(&i.key),
            kind,
            held: None,
            waiters: 0,
            time: format!("idle {:.0} s", i.idle_s),
        }
    };
    let mut rows: Vec<_> = semaphores.chain(locks).collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows.extend(
        stats
            .idle_semaphores
            .iter()
            .map(idle("semaphore"))
            .chain(stats.idle_locks.iter().map(idle("lock"))),
    );
    rows
}

/// Returns the filled and the empty part of the bar. One character is one slot, unless the limit is
/// above [`BAR_WIDTH`].
fn bar(holders: u64, limit: u64) -> (String, String) {
    let width = limit.min(BAR_WIDTH);
    // Rounded up, so that a single holder is visible.
    let full = if limit <= BAR_WIDTH {
        holders
    } else {
        holders.saturating_mul(BAR_WIDTH).div_ceil(limit)
    }
    .min(width);
    let repeat = |character: &str, count| character.repeat(usize::try_from(count).unwrap_or(0));
    (repeat("■", full), repeat("□", width - full))
}

/// Returns `key` with hidden characters escaped. A backslash in the key is doubled, so that it
/// differs from the backslash of an escape.
fn escape_key(key: &str) -> String {
    escape(&key.replace('\\', r"\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(json: &str) -> Report {
        Report {
            server: "lock-1:6388".to_owned(),
            stats: Ok(serde_json::from_str(json).unwrap()),
        }
    }

    #[test]
    fn each_key_has_a_line() {
        let reports = [report(
            r#"{"connections": 4,
                "locks": [
                    {"key": "nightly", "owner_conn_id": 7, "lease_expires_in_s": 12.3, "waiters": 0}
                ],
                "semaphores": [
                    {"key": "pool", "limit": 5, "holders": 3, "waiters": 2},
                    {"key": "big", "limit": 1000, "holders": 1, "waiters": 0}
                ],
                "idle_locks": [], "idle_semaphores": [{"key": "old", "idle_s": 9.0}]}"#,
        )];
        let expected = "\
lock-1:6388  4 connections
  KEY      KIND       HOLDERS  HELD              WAITERS  TIME
  big      semaphore   1/1000  ■□□□□□□□□□□□□□□□        0
  nightly  lock           1/1  ■                       0  lease left 12 s
  pool     semaphore      3/5  ■■■□□                   2
  old      semaphore                                   0  idle 9 s
";
        assert_eq!(table(&reports, Style::Plain), expected);
        let colored = table(&reports, Style::Colored);
        assert!(
            colored.contains("\x1b[32m■■■\x1b[0m\x1b[2m□□\x1b[0m"),
            "{colored}"
        );
    }

    #[test]
    fn a_bar_is_never_wider_than_its_limit() {
        for (holders, limit, full) in [
            (0, 1000, 0),
            (1, 1000, 1),
            (1000, 1000, 16),
            (u64::MAX, 1000, 16),
            (u64::MAX, 3, 3),
            (1, 0, 0),
        ] {
            assert_eq!(
                bar(holders, limit).0.chars().count(),
                full,
                "{holders} of {limit}"
            );
        }
    }

    #[test]
    fn control_characters_of_a_key_are_escaped() {
        let reports = [report(
            r#"{"connections": 0, "semaphores": [
                {"key": "\u001b[2Jx", "limit": 1, "holders": 1, "waiters": 0}
            ]}"#,
        )];
        assert!(!table(&reports, Style::Plain).contains('\x1b'));
    }
}
