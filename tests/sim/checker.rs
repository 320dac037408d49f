//! Check of a history against the guarantees of a semaphore.

mod checks;
mod grant;
mod state;

use std::collections::BTreeMap;

use super::history::Entry;
use super::link::Link;
use super::plan::Plan;
use state::Checker;

pub(super) struct CheckResult {
    /// Violations; those in which a slot had two holders come first.
    pub(super) violations: Vec<String>,
    pub(super) events: BTreeMap<&'static str, u64>,
}

impl CheckResult {
    pub(super) fn check(
        plan: &Plan,
        start: tokio::time::Instant,
        entries: &[Entry],
        links: &[Link],
    ) -> Self {
        let mut checker = Checker::new(plan, start, links);
        for entry in entries {
            checker.observe(entry);
        }
        checker.check_grants();
        let Checker {
            overlaps,
            others,
            events,
            ..
        } = checker;
        Self {
            violations: [overlaps, others].concat(),
            events,
        }
    }
}
