//! Acquires of several permits and of several keys, beside single acquires of as many slots.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use dflock::{Client, Semaphore, acquire_all};

use crate::contender::{Load, median, median_ratio};
use crate::flags::Runtime;
use crate::round::{Round, Samples};
use crate::{Result, sdk, tasks};

/// Number of permits of one key.
const PERMITS: u32 = 4;

/// Way to acquire and release several slots.
#[derive(Clone, Copy, Debug)]
enum Method {
    AcquireMany,
    FourAcquires,
    AcquireAll,
    TwoAcquires,
}

/// A call for several slots beside single acquires.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    /// Cycles in a second, each of all slots.
    pub(crate) cycles_per_second: f64,
    /// The same with single acquires, one after the other.
    pub(crate) single_cycles_per_second: f64,
    /// The median of the ratios of the rounds.
    pub(crate) ratio: f64,
}

/// Runs each method once in each round.
pub(crate) fn measure(load: &Load, kind: Runtime, rounds: NonZeroU32) -> Result<[Comparison; 2]> {
    let client = sdk::build_client(load)?;
    let load = Load {
        limit: load.limit.max(PERMITS),
        // A cycle has up to 12 requests instead of 2.
        cycles: load.cycles.div_ceil(PERMITS),
        ..load.clone()
    };
    let methods = [
        Method::AcquireMany,
        Method::FourAcquires,
        Method::AcquireAll,
        Method::TwoAcquires,
    ];
    let mut results: [Vec<Round>; 4] = Default::default();
    for _ in 0..rounds.get() {
        for (method, rounds) in methods.iter().zip(&mut results) {
            let round = tasks::run(&load, kind, async |index| {
                Worker::new(&client, &load, index, *method)
            })?;
            rounds.push(round);
        }
    }
    let compare = |name, several: &[Round], single: &[Round]| Comparison {
        name,
        cycles_per_second: median(several, |round| round.cycles_per_second),
        single_cycles_per_second: median(single, |round| round.cycles_per_second),
        ratio: median_ratio(several, single, |round| round.cycles_per_second),
    };
    let [many, four, all, two] = &results;
    Ok([
        compare("acquire_many(4) beside 4 acquires", many, four),
        compare("acquire_all of 2 keys beside 2 acquires", all, two),
    ])
}

struct Worker {
    semaphores: [Semaphore; 2],
    method: Method,
}

impl Worker {
    fn new(client: &Client, load: &Load, index: u32, method: Method) -> Result<Self> {
        let semaphore = |key| {
            Semaphore::builder()
                .key(key)
                .limit(load.limit)
                .acquire_timeout(Duration::from_hours(1))
                .client(client.clone())
                .build()
        };
        let key = load.key(index);
        Ok(Self {
            semaphores: [semaphore(key.clone())?, semaphore(format!("{key}-second"))?],
            method,
        })
    }
}

impl tasks::Worker for Worker {
    async fn cycle(&mut self, samples: &mut Samples) -> Result<()> {
        let start = Instant::now();
        let [first, second] = &self.semaphores;
        let granted = match self.method {
            Method::AcquireMany => {
                let held = first.clone().acquire_many(PERMITS).await?;
                let granted = Instant::now();
                held.release().await?;
                granted
            }
            Method::AcquireAll => {
                let held = acquire_all(&self.semaphores).await?;
                let granted = Instant::now();
                held.release().await?;
                granted
            }
            Method::FourAcquires => acquire_each([first; PERMITS as usize]).await?,
            Method::TwoAcquires => acquire_each([first, second]).await?,
        };
        samples.record(start, granted, granted);
        Ok(())
    }
}

/// Acquires the slots one after the other, and releases them. Returns the time of the last grant.
async fn acquire_each<const N: usize>(semaphores: [&Semaphore; N]) -> Result<Instant> {
    let mut held = Vec::with_capacity(N);
    for semaphore in semaphores {
        held.push(semaphore.clone().acquire().await?);
    }
    let granted = Instant::now();
    for slot in held {
        slot.release().await?;
    }
    Ok(granted)
}
