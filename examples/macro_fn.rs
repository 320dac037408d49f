//! Annotated functions under load, and what becomes of one whose slot is lost: on the embedded server, or on the servers of
//! `DFLOCK_SERVERS`, where no slot is lost on purpose.
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
static NOW: AtomicU32 = AtomicU32::new(0);
static MOST: AtomicU32 = AtomicU32::new(0);

/// At most three of them run at once for a tenant, on however many machines.
#[dflock::semaphore(key = "report:{tenant}", limit = SLOTS, acquire_timeout = "1m")]
async fn build_report(tenant: &str, day: u32) -> Result<String, Error> {
    let running = NOW.fetch_add(1, Ordering::SeqCst) + 1;
    MOST.fetch_max(running, Ordering::SeqCst);
    println!("day {day:>2}: {running} of {SLOTS} slots taken");
    sleep(Duration::from_millis(20)).await;
    NOW.fetch_sub(1, Ordering::SeqCst);
    Ok(format!("{tenant}, day {day}"))
}

/// One at a time, anywhere. It is never ready, and ends with its slot.
#[dflock::semaphore(key = "nightly", limit = 1, lease_ttl = "1s", slot = held)]
async fn nightly() -> Result<(), Error> {
    println!("nightly: holds a slot with a lease of {:?}", held.lease());
    loop {
        sleep(Duration::from_millis(100)).await;
        println!("nightly: at work");
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
    // for every annotated function of the program
    client.install_global()?;

    let mut reports = JoinSet::new();
    for day in 1..=12 {
        reports.spawn(build_report("acme", day));
    }
    while let Some(report) = reports.join_next().await {
        report??;
    }
    let most = MOST.load(Ordering::SeqCst);
    println!("most at once: {most} of {SLOTS}");
    assert!(most <= SLOTS, "the limit did not hold");

    if let Some(server) = server {
        let work = tokio::spawn(nightly());
        sleep(Duration::from_millis(300)).await;
        println!("the server ends the lease of `nightly`");
        server.faults().expire("nightly");
        let expired = Instant::now();
        let Err(error) = work.await? else {
            unreachable!("it never ends by itself")
        };
        assert!(error.is_lost());
        println!(
            "the body was stopped after {} ms, and the caller got: {error}",
            expired.elapsed().as_millis()
        );
    }
    Ok(())
}
