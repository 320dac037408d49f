//! The picture of who holds what.

use std::io::{self, IsTerminal};

use dflock::Stats;
use unicode_width::UnicodeWidthStr;

use crate::escape::escape;
use crate::stats::Report;
use crate::status::said;

/// The widest that a bar of holders gets, in slots.
const BAR: u64 = 16;

/// Whether there are colours.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Look {
    Plain,
    Coloured,
}

impl Look {
    /// Colours are for terminals, and for those who have not said no.
    pub(crate) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !unwanted && !dumb {
            Self::Coloured
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

/// A paragraph for each server, a line for each key.
pub(crate) fn table(reports: &[Report], look: Look) -> String {
    let mut text = String::new();
    for (n, Report { server, stats }) in reports.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        text.push_str(&look.paint(BOLD, server));
        match stats {
            Ok(stats) => {
                let connections = if stats.connections == 1 {
                    "connection"
                } else {
                    "connections"
                };
                text.push_str(
                    &look.paint(DIM, &format!("  {} {connections}\n", stats.connections)),
                );
                keys(&mut text, stats, look);
            }
            Err(error) => text.push_str(&look.paint(RED, &format!("  {}\n", escape(&said(error))))),
        }
    }
    text
}

/// One key, as it is shown.
struct Row {
    key: String,
    kind: &'static str,
    held: Option<(u64, u32)>,
    waiters: u64,
    /// What is left of the lease, or for how long it has been idle.
    time: String,
}

fn keys(text: &mut String, stats: &Stats, look: Look) {
    let rows = rows(stats);
    if rows.is_empty() {
        text.push_str(&look.paint(DIM, "  no keys\n"));
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
        .map(|(_, limit)| BAR.min(limit.into()))
        .max()
        .unwrap_or(0);
    // no more than `BAR`
    let bars = usize::try_from(bars).unwrap_or(0).max(4);
    let head = format!(
        "  {:width$}  {:9}  {:>7}  {:bars$}  {:>7}  TIME\n",
        "KEY", "KIND", "HOLDERS", "HELD", "WAITERS"
    );
    text.push_str(&look.paint(DIM, &head));
    for Row {
        key,
        kind,
        held,
        waiters,
        time,
    } in rows
    {
        let of = held.map_or_else(String::new, |(holders, limit)| format!("{holders}/{limit}"));
        let (full, free) = held.map_or_else(Default::default, |(holders, limit)| {
            bar(holders, limit.into())
        });
        let gap = " ".repeat(bars.saturating_sub(full.chars().count() + free.chars().count()));
        let waiters = look.paint(
            if waiters > 0 { YELLOW } else { DIM },
            &format!("{waiters:>7}"),
        );
        let bar = format!(
            "{}{}{gap}",
            look.paint(GREEN, &full),
            look.paint(DIM, &free)
        );
        // `format!` counts characters, and a terminal columns
        let pad = " ".repeat(width - key.width());
        let line = format!(
            "  {key}{pad}  {kind:9}  {of:>7}  {bar}  {waiters}  {}",
            look.paint(DIM, &time)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn rows(stats: &Stats) -> Vec<Row> {
    let semaphores = stats.semaphores.iter().map(|s| Row {
        key: shown_key(&s.key),
        kind: "semaphore",
        held: Some((s.holders, s.limit)),
        waiters: s.waiters,
        // servers do not tell the leases of semaphores
        time: String::new(),
    });
    let locks = stats.locks.iter().map(|l| Row {
        key: shown_key(&l.key),
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
            key: shown_key(&i.key),
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

/// The slots that are held, and those that are free; one sign is one slot, as long as they are few.
fn bar(holders: u64, limit: u64) -> (String, String) {
    let width = limit.min(BAR);
    // at least one sign for the first holder
    let full = if limit <= BAR {
        holders
    } else {
        holders.saturating_mul(BAR).div_ceil(limit)
    }
    .min(width);
    let signs = |sign: &str, count| sign.repeat(usize::try_from(count).unwrap_or(0));
    (signs("■", full), signs("□", width - full))
}

/// Returns a key as it is shown: a backslash of the key itself is told from one of an escape.
fn shown_key(key: &str) -> String {
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
                "locks": [{"key": "nightly", "owner_conn_id": 7, "lease_expires_in_s": 12.3, "waiters": 0}],
                "semaphores": [{"key": "pool", "limit": 5, "holders": 3, "waiters": 2}, {"key": "big", "limit": 1000, "holders": 1, "waiters": 0}],
                "idle_locks": [], "idle_semaphores": [{"key": "old", "idle_s": 9.0}]}"#,
        )];
        let want = "\
lock-1:6388  4 connections
  KEY      KIND       HOLDERS  HELD              WAITERS  TIME
  big      semaphore   1/1000  ■□□□□□□□□□□□□□□□        0
  nightly  lock           1/1  ■                       0  lease left 12 s
  pool     semaphore      3/5  ■■■□□                   2
  old      semaphore                                   0  idle 9 s
";
        assert_eq!(table(&reports, Look::Plain), want);
        let coloured = table(&reports, Look::Coloured);
        assert!(
            coloured.contains("\x1b[32m■■■\x1b[0m\x1b[2m□□\x1b[0m"),
            "{coloured}"
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
    fn a_key_gives_the_terminal_no_commands() {
        let reports = [report(
            "{\"connections\": 0, \"semaphores\": [{\"key\": \"\\u001b[2Jx\", \"limit\": 1, \"holders\": 1, \"waiters\": 0}]}",
        )];
        assert!(!table(&reports, Look::Plain).contains('\x1b'));
    }
}
