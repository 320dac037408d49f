//! The table of `dflock stats`.

use anstyle::{AnsiColor, Style};
use dflock::Stats;
use unicode_width::UnicodeWidthStr;

use crate::escape::escape;
use crate::message::message;
use crate::stats::Report;

/// Maximum width of the bar of holders, in characters.
const BAR_WIDTH: u64 = 16;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();

fn paint(style: Style, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{style}{text}{style:#}")
    }
}

/// Returns the table, with colors: a paragraph for each server with a line for each key.
pub(crate) fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    for (n, Report { server, stats }) in reports.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        text.push_str(&paint(BOLD, server));
        match stats {
            Ok(stats) => {
                let connections = if stats.connections == 1 {
                    "connection"
                } else {
                    "connections"
                };
                // A cluster does not report the connections of its members.
                if stats.connections > 0 {
                    let count = format!("  {} {connections}", stats.connections);
                    text.push_str(&paint(DIM, &count));
                }
                text.push('\n');
                write_keys(&mut text, stats);
            }
            Err(error) => {
                text.push_str(&paint(RED, &format!("  {}\n", escape(&message(error)))));
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

fn write_keys(text: &mut String, stats: &Stats) {
    let rows = rows(stats);
    if rows.is_empty() {
        text.push_str(&paint(DIM, "  no keys\n"));
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
    text.push_str(&paint(DIM, &head));
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
        let waiters = paint(
            if waiters > 0 { YELLOW } else { DIM },
            &format!("{waiters:>7}"),
        );
        let bar = format!("{}{}{gap}", paint(GREEN, &full), paint(DIM, &free));
        // `format!` pads by characters, but a terminal has columns.
        let pad = " ".repeat(width - key.width());
        let line = format!(
            "  {key}{pad}  {kind:9}  {count:>7}  {bar}  {waiters}  {}",
            paint(DIM, &time)
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
        // A cluster does not report the leases of locks.
        time: if l.owner_conn_id == 0 || l.lease_expires_in_s == 0.0 {
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
    use anstream::adapter::strip_str;

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
        let colored = table(&reports);
        assert_eq!(strip_str(&colored).to_string(), expected);
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
        let plain = strip_str(&table(&reports)).to_string();
        assert!(plain.contains(r"\u{1b}[2Jx"), "{plain}");
    }
}
