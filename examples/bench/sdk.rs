//! Contender that uses the public API of dflock: acquire, hold, release.

use std::time::{Duration, Instant};

use dflock::{Client, Semaphore, Tls};
use tokio::time::sleep;

use crate::contender::Load;
use crate::flags::Runtime;
use crate::round::{Round, Samples};
use crate::{Result, tasks};

/// Number of cycles in which allocations are counted.
const COUNTED_CYCLES: u32 = 1000;

/// Runs a task for each worker.
pub(crate) fn run(load: &Load, kind: Runtime) -> Result<Round> {
    let client = build_client(load)?;
    tasks::run(load, kind, async |index| Worker::new(&client, load, index))
}

/// Returns the number of heap allocations in a warm cycle of one worker.
///
/// This is a separate run, because counting would slow down the timed rounds.
pub(crate) fn allocations_per_cycle(load: &Load) -> Result<f64> {
    let runtime = tasks::build_runtime(Runtime::Current)?;
    let worker = Worker::new(&build_client(load)?, load, 0)?;
    let run_cycles = |count| -> Result<()> {
        runtime.block_on(async {
            for _ in 0..count {
                worker.acquire().await?.release().await?;
            }
            Ok(())
        })
    };
    run_cycles(COUNTED_CYCLES)?;
    let mut result = Ok(());
    let info = allocation_counter::measure(|| result = run_cycles(COUNTED_CYCLES));
    result?;
    Ok(f64::from(u32::try_from(info.count_total)?) / f64::from(COUNTED_CYCLES))
}

/// Builds a client of the servers of `load`.
pub(crate) fn build_client(load: &Load) -> Result<Client> {
    let builder = Client::builder().servers(load.servers.clone());
    Ok(match &load.tls_ca {
        Some(ca) => builder.tls(Tls::ca_pem_file(ca)?),
        None => builder,
    }
    .build()?)
}

/// A semaphore and the time for which its slots are held.
struct Worker {
    semaphore: Semaphore,
    hold: Duration,
}

impl Worker {
    fn new(client: &Client, load: &Load, index: u32) -> Result<Self> {
        let acquire_timeout = Duration::from_hours(1);
        let semaphore = Semaphore::builder()
            .key(load.key(index))
            .limit(load.limit)
            .acquire_timeout(acquire_timeout)
            .client(client.clone())
            .build()?;
        Ok(Self {
            semaphore,
            hold: load.hold,
        })
    }

    async fn acquire(&self) -> std::result::Result<Semaphore<dflock::Held>, dflock::Error> {
        self.semaphore.clone().acquire().await
    }
}

impl tasks::Worker for Worker {
    async fn cycle(&mut self, samples: &mut Samples) -> Result<()> {
        let start = Instant::now();
        let held = self.acquire().await?;
        let granted = Instant::now();
        if !self.hold.is_zero() {
            sleep(self.hold).await;
        }
        let released = Instant::now();
        held.release().await?;
        samples.record(start, granted, released);
        Ok(())
    }
}
