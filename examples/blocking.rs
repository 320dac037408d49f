//! Threads without async that share slots. One of them loses its slot, and stops its work.
//!
//! `cargo run --example blocking`

use std::panic::resume_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use dflock::blocking::{Client, Held, Semaphore};
use dflock::server::Server;
use dflock::{Error, Lost};
use dflock_examples::Outcome;
use tokio::runtime::Runtime;

const THREADS: usize = 4;
const SLOTS: u32 = 2;
const JOBS: usize = 5;
const STEP: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    dflock_examples::finish(run())
}

fn run() -> Outcome {
    // Only for the embedded server: the client needs no runtime.
    let runtime = Runtime::new()?;
    let server = match std::env::var_os("DFLOCK_SERVERS") {
        Some(_) => None,
        None => Some(runtime.block_on(Server::start())?),
    };
    let client = match &server {
        Some(server) => server.client_builder().build_blocking()?,
        None => Client::from_env()?,
    };

    let pool = client.semaphore("worker-pool", SLOTS)?;
    let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let workers = [(); THREADS].map(|()| scope.spawn(|| work(&pool, &now, &most)));
        for worker in workers {
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        Ok::<_, Error>(())
    })?;
    println!("{THREADS} threads did {JOBS} jobs each");

    if let Some(server) = &server {
        let report = client.semaphore("report", 1)?;
        let written = report.with_slot(|held| {
            server.faults().disconnect("report");
            write_report(held)
        });
        match written {
            Ok(_) => println!("the report is complete"),
            Err(error) => println!("the report is not complete: {error}"),
        }
    }

    // Acquires fail from here on, and the call returns when no slot is held any more.
    client.close();
    println!("most holders at once: {} of {SLOTS}", most.into_inner());
    Ok(())
}

/// Does the jobs of a thread, each with a slot.
fn work(pool: &Semaphore, now: &AtomicU32, most: &AtomicU32) -> Result<(), Error> {
    for _ in 0..JOBS {
        pool.with_slot(|_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(STEP);
            now.fetch_sub(1, Ordering::SeqCst);
        })?;
    }
    Ok(())
}

/// Writes rows until the slot is lost. A closure cannot be stopped, so the function checks the slot
/// before each row.
fn write_report(held: &Held) -> Result<(), Lost> {
    for row in 0..100 {
        held.check()?;
        println!("row {row}");
        thread::sleep(STEP);
    }
    Ok(())
}
