//! dflock itself, as its users write it: acquire, hold, release.

use std::time::{Duration, Instant};

use dflock::{Client, Semaphore, Tls};
use tokio::time::sleep;

use crate::contender::Load;
use crate::flags::Runtime;
use crate::round::{Log, Round};
use crate::{Result, tasks};

/// How many cycles allocations are counted over.
const COUNTED: u32 = 1000;

/// Runs a task for each worker.
pub(crate) fn run(load: &Load, kind: Runtime) -> Result<Round> {
    let client = client(load)?;
    tasks::run(load, kind, async |index| Worker::new(&client, load, index))
}

/// How often a warm cycle of one worker allocates; in a run of its own, so that counting slows nothing that is timed.
pub(crate) fn allocations(load: &Load) -> Result<f64> {
    let runtime = tasks::start(Runtime::Current)?;
    let worker = Worker::new(&client(load)?, load, 0)?;
    let cycles = |count| -> Result<()> {
        runtime.block_on(async {
            for _ in 0..count {
                worker.acquire().await?.release().await?;
            }
            Ok(())
        })
    };
    cycles(COUNTED)?;
    let mut outcome = Ok(());
    let info = allocation_counter::measure(|| outcome = cycles(COUNTED));
    outcome?;
    Ok(f64::from(u32::try_from(info.count_total)?) / f64::from(COUNTED))
}

/// A client of the servers of `load`.
pub(crate) fn client(load: &Load) -> Result<Client> {
    let builder = Client::builder().servers(load.servers.clone());
    Ok(match &load.tls_ca {
        Some(ca) => builder.tls(Tls::ca_pem_file(ca)?),
        None => builder,
    }
    .build()?)
}

struct Worker {
    pool: Semaphore,
    hold: Duration,
}

impl Worker {
    fn new(client: &Client, load: &Load, index: u32) -> Result<Self> {
        let patience = Duration::from_hours(1);
        let pool = Semaphore::builder()
            .key(load.key(index))
            .limit(load.limit)
            .acquire_timeout(patience)
            .client(client.clone())
            .build()?;
        Ok(Self {
            pool,
            hold: load.hold,
        })
    }

    async fn acquire(&self) -> std::result::Result<Semaphore<dflock::Held>, dflock::Error> {
        self.pool.clone().acquire().await
    }
}

impl tasks::Worker for Worker {
    async fn cycle(&mut self, log: &mut Log) -> Result<()> {
        let asked = Instant::now();
        let held = self.acquire().await?;
        let got = Instant::now();
        if !self.hold.is_zero() {
            sleep(self.hold).await;
        }
        let left = Instant::now();
        held.release().await?;
        log.note(asked, got, left);
        Ok(())
    }
}
