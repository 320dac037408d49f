//! Job queue whose workers run at most two jobs of a tenant at once, across all of their processes.
//!
//! `cargo run --example apalis_limit` runs two workers of the job queue apalis. Each has a client
//! and a queue in memory, as in two processes. `SlotLayer` works with each backend of apalis. The
//! program counts the jobs of a tenant that run at once, and fails if the limit does not hold.
//!
//! In a job queue without layers, annotate the function of the job:
//! `#[dflock::semaphore(key = "tenant:{tenant}", limit = 2)]`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apalis_core::backend::TaskSink;
use apalis_core::backend::memory::MemoryStorage;
use apalis_core::task::Task;
use apalis_core::task::data::Data;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::event::Event;
use apalis_core::worker::ext::event_listener::EventListenerExt;
use dflock::tower::SlotLayer;
use dflock::{Client, Semaphore};
use dflock_examples::Outcome;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::sleep;

const WORKERS: usize = 2;
const JOBS: [(&str, usize); 2] = [("acme", 8), ("bolt", 3)];
const LIMIT: u32 = 2;

/// Job in the queue.
struct Report {
    tenant: &'static str,
    number: usize,
}

/// Counts of the jobs of a tenant, in all workers.
#[derive(Clone, Copy, Default)]
struct Count {
    running: u32,
    most: u32,
    done: usize,
}

/// Counts for each tenant, shared by the workers of this program.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<&'static str, Count>>>);

impl Counts {
    fn update(&self, tenant: &'static str, change: impl FnOnce(&mut Count)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(tenant).or_default());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let counts = Counts::default();
    let mut workers = JoinSet::new();
    let (client, _server) = dflock_examples::connect(1).await?;
    let (ended, mut ends) = mpsc::unbounded_channel();
    for worker in 1..=WORKERS {
        workers.spawn(work(worker, client.clone(), counts.clone(), ended.clone()));
    }
    let jobs = WORKERS * JOBS.iter().map(|(_, jobs)| jobs).sum::<usize>();
    for _ in 0..jobs {
        ends.recv().await.ok_or("the workers have ended")?;
    }
    workers.shutdown().await;

    for (tenant, jobs) in JOBS {
        let mut count = Count::default();
        counts.update(tenant, |counted| count = *counted);
        println!("{tenant}: {} jobs, {} at once", count.done, count.most);
        if count.done != WORKERS * jobs || count.most > LIMIT {
            return Err(format!("{tenant}: a job failed, or the limit did not hold").into());
        }
    }
    Ok(())
}

/// Runs the jobs in the queue of one worker. Sends a message at the end of each job.
async fn work(n: usize, client: Client, counts: Counts, ended: UnboundedSender<()>) -> Outcome {
    let mut queue = MemoryStorage::new();
    for (tenant, jobs) in JOBS {
        for number in 1..=jobs {
            queue.push(Report { tenant, number }).await?;
        }
    }
    // A job that waits for a slot is a task of the worker, so a job of another tenant overtakes it.
    // A limit of the whole worker, such as `ConcurrencyLimit`, would end that: the waiting jobs of
    // one tenant would take all of its places.
    let slot = SlotLayer::new(move |job: &Task<Report>| {
        Semaphore::builder()
            .key(format!("tenant:{}", job.args.tenant))
            .limit(LIMIT)
            // Four jobs of a tenant wait on the server, with a connection each, and the others in
            // this process.
            .local_queue(4)
            // After this time the job fails with `Error::Timeout`, and the queue may retry it.
            .acquire_timeout(Duration::from_secs(20))
            .client(client.clone())
            .build()
    });
    let worker = WorkerBuilder::new(format!("worker-{n}"))
        .backend(queue)
        .data(counts)
        .layer(slot)
        .on_event(move |_, event| match event {
            Event::Success(_) => _ = ended.send(()),
            Event::Error(error) => {
                eprintln!("worker {n}: {error}");
                _ = ended.send(());
            }
            _ => {}
        })
        .build(build_report);
    Ok(worker.run().await?)
}

async fn build_report(report: Report, counts: Data<Counts>) {
    let Report { tenant, number } = report;
    counts.update(tenant, |count| {
        count.running += 1;
        count.most = count.most.max(count.running);
    });
    println!("{tenant}: report {number} starts");
    sleep(Duration::from_millis(40)).await;
    counts.update(tenant, |count| {
        count.running -= 1;
        count.done += 1;
    });
}
