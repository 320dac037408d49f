//! Annotated functions under load, and the reaction of one to the loss of its slot.
//!
//! Uses the servers in `DFLOCK_SERVERS`, or the embedded server. Only the latter injects the loss.
//!
//! `cargo run --example macro_fn`

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dflock::server::Server;
use dflock::{Client, Error};
use dflock_examples::Outcome;
use tokio::task::JoinSet;
use tokio::time::sleep;

const SLOTS: u32 = 3;
static RUNNING: AtomicU32 = AtomicU32::new(0);
static MAX_RUNNING: AtomicU32 = AtomicU32::new(0);

/// Builds a report. At most three run at once for a tenant, on all machines together.
#[dflock::semaphore(key = "report:{tenant}", limit = SLOTS, acquire_timeout = "1m")]
async fn build_report(tenant: &str, day: u32) -> Result<String, Error> {
    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
    MAX_RUNNING.fetch_max(running, Ordering::SeqCst);
    println!("day {day:>2}: {running} of {SLOTS} slots taken");
    sleep(Duration::from_millis(20)).await;
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    Ok(format!("{tenant}, day {day}"))
}

/// Runs until its slot is lost. At most one runs at once, on all machines together.
#[dflock::semaphore(key = "nightly", limit = 1, lease_ttl = "1s", slot = held)]
async fn nightly() -> Result<(), Error> {
    println!("nightly: holds a slot with a lease of {:?}", held.lease());
    loop {
        sleep(Duration::from_millis(100)).await;
        println!("nightly: working");
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let server = match std::env::var_os("DFLOCK_SERVERS") {
        Some(_) => None,
        None => Some(Server::start().await?),
    };
    let client = server
        .as_ref()
        .map_or_else(Client::from_env, |server| Ok(server.client()))?;
    // Every annotated function of the program uses this client.
    client.install_global()?;

    let mut reports = JoinSet::new();
    for day in 1..=12 {
        reports.spawn(build_report("acme", day));
    }
    while let Some(report) = reports.join_next().await {
        report??;
    }
    let max_running = MAX_RUNNING.load(Ordering::SeqCst);
    println!("most at once: {max_running} of {SLOTS}");
    assert!(max_running <= SLOTS, "the limit was exceeded");

    if let Some(server) = server {
        let work = tokio::spawn(nightly());
        sleep(Duration::from_millis(300)).await;
        println!("the lease of `nightly` expires on the server");
        server.faults().expire("nightly");
        let expired = Instant::now();
        let Err(error) = work.await? else {
            unreachable!("`nightly` never returns `Ok`")
        };
        assert!(error.is_lost());
        println!(
            "the body was dropped after {} ms, and the caller got: {error}",
            expired.elapsed().as_millis()
        );
    }
    Ok(())
}
