//! A worker that shuts down in good order: it closes its client, and ends when its jobs are done.
//!
//! `cargo run --example drain`, and stop it with SIGTERM or Ctrl-C. It sends itself SIGTERM after a
//! while if no signal arrives.

use std::process::ExitCode;
use std::time::Duration;

use dflock::{Error, Semaphore};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const WORKERS: usize = 6;
const SLOTS: u32 = 2;
const JOB: Duration = Duration::from_millis(50);

/// The time that an orchestrator leaves between SIGTERM and SIGKILL, less a margin.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> dflock_examples::Outcome {
    // Before the first job: the default action of SIGTERM ends the process.
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (client, _server) = dflock_examples::connect(1).await?;
    let pool = client.semaphore("worker-pool", SLOTS)?;
    let mut workers = JoinSet::new();
    for n in 1..=WORKERS {
        workers.spawn(work(n, pool.clone()));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        sent = send_sigterm() => {
            sent?;
            terminate.recv().await;
        }
    }
    println!("signal received: no job starts from here on");
    if timeout(DRAIN_TIMEOUT, client.close()).await.is_err() {
        println!("a job takes too long: its slot is freed when this process ends");
        workers.abort_all();
    }
    let mut jobs = 0;
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(done) => jobs += done?,
            Err(error) if error.is_cancelled() => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("all slots are free, and {jobs} jobs were completed");
    Ok(())
}

/// Runs one job after the other until the client is closed. Returns the number of jobs.
async fn work(n: usize, pool: Semaphore) -> Result<u32, Error> {
    let mut jobs = 0;
    loop {
        let job = pool.with_slot(async |_| {
            println!("worker {n}: job starts");
            sleep(JOB).await;
            println!("worker {n}: job done");
        });
        match job.await {
            Ok(()) => jobs += 1,
            Err(error) if error.is_closed() => return Ok(jobs),
            Err(error) => return Err(error),
        }
    }
}

/// Stands in for the orchestrator if this program is run by hand.
async fn send_sigterm() -> rustix::io::Result<()> {
    sleep(3 * JOB).await;
    kill_process(getpid(), Signal::TERM)
}
