//! Workers share the slots of one semaphore, on the embedded server or on the servers of `DFLOCK_SERVERS`.
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
    /// How many workers want a slot
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// How many of them may hold one at once
    #[arg(long, default_value_t = 3)]
    slots: u32,
    /// How often each worker wants one
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
    // a slot is waited for until it comes, however many stand in line before
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

    let most = count.most.load(Ordering::SeqCst);
    println!("most holders at once: {most} of {slots}");
    if most > slots {
        Err("the limit did not hold".into())
    } else {
        Ok(())
    }
}

async fn work(name: u32, rounds: u32, pool: Semaphore, count: Arc<Count>) -> Result<(), Error> {
    for round in 1..=rounds {
        println!("worker {name}, round {round}: waiting");
        let held = pool.clone().acquire().await?;
        println!(
            "worker {name}, round {round}: holding {:?}, {} hold now",
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

/// How many hold a slot now, and the most that ever did.
#[derive(Default)]
struct Count {
    now: AtomicU32,
    most: AtomicU32,
}

impl Count {
    fn enter(&self) -> u32 {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        now
    }
}
