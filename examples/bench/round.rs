//! What one contender did in one round.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Result, machine};

/// What one worker saw.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// From before each acquire until after its release.
    pub(crate) cycles: Vec<Duration>,
    /// From before each acquire until after it.
    pub(crate) waits: Vec<Duration>,
    /// From after each acquire until before its release.
    pub(crate) held: Duration,
}

impl Log {
    /// Notes a cycle that `asked`, `got` and `left` a slot, and is over now.
    pub(crate) fn note(&mut self, asked: Instant, got: Instant, left: Instant) {
        self.waits.push(got - asked);
        self.held += left - got;
        self.cycles.push(asked.elapsed());
    }
}

/// What all workers together saw.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) cycles_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_wait_us: f64,
    /// Jain's index of the cycles of the workers: 1 when all had the same number.
    pub(crate) fairness: f64,
    /// The CPU time that the client used for a cycle.
    pub(crate) cpu_us: f64,
    /// How long a slot was held on average, between the acquire and the release.
    pub(crate) mean_hold_us: f64,
}

impl Round {
    pub(crate) fn new(logs: &[Log], wall: Duration, cpu: Duration) -> Self {
        let sorted = |times: fn(&Log) -> &Vec<Duration>| {
            let mut all: Vec<_> = logs.iter().flat_map(times).copied().collect();
            all.sort_unstable();
            all
        };
        let (cycles, waits) = (sorted(|log| &log.cycles), sorted(|log| &log.waits));
        let counts = || logs.iter().map(|log| count(log.cycles.len()));
        let (workers, total) = (count(logs.len()), count(cycles.len()));
        let squares: f64 = counts().map(|n| n * n).sum();
        Self {
            cycles_per_second: total / wall.as_secs_f64(),
            p50_us: us(at(&cycles, 50)),
            p99_us: us(at(&cycles, 99)),
            max_wait_us: us(at(&waits, 100)),
            fairness: counts().sum::<f64>().powi(2) / (workers * squares),
            cpu_us: us(cpu) / total,
            mean_hold_us: us(logs.iter().map(|log| log.held).sum()) / total,
        }
    }
}

/// The cycles that are left for the workers to take.
pub(crate) struct Left(AtomicU32);

impl Left {
    pub(crate) fn new(cycles: u32) -> Self {
        Self(AtomicU32::new(cycles))
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

/// Measures from its making until the end.
pub(crate) struct Watch {
    began: Instant,
    cpu: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            cpu: machine::cpu_time(),
            began: Instant::now(),
        }
    }

    pub(crate) fn stop(self, logs: &[Log]) -> Round {
        let wall = self.began.elapsed();
        Round::new(logs, wall, machine::cpu_time().saturating_sub(self.cpu))
    }
}

/// Makes a worker for each index, each on a thread of its own; when all are there, they work.
pub(crate) fn on_threads<W>(
    workers: u32,
    make: impl Fn(u32) -> Result<W> + Sync,
    work: impl Fn(W) -> Result<Log> + Sync,
) -> Result<Round> {
    let (ready, go) = (
        Barrier::new(workers as usize + 1),
        Barrier::new(workers as usize + 1),
    );
    let run = |index| {
        let worker = make(index);
        ready.wait();
        go.wait();
        worker.and_then(&work)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..workers)
            .map(|index| scope.spawn(move || run(index)))
            .collect();
        ready.wait();
        let watch = Watch::start();
        go.wait();
        let join = |thread: ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a worker panicked".into()))
        };
        let logs: Vec<_> = threads.into_iter().map(join).collect::<Result<_>>()?;
        Ok(watch.stop(&logs))
    })
}

/// The time that `percent` of the sorted `times` do not exceed.
fn at(times: &[Duration], percent: usize) -> Duration {
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).copied().unwrap_or_default()
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn count(n: usize) -> f64 {
    // a u32 counts more cycles than anybody waits for
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
