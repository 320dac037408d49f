//! Memory and CPU of a process that holds many slots at once.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::contender::Load;
use crate::flags::Runtime;
use crate::{Result, machine, sdk, tasks};

/// Maximum number of concurrent acquires.
const MAX_ACQUIRES: usize = 64;

/// Time in which renewals are measured: three of the default heartbeats.
const MEASURE_TIME: Duration = Duration::from_secs(24);

/// Length of one sample of the CPU time.
const SAMPLE_TIME: Duration = Duration::from_millis(250);

/// Memory and CPU that the held slots need.
#[derive(Debug, Serialize)]
pub(crate) struct HoldCost {
    pub(crate) slots: u32,
    /// Resident memory for each slot, in KiB.
    pub(crate) resident_kib: f64,
    /// Heap memory for each slot, in KiB.
    pub(crate) heap_kib: f64,
    /// Share of a core that renewals need on average.
    pub(crate) renewals_core: f64,
    /// Share of a core that renewals need in the busiest quarter of a second.
    pub(crate) renewals_core_at_most: f64,
    /// Number of slots that were lost.
    pub(crate) lost: usize,
}

/// Holds one slot of each of `slots` keys on a current-thread runtime, and measures the process.
pub(crate) fn measure(load: &Load, slots: NonZeroU32) -> Result<HoldCost> {
    let load = Load {
        contend: false,
        ..load.clone()
    };
    let client = sdk::build_client(&load)?;
    let runtime = tasks::build_runtime(Runtime::Current)?;
    // Allocate everything that is needed only once before the memory is measured.
    runtime.block_on(async {
        client
            .semaphore("first", load.limit)?
            .acquire()
            .await?
            .release()
            .await
    })?;
    let resident_before = machine::resident_kib()?;
    let mut acquired = Ok(Vec::new());
    let heap = allocation_counter::measure(|| {
        acquired = runtime.block_on(async {
            let (mut tasks, mut held_slots) =
                (JoinSet::new(), Vec::with_capacity(slots.get() as usize));
            for index in 0..slots.get() {
                if tasks.len() >= MAX_ACQUIRES
                    && let Some(held) = tasks.join_next().await
                {
                    held_slots.push(held??);
                }
                tasks.spawn(client.semaphore(load.key(index), load.limit)?.acquire());
            }
            while let Some(held) = tasks.join_next().await {
                held_slots.push(held??);
            }
            Result::Ok(held_slots)
        });
    });
    let held_slots = acquired?;
    let resident = machine::resident_kib()? - resident_before;
    let (mean, max) = runtime.block_on(measure_cpu());
    Ok(HoldCost {
        slots: slots.get(),
        resident_kib: resident / f64::from(slots.get()),
        heap_kib: f64::from(i32::try_from(heap.bytes_current / 1024)?) / f64::from(slots.get()),
        renewals_core: mean,
        renewals_core_at_most: max,
        lost: held_slots
            .iter()
            .filter(|held| held.check().is_err())
            .count(),
    })
}

/// Returns the share of a core that this process uses on average, and in the busiest sample.
async fn measure_cpu() -> (f64, f64) {
    let (start, start_cpu) = (Instant::now(), machine::cpu_time());
    let mut max: f64 = 0.0;
    while start.elapsed() < MEASURE_TIME {
        let (sample_start, sample_start_cpu) = (Instant::now(), machine::cpu_time());
        sleep(SAMPLE_TIME).await;
        max = max.max(
            machine::cpu_time()
                .saturating_sub(sample_start_cpu)
                .div_duration_f64(sample_start.elapsed()),
        );
    }
    (
        machine::cpu_time()
            .saturating_sub(start_cpu)
            .div_duration_f64(start.elapsed()),
        max,
    )
}
