//! Report of a run on etcd.

use std::fmt;
use std::time::Duration;

use super::Plan;
use super::judge::Judge;
use super::record::Record;
use crate::fault::FaultKind;
use crate::key::ETCD_KEYS;
use crate::report::{write_findings, write_stalls};
use crate::violation::{Violation, ViolationKind};

const KINDS: [(ViolationKind, &str); 6] = [
    (ViolationKind::Overlap, "overlaps"),
    (ViolationKind::Late, "late losses"),
    (ViolationKind::LiveLoss, "losses of live holders"),
    (ViolationKind::Leak, "leaks"),
    (ViolationKind::Unlisted, "holders not listed"),
    (ViolationKind::Order, "grants out of order"),
];

pub(crate) struct Report<'a> {
    plan: &'a Plan,
    length: Duration,
    record: &'a Record,
    judge: Judge<'a>,
    violations: Vec<Violation>,
    left: u64,
    freed: Duration,
}

impl<'a> Report<'a> {
    /// `left` holders and waiters were in the cluster `freed` after the kill of all clients.
    pub(crate) fn new(
        plan: &'a Plan,
        length: Duration,
        record: &'a Record,
        left: u64,
        freed: Duration,
    ) -> Self {
        let judge = Judge::new(record);
        let violations = judge.violations();
        Self {
            plan,
            length,
            record,
            judge,
            violations,
            left,
            freed,
        }
    }

    /// Returns whether the run passed. A run without samples has judged nothing.
    pub(crate) fn passed(&self) -> bool {
        self.violations.is_empty()
            && self.record.timeline.errors.is_empty()
            && self.left == 0
            && !self.record.samples.is_empty()
            && self.record.timeline.holds().next().is_some()
    }

    fn count(&self, kind: ViolationKind) -> usize {
        let violations = self.violations.iter();
        violations
            .filter(|violation| violation.kind == kind)
            .count()
    }

    /// Returns the time by which the last holder noticed its loss before it could end in the cluster.
    fn noticed(&self, kind: FaultKind) -> String {
        let deadlines = self.judge.deadlines().map(|(_, deadline)| deadline);
        let margins = deadlines
            .filter(|deadline| deadline.fault.kind == kind)
            .map(|deadline| deadline.latest.as_secs_f64() - deadline.last.as_secs_f64());
        let margin = margins.reduce(f64::min);
        margin.map_or_else(String::new, |margin| {
            format!("{:.1} ms before", margin * 1000.0)
        })
    }
}

impl fmt::Display for Report<'_> {
    #[allow(clippy::cast_precision_loss, reason = "the counts are small")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeline = &self.record.timeline;
        let Plan { seed, clients, .. } = self.plan;
        writeln!(
            f,
            "seed {seed}, {:.1} s, {clients} clients, three members of etcd",
            self.length.as_secs_f64()
        )?;
        let titles = KINDS.map(|(_, title)| title).join(" | ");
        writeln!(
            f,
            "\n| fault | count | holds during it | noticed at the latest | {titles} |\n\
             |---|---|---|---|---|---|---|---|---|---|"
        )?;
        for kind in FaultKind::ETCD.into_iter().map(Some).chain([None]) {
            let times = timeline
                .faults
                .iter()
                .filter(|fault| Some(fault.kind) == kind);
            let counts = KINDS.map(|(violation, _)| {
                let of_kind = self
                    .violations
                    .iter()
                    .filter(|found| found.kind == violation && found.fault == kind);
                of_kind.count().to_string()
            });
            writeln!(
                f,
                "| {} | {} | {} | {} | {} |",
                kind.map_or("none", FaultKind::name),
                times.count(),
                kind.map_or(0, |kind| self.judge.holds_during(kind)),
                kind.map_or_else(String::new, |kind| self.noticed(kind)),
                counts.join(" | ")
            )?;
        }
        let holds = timeline.holds().count();
        let lost = timeline.holds().filter(|hold| hold.lost.is_some()).count();
        writeln!(
            f,
            "\n{} faults, {holds} holds, {} checks, {} lists of holders, {lost} losses, of which {} \
             of clients that were stopped or cut off",
            timeline.faults.len(),
            timeline.checks,
            self.record.samples.len(),
            self.judge.excused_losses()
        )?;
        for (key, settings) in ETCD_KEYS.iter().enumerate() {
            let samples = self.record.samples.iter();
            let listed: Vec<_> = samples
                .filter(|sample| sample.key == key)
                .map(|sample| sample.holders.len())
                .collect();
            let (sum, count) = (listed.iter().sum::<usize>(), listed.len());
            writeln!(
                f,
                "slots of {:?} that were taken on average: {:.1} of {}",
                settings.name,
                sum as f64 / count as f64,
                settings.limit
            )?;
        }
        let lists = self.record.samples.iter().filter(|sample| sample.key == 0);
        let lists: Vec<Duration> = lists.map(|sample| sample.to).collect();
        let pauses = lists.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        writeln!(
            f,
            "{} times with an election, {:.1} s at most without a list of holders",
            self.record.elections.len(),
            pauses.max().unwrap_or_default().as_secs_f64()
        )?;
        write_stalls(f, timeline)?;
        writeln!(
            f,
            "holders and waiters {:.1} s after all clients were killed: {}",
            self.freed.as_secs_f64(),
            self.left
        )?;
        write_findings(f, &self.violations, &timeline.errors)?;
        let totals = KINDS.map(|(kind, title)| format!("{} {title}", self.count(kind)));
        write!(f, "{}, {} errors", totals.join(", "), timeline.errors.len())
    }
}
