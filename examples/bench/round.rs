//! Measurements of one contender in one round.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Result, machine};

/// Measured times of one worker.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Duration of each cycle, from before the acquire until after the release.
    pub(crate) cycles: Vec<Duration>,
    /// Duration of each acquire.
    pub(crate) waits: Vec<Duration>,
    /// Total time from the end of an acquire to the start of its release.
    pub(crate) hold_time: Duration,
}

impl Samples {
    /// Records a cycle that ends now.
    pub(crate) fn record(&mut self, start: Instant, granted: Instant, released: Instant) {
        self.waits.push(granted - start);
        self.hold_time += released - granted;
        self.cycles.push(start.elapsed());
    }
}

/// Figures of all workers together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) cycles_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_wait_us: f64,
    /// Jain's fairness index of the cycle counts of the workers: 1 if all counts are equal.
    pub(crate) fairness: f64,
    /// CPU time of the client for one cycle.
    pub(crate) cpu_us: f64,
    /// Mean time from the end of an acquire to the start of its release.
    pub(crate) mean_hold_us: f64,
}

impl Round {
    /// Computes the figures of a round that took the time `wall` and the CPU time `cpu`.
    pub(crate) fn new(samples: &[Samples], wall: Duration, cpu: Duration) -> Self {
        let sorted = |times: fn(&Samples) -> &Vec<Duration>| {
            let mut all: Vec<_> = samples.iter().flat_map(times).copied().collect();
            all.sort_unstable();
            all
        };
        let (cycles, waits) = (
            sorted(|worker| &worker.cycles),
            sorted(|worker| &worker.waits),
        );
        let counts = || samples.iter().map(|worker| to_f64(worker.cycles.len()));
        let (workers, total) = (to_f64(samples.len()), to_f64(cycles.len()));
        let squares: f64 = counts().map(|n| n * n).sum();
        Self {
            cycles_per_second: total / wall.as_secs_f64(),
            p50_us: as_micros(percentile(&cycles, 50)),
            p99_us: as_micros(percentile(&cycles, 99)),
            max_wait_us: as_micros(percentile(&waits, 100)),
            fairness: counts().sum::<f64>().powi(2) / (workers * squares),
            cpu_us: as_micros(cpu) / total,
            mean_hold_us: as_micros(samples.iter().map(|worker| worker.hold_time).sum()) / total,
        }
    }
}

/// Number of cycles that the workers have not started yet.
pub(crate) struct CycleBudget(AtomicU32);

impl CycleBudget {
    pub(crate) fn new(cycles: u32) -> Self {
        Self(AtomicU32::new(cycles))
    }

    /// Takes one cycle. Returns whether one was left.
    pub(crate) fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |remaining| {
                remaining.checked_sub(1)
            })
            .is_ok()
    }
}

/// Measurement of wall-clock time and CPU time.
pub(crate) struct Stopwatch {
    start: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            cpu: machine::cpu_time(),
            start: Instant::now(),
        }
    }

    pub(crate) fn stop(self, samples: &[Samples]) -> Round {
        let wall = self.start.elapsed();
        Round::new(samples, wall, machine::cpu_time().saturating_sub(self.cpu))
    }
}

/// Runs each worker on a thread.
///
/// The threads create their workers first. The measurement starts after the last one is created.
pub(crate) fn run_on_threads<W>(
    workers: u32,
    new_worker: impl Fn(u32) -> Result<W> + Sync,
    run_worker: impl Fn(W) -> Result<Samples> + Sync,
) -> Result<Round> {
    let (ready, start) = (
        Barrier::new(workers as usize + 1),
        Barrier::new(workers as usize + 1),
    );
    let run = |index| {
        let worker = new_worker(index);
        ready.wait();
        start.wait();
        worker.and_then(&run_worker)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..workers)
            .map(|index| scope.spawn(move || run(index)))
            .collect();
        ready.wait();
        let stopwatch = Stopwatch::start();
        start.wait();
        let join = |thread: ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a worker panicked".into()))
        };
        let samples: Vec<_> = threads.into_iter().map(join).collect::<Result<_>>()?;
        Ok(stopwatch.stop(&samples))
    })
}

/// Returns the time that `percent` of the sorted `times` do not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).copied().unwrap_or_default()
}

fn as_micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn to_f64(n: usize) -> f64 {
    // Workers and cycles are counted as `u32` in `Load`, so the conversion does not saturate.
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
