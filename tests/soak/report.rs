//! Report of a soak run.

use std::fmt;
use std::time::Duration;

use crate::fault::Kind;
use crate::judge::{Bound, Judge};
use crate::run::Plan;
use crate::timeline::Timeline;
use crate::violation::{Violation, Wrong};

pub(crate) struct Report<'a> {
    plan: &'a Plan,
    /// Actual duration of the run.
    length: Duration,
    timeline: &'a Timeline,
    judge: Judge<'a>,
    violations: Vec<Violation>,
    /// Number of slots that were still held at the end, without clients.
    left: u64,
    /// Time after the kill of the clients at which no slot was held.
    freed: Duration,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        length: Duration,
        timeline: &'a Timeline,
        left: u64,
        freed: Duration,
    ) -> Self {
        let judge = Judge::new(timeline, Duration::from_secs(plan.server.read_timeout));
        let violations = judge.violations();
        Self {
            plan,
            length,
            timeline,
            judge,
            violations,
            left,
            freed,
        }
    }

    /// Returns whether the run passed.
    pub(crate) fn is_good(&self) -> bool {
        self.violations.is_empty() && self.timeline.complaints.is_empty() && self.left == 0
    }

    fn row(&self, fault: Option<Kind>) -> Row {
        let count = |wrong| {
            self.violations
                .iter()
                .filter(|violation| violation.fault == fault && violation.what == wrong)
                .count()
        };
        let bounds = self
            .judge
            .bounds()
            .map(|(_, bound)| bound)
            .filter(|bound| Some(bound.fault.kind) == fault);
        // A client cannot notice the end of a connection before it happens.
        let margin = |bound: Bound| {
            if bound.fault.kind.severs() {
                bound.last.max(bound.due)
            } else {
                bound.last
            }
            .as_secs_f64()
                - seconds(bound.due)
        };
        let margins: Vec<_> = bounds.map(margin).collect();
        Row {
            name: fault.map_or("none", Kind::name),
            times: self
                .timeline
                .faults
                .iter()
                .filter(|happened| Some(happened.kind) == fault)
                .count(),
            ended: margins.len(),
            known: margins.into_iter().reduce(f64::max),
            crowded: self
                .judge
                .crowds()
                .into_iter()
                .filter(|&(before, _)| before == fault)
                .map(|(_, length)| length)
                .max(),
            overlaps: count(Wrong::Overlap),
            late: count(Wrong::Late),
            leaks: count(Wrong::Leak),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, timeline, .. } = self;
        let server = plan
            .server
            .program
            .as_ref()
            .map_or("the embedded server".into(), |program| {
                program.display().to_string()
            });
        let (seed, read_timeout) = (plan.seed, plan.server.read_timeout);
        let Plan { clients, told, .. } = plan;
        writeln!(
            f,
            "seed {seed}, {:.1} s, {clients} clients, {server} with a read timeout of {read_timeout} s",
            seconds(self.length)
        )?;
        if told.as_secs() != read_timeout {
            writeln!(
                f,
                "the clients assume a read timeout of {} s",
                told.as_secs()
            )?;
        }
        writeln!(f, "\n{}", Row::HEAD)?;
        let kinds = Kind::ALL.into_iter().map(Some).chain([None]);
        let mut idle = Vec::new();
        for kind in kinds {
            let row = self.row(kind);
            writeln!(f, "{row}")?;
            if row.ended == 0 && kind.is_some() {
                idle.push(row.name);
            }
        }
        writeln!(
            f,
            "\nfaults that ended no hold: {}",
            if idle.is_empty() {
                "none".into()
            } else {
                idle.join(", ")
            }
        )?;
        let count = |what| {
            self.violations
                .iter()
                .filter(|violation| violation.what == what)
                .count()
        };
        let [overlaps, late, leaks] = [Wrong::Overlap, Wrong::Late, Wrong::Leak].map(count);
        let (faults, holds) = (timeline.faults.len(), timeline.holds().count());
        let lost = timeline.holds().filter(|hold| hold.lost.is_some()).count();
        writeln!(
            f,
            "\n{faults} faults, {holds} holds, {} checks, {lost} losses",
            timeline.checks
        )?;
        let starved = timeline.starved().map(|away| away.span().length());
        let (times, longest) = starved.fold((0, Duration::ZERO), |(times, longest), this| {
            (times + 1, longest.max(this))
        });
        writeln!(
            f,
            "{times} stalls of 10 ms or more caused by the operating system, {} ms at most",
            longest.as_millis()
        )?;
        writeln!(
            f,
            "slots still held {:.1} ms after all clients were killed: {}",
            seconds(self.freed) * 1000.0,
            self.left
        )?;
        for violation in self.violations.iter().take(40) {
            writeln!(f, "  {violation}")?;
        }
        for complaint in timeline.complaints.iter().take(40) {
            writeln!(f, "  {complaint}")?;
        }
        write!(
            f,
            "{overlaps} overlaps, {late} late losses, {leaks} leaks, {} errors",
            timeline.complaints.len()
        )
    }
}

/// Results for one kind of fault.
struct Row {
    name: &'static str,
    times: usize,
    /// Number of holds that it had to end.
    ended: usize,
    /// Delay until the last holder noticed its loss, in seconds. A negative value is a time before
    /// the slot could be granted again.
    known: Option<f64>,
    /// The longest time with more confirmed holds than the limit, whether or not the client could
    /// know.
    crowded: Option<Duration>,
    overlaps: usize,
    late: usize,
    leaks: usize,
}

impl Row {
    const HEAD: &'static str = "| fault | count | holds to end | noticed at the latest | longest excess of holders | overlaps | late losses | leaks |\n\
         |---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            times,
            ended,
            overlaps,
            late,
            leaks,
            ..
        } = self;
        let known = self.known.map_or(String::new(), |known| {
            if known < 0.0 {
                format!("{:.1} ms before", known * -1000.0)
            } else {
                format!("{:.1} ms after", known * 1000.0)
            }
        });
        let crowded = self.crowded.map_or("0 ms".into(), |crowded| {
            format!("{:.1} ms", seconds(crowded) * 1000.0)
        });
        write!(
            f,
            "| {name} | {times} | {ended} | {known} | {crowded} | {overlaps} | {late} | {leaks} |"
        )
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
