//! Many slots held at once by one process.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::contender::Load;
use crate::flags::Runtime;
use crate::{Result, machine, sdk, tasks};

/// How many slots are acquired at a time.
const AT_ONCE: usize = 64;

/// For how long the renewals are looked at: three of the default heartbeat.
const LOOK: Duration = Duration::from_secs(24);

/// How long a look at the CPU is, for the busiest moment.
const MOMENT: Duration = Duration::from_millis(250);

/// What it costs to hold them.
#[derive(Debug, Serialize)]
pub(crate) struct Crowd {
    pub(crate) slots: u32,
    /// Memory in RAM for each slot, in KiB.
    pub(crate) resident_kib: f64,
    /// Memory that was asked of the allocator for each slot, in KiB.
    pub(crate) heap_kib: f64,
    /// The part of a core that renewals need.
    pub(crate) renewals_core: f64,
    /// The same in the busiest quarter of a second.
    pub(crate) renewals_core_at_most: f64,
    /// Slots that were lost.
    pub(crate) lost: usize,
}

/// Holds `slots` slots, each of a key of its own, on a current-thread runtime.
pub(crate) fn hold(load: &Load, slots: NonZeroU32) -> Result<Crowd> {
    let load = Load {
        contend: false,
        ..load.clone()
    };
    let client = sdk::client(&load)?;
    let runtime = tasks::start(Runtime::Current)?;
    // whatever is needed once is there before
    runtime.block_on(async {
        client
            .semaphore("first", load.limit)?
            .acquire()
            .await?
            .release()
            .await
    })?;
    let before = machine::resident_kib()?;
    let mut acquired = Ok(Vec::new());
    let heap = allocation_counter::measure(|| {
        acquired = runtime.block_on(async {
            let (mut tasks, mut all) = (JoinSet::new(), Vec::with_capacity(slots.get() as usize));
            for index in 0..slots.get() {
                if tasks.len() >= AT_ONCE
                    && let Some(held) = tasks.join_next().await
                {
                    all.push(held??);
                }
                tasks.spawn(client.semaphore(load.key(index), load.limit)?.acquire());
            }
            while let Some(held) = tasks.join_next().await {
                all.push(held??);
            }
            Result::Ok(all)
        });
    });
    let all = acquired?;
    let resident = machine::resident_kib()? - before;
    let (mean, most) = runtime.block_on(look());
    Ok(Crowd {
        slots: slots.get(),
        resident_kib: resident / f64::from(slots.get()),
        heap_kib: f64::from(i32::try_from(heap.bytes_current / 1024)?) / f64::from(slots.get()),
        renewals_core: mean,
        renewals_core_at_most: most,
        lost: all.iter().filter(|held| held.check().is_err()).count(),
    })
}

/// The part of a core that is used on average, and at most.
async fn look() -> (f64, f64) {
    let (began, cpu) = (Instant::now(), machine::cpu_time());
    let mut most: f64 = 0.0;
    while began.elapsed() < LOOK {
        let (moment, before) = (Instant::now(), machine::cpu_time());
        sleep(MOMENT).await;
        most = most.max(
            machine::cpu_time()
                .saturating_sub(before)
                .div_duration_f64(moment.elapsed()),
        );
    }
    (
        machine::cpu_time()
            .saturating_sub(cpu)
            .div_duration_f64(began.elapsed()),
        most,
    )
}
