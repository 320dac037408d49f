//! Workers that share the slots of one semaphore.
//!
//! Uses the servers in `DFLOCK_SERVERS`, or the embedded server.
//!
//! `cargo run --example quickstart -- --workers 8 --slots 3 --rounds 3`

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;
use dflock::{Error, Semaphore};
use dflock_examples::Outcome;
use tokio::task::JoinSet;

#[derive(Parser)]
struct Options {
    /// Number of workers
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// Number of slots
    #[arg(long, default_value_t = 3)]
    slots: u32,
    /// Number of acquires of each worker
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let Options {
        workers,
        slots,
        rounds,
    } = Options::parse();
    let (client, _server) = dflock_examples::connect(1).await?;
    // A long timeout, because a worker may wait for all the others.
    let pool = Semaphore::builder()
        .key("worker-pool")
        .limit(slots)
        .acquire_timeout(Duration::from_hours(1))
        .client(client)
        .build()?;

    let count = Arc::new(Count::default());
    let mut tasks = JoinSet::new();
    for name in 1..=workers {
        tasks.spawn(work(name, rounds, pool.clone(), count.clone()));
    }
    while let Some(worker) = tasks.join_next().await {
        worker??;
    }

    let max = count.max.load(Ordering::SeqCst);
    println!("most holders at once: {max} of {slots}");
    if max > slots {
        Err("the limit was exceeded".into())
    } else {
        Ok(())
    }
}

async fn work(name: u32, rounds: u32, pool: Semaphore, count: Arc<Count>) -> Result<(), Error> {
    for round in 1..=rounds {
        println!("worker {name}, round {round}: waiting");
        let held = pool.clone().acquire().await?;
        println!(
            "worker {name}, round {round}: holding {:?}, holders now: {}",
            held.token(),
            count.enter()
        );
        held.run(tokio::time::sleep(Duration::from_millis(20)))
            .await?;
        count.now.fetch_sub(1, Ordering::SeqCst);
        held.release().await?;
        println!("worker {name}, round {round}: released");
    }
    Ok(())
}

/// Current and maximum number of holders.
#[derive(Default)]
struct Count {
    now: AtomicU32,
    max: AtomicU32,
}

impl Count {
    /// Counts a new holder. Returns the current number.
    fn enter(&self) -> u32 {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.max.fetch_max(now, Ordering::SeqCst);
        now
    }
}
