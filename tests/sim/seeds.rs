//! Runs of many seeds on all cores.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::run::{Outcome, run};

/// Summary of many seeds.
#[derive(Debug, Default)]
pub struct Summary {
    /// Number of seeds that were run.
    pub runs: u64,
    /// Numbers of faults that had an effect, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Numbers of events, by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// The first seed with a violation. No later seed is started.
    pub failed: Option<Outcome>,
}

/// Runs the simulation of `seeds` until one of them fails.
#[must_use]
pub fn run_seeds(seeds: Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut summary = Summary::default();
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < seeds.end
        {
            summary.add(run(seed));
            if summary.failed.is_some() {
                // All earlier seeds are running or done, so the first failure is among them.
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
        summary
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a simulation does not panic"))
            .fold(Summary::default(), Summary::merge)
    })
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        add(&mut self.faults, &outcome.faults);
        add(&mut self.events, &outcome.events);
        if !outcome.violations.is_empty() {
            self.failed.get_or_insert(outcome);
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.runs += other.runs;
        add(&mut self.faults, &other.faults);
        add(&mut self.events, &other.events);
        self.failed = self
            .failed
            .into_iter()
            .chain(other.failed)
            .min_by_key(|outcome| outcome.seed);
        self
    }
}

fn add(sums: &mut BTreeMap<&'static str, u64>, counts: &BTreeMap<&'static str, u64>) {
    for (what, count) in counts {
        *sums.entry(what).or_default() += count;
    }
}
