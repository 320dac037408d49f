//! Check of a history against the guarantees of a semaphore.

mod court;
mod grant;
mod judgement;
mod spans;

use std::collections::BTreeMap;

use super::history::Entry;
use super::link::Link;
use super::plan::Plan;
use court::Court;

pub(super) struct Verdict {
    /// Violations; those in which a slot had two holders come first.
    pub(super) violations: Vec<String>,
    pub(super) events: BTreeMap<&'static str, u64>,
}

impl Verdict {
    pub(super) fn of(
        plan: &Plan,
        begun: tokio::time::Instant,
        entries: &[Entry],
        links: &[Link],
    ) -> Self {
        let mut court = Court::new(plan, begun, links);
        for entry in entries {
            court.hear(entry);
        }
        court.judge();
        let Court {
            overlaps,
            others,
            events,
            ..
        } = court;
        Self {
            violations: [overlaps, others].concat(),
            events,
        }
    }
}
