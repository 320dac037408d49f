//! Report of a soak run.

use std::fmt;
use std::time::Duration;

use crate::analysis::{Analysis, Deadline};
use crate::fault::FaultKind;
use crate::run::Plan;
use crate::timeline::Timeline;
use crate::violation::{Violation, ViolationKind};

pub(crate) struct Report<'a> {
    plan: &'a Plan,
    /// Actual duration of the run.
    length: Duration,
    timeline: &'a Timeline,
    analysis: Analysis<'a>,
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
        let analysis = Analysis::new(timeline, Duration::from_secs(plan.server.read_timeout));
        let violations = analysis.violations();
        Self {
            plan,
            length,
            timeline,
            analysis,
            violations,
            left,
            freed,
        }
    }

    /// Returns whether the run passed.
    pub(crate) fn passed(&self) -> bool {
        self.violations.is_empty() && self.timeline.errors.is_empty() && self.left == 0
    }

    fn row(&self, fault: Option<FaultKind>) -> Row {
        let count = |kind| {
            self.violations
                .iter()
                .filter(|violation| violation.fault == fault && violation.kind == kind)
                .count()
        };
        let deadlines = self
            .analysis
            .deadlines()
            .map(|(_, deadline)| deadline)
            .filter(|deadline| Some(deadline.fault.kind) == fault);
        // A client cannot notice the end of a connection before it happens.
        let margin = |deadline: Deadline| {
            if deadline.fault.kind.ends_connections() {
                deadline.last.max(deadline.due)
            } else {
                deadline.last
            }
            .as_secs_f64()
                - seconds(deadline.due)
        };
        let margins: Vec<_> = deadlines.map(margin).collect();
        Row {
            name: fault.map_or("none", FaultKind::name),
            times: self
                .timeline
                .faults
                .iter()
                .filter(|happened| Some(happened.kind) == fault)
                .count(),
            ended: margins.len(),
            noticed: margins.into_iter().reduce(f64::max),
            excess: self
                .analysis
                .overlapping()
                .into_iter()
                .filter(|&(before, _)| before == fault)
                .map(|(_, length)| length)
                .max(),
            overlaps: count(ViolationKind::Overlap),
            late: count(ViolationKind::Late),
            leaks: count(ViolationKind::Leak),
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
        let Plan {
            clients,
            client_read_timeout,
            ..
        } = plan;
        writeln!(
            f,
            "seed {seed}, {:.1} s, {clients} clients, \
             {server} with a read timeout of {read_timeout} s",
            seconds(self.length)
        )?;
        if client_read_timeout.as_secs() != read_timeout {
            writeln!(
                f,
                "the clients assume a read timeout of {} s",
                client_read_timeout.as_secs()
            )?;
        }
        writeln!(f, "\n{}", Row::HEAD)?;
        let kinds = FaultKind::DFLOCKD.into_iter().map(Some).chain([None]);
        let mut without_effect = Vec::new();
        for kind in kinds {
            let row = self.row(kind);
            writeln!(f, "{row}")?;
            if row.ended == 0 && kind.is_some() {
                without_effect.push(row.name);
            }
        }
        writeln!(
            f,
            "\nfaults that ended no hold: {}",
            if without_effect.is_empty() {
                "none".into()
            } else {
                without_effect.join("; ")
            }
        )?;
        let count = |kind| {
            self.violations
                .iter()
                .filter(|violation| violation.kind == kind)
                .count()
        };
        let [overlaps, late, leaks] = [
            ViolationKind::Overlap,
            ViolationKind::Late,
            ViolationKind::Leak,
        ]
        .map(count);
        let (faults, holds) = (timeline.faults.len(), timeline.holds().count());
        let lost = timeline.holds().filter(|hold| hold.lost.is_some()).count();
        writeln!(
            f,
            "\n{faults} faults, {holds} holds, {} checks, {lost} losses",
            timeline.checks
        )?;
        write_stalls(f, timeline)?;
        writeln!(
            f,
            "slots still held {:.1} ms after all clients were killed: {}",
            seconds(self.freed) * 1000.0,
            self.left
        )?;
        write_findings(f, &self.violations, &timeline.errors)?;
        write!(
            f,
            "{overlaps} overlaps, {late} late losses, {leaks} leaks, {} errors",
            timeline.errors.len()
        )
    }
}

/// Writes a line about the stalls that the operating system caused.
pub(crate) fn write_stalls(f: &mut fmt::Formatter<'_>, timeline: &Timeline) -> fmt::Result {
    let stalls = timeline.system_stalls();
    let lengths: Vec<_> = stalls.map(|stall| stall.interval().length()).collect();
    writeln!(
        f,
        "{} stalls of 10 ms or more caused by the operating system, {} ms at most",
        lengths.len(),
        lengths.iter().max().map_or(0, Duration::as_millis)
    )
}

/// Writes the first violations and errors, each on a line.
pub(crate) fn write_findings(
    f: &mut fmt::Formatter<'_>,
    violations: &[Violation],
    errors: &[String],
) -> fmt::Result {
    const MOST: usize = 40;
    for violation in violations.iter().take(MOST) {
        writeln!(f, "  {violation}")?;
    }
    for error in errors.iter().take(MOST) {
        writeln!(f, "  {error}")?;
    }
    Ok(())
}

/// Results for one kind of fault.
struct Row {
    name: &'static str,
    times: usize,
    /// Number of holds that it had to end.
    ended: usize,
    /// Delay until the last holder noticed its loss, in seconds. A negative value is a time before
    /// the slot could be granted again.
    noticed: Option<f64>,
    /// The longest time with more confirmed holds than the limit, whether or not the client could
    /// know.
    excess: Option<Duration>,
    overlaps: usize,
    late: usize,
    leaks: usize,
}

impl Row {
    const HEAD: &'static str = "| fault | count | holds to end | noticed at the latest \
| longest excess of holders | overlaps | late losses | leaks |\n\
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
        let noticed = self.noticed.map_or(String::new(), |noticed| {
            if noticed < 0.0 {
                format!("{:.1} ms before", noticed * -1000.0)
            } else {
                format!("{:.1} ms after", noticed * 1000.0)
            }
        });
        let excess = self.excess.map_or("0 ms".into(), |excess| {
            format!("{:.1} ms", seconds(excess) * 1000.0)
        });
        write!(
            f,
            "| {name} | {times} | {ended} | {noticed} | {excess} | {overlaps} | {late} | {leaks} |"
        )
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
