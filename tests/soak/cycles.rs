//! Many short cycles of acquire and release in one process, cancelled at every point, on a server
//! with faults. Afterwards no descriptor, task, connection, holder or waiter may be left.

use std::fmt;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Enqueued, Error, Semaphore};
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::{elapsed, now};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

/// Number of concurrent workers.
const WORKERS: u64 = 8;

/// Keys and their limits.
const KEYS: [(&str, u32); 3] = [("one", 1), ("two", 2), ("three", 3)];

/// Time in which resources must be freed after the last cycle.
const FREE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `cycles` cycles. Returns whether all resources were freed.
pub(crate) fn run(cycles: u64, seed: u64) -> HarnessResult<bool> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(compare(cycles, seed))
}

async fn compare(cycles: u64, seed: u64) -> HarnessResult<bool> {
    let server = Arc::new(Server::start().await?);
    let began = now();
    let before = ResourceCounts::new(&server)?;
    let counts = run_cycles(&server, cycles, seed).await?;
    let after = wait_until_freed(&server, before).await?;
    println!(
        "{cycles} cycles, seed {seed}, {:.1} s\n\n{counts}\n",
        elapsed(began).as_secs_f64()
    );
    println!("before: {before}\nafter:  {after}");
    Ok(before == after)
}

/// Runs all cycles with one client, and drops it.
async fn run_cycles(server: &Arc<Server>, cycles: u64, seed: u64) -> HarnessResult<Counts> {
    let counts = Arc::new(Counts::default());
    let client = server
        .client_builder()
        .socket_timeout(Duration::from_secs(1))
        .build()?;
    let mut faults = JoinSet::new();
    faults.spawn(inject_faults(
        server.clone(),
        StdRng::seed_from_u64(seed),
        counts.clone(),
    ));
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let share = cycles / WORKERS + u64::from(worker < cycles % WORKERS);
        let rng = StdRng::seed_from_u64(seed.wrapping_add(worker + 1));
        workers.spawn(work(client.clone(), share, rng, counts.clone()));
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    faults.shutdown().await;
    heal(server);
    Ok(Arc::into_inner(counts).unwrap_or_default())
}

async fn work(
    client: Client,
    cycles: u64,
    mut rng: StdRng,
    counts: Arc<Counts>,
) -> HarnessResult<()> {
    for _ in 0..cycles {
        let (key, limit) = KEYS[rng.random_range(0..KEYS.len())];
        let semaphore = Semaphore::builder()
            .key(key)
            .limit(limit)
            .lease_ttl(Duration::from_secs(1))
            .client(client.clone())
            .build()?;
        let kind = rng.random_range(0..CYCLES.len());
        // Faults make cycles fail; such a failure is counted, but is not an error.
        match cycle(kind, semaphore, rng.random_range(0..60)).await {
            Ok(()) => counts.cycles[kind]
                .succeeded
                .fetch_add(1, Ordering::Relaxed),
            Err(_) => counts.cycles[kind].failed.fetch_add(1, Ordering::Relaxed),
        };
    }
    Ok(())
}

/// Ways in which a slot, or the attempt to get one, ends.
const CYCLES: [&str; 12] = [
    "acquire, release",
    "acquire, drop",
    "acquire, close",
    "acquire cancelled",
    "renew cancelled",
    "release cancelled",
    "enqueue, drop",
    "enqueue, wait, release",
    "wait cancelled",
    "with_slot cancelled",
    "panic in with_slot",
    "task aborted",
];

async fn cycle(kind: usize, semaphore: Semaphore, polls: u32) -> Result<(), Error> {
    match CYCLES[kind] {
        "acquire, release" => semaphore.acquire().await?.release().await.map(drop),
        "acquire, drop" => semaphore.acquire().await.map(drop),
        "acquire, close" => {
            semaphore.acquire().await?.close();
            Ok(())
        }
        "acquire cancelled" => {
            poll_at_most(polls, semaphore.acquire()).await;
            Ok(())
        }
        "renew cancelled" => {
            let held = semaphore.acquire().await?;
            poll_at_most(polls, held.renew()).await;
            held.release().await.map(drop)
        }
        "release cancelled" => {
            poll_at_most(polls, semaphore.acquire().await?.release()).await;
            Ok(())
        }
        "enqueue, drop" => semaphore.enqueue().await.map(drop),
        "enqueue, wait, release" => semaphore
            .enqueue()
            .await?
            .wait()
            .await?
            .release()
            .await
            .map(drop),
        "wait cancelled" => {
            if let Enqueued::Queued(queued) = semaphore.enqueue().await? {
                poll_at_most(polls, queued.wait()).await;
            }
            Ok(())
        }
        "with_slot cancelled" => {
            poll_at_most(polls, semaphore.with_slot(async |held| held.lost().await)).await;
            Ok(())
        }
        "panic in with_slot" => {
            // Unlike `panic!`, this prints no message.
            let body = async move {
                semaphore
                    .with_slot(async |_| resume_unwind(Box::new("in the body")))
                    .await
            };
            tokio::spawn(body).await.unwrap_or(Ok(()))
        }
        _ => {
            let task = tokio::spawn(async move { semaphore.acquire().await?.renew().await });
            for _ in 0..polls {
                yield_now().await;
            }
            task.abort();
            task.await.unwrap_or(Ok(()))
        }
    }
}

/// Polls `future` at most `polls` times, yields after each poll, and drops it.
async fn poll_at_most<F: Future>(polls: u32, future: F) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await {
            return;
        }
        yield_now().await;
    }
}

/// Faults of the server.
const FAULTS: [&str; 6] = [
    "lease expired",
    "key disconnected",
    "all disconnected",
    "frozen",
    "connections refused",
    "replies delayed",
];

async fn inject_faults(server: Arc<Server>, mut rng: StdRng, counts: Arc<Counts>) {
    loop {
        sleep(Duration::from_millis(rng.random_range(1..6))).await;
        let fault = rng.random_range(0..FAULTS.len());
        let (key, _) = KEYS[rng.random_range(0..KEYS.len())];
        let faults = server.faults();
        match FAULTS[fault] {
            "lease expired" => _ = faults.expire(key),
            "key disconnected" => faults.disconnect(key),
            "all disconnected" => faults.disconnect_all(),
            "frozen" => faults.freeze(),
            "connections refused" => faults.refuse_connections(true),
            _ => faults.delay_replies(Duration::from_millis(1)),
        }
        counts.faults[fault].fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(rng.random_range(1..4))).await;
        heal(&server);
    }
}

fn heal(server: &Server) {
    let faults = server.faults();
    faults.thaw();
    faults.refuse_connections(false);
    faults.delay_replies(Duration::ZERO);
}

/// Numbers of resources in use in this process and on its server.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ResourceCounts {
    descriptors: usize,
    tasks: usize,
    connections: u64,
    holders: u64,
    waiters: u64,
}

impl ResourceCounts {
    fn new(server: &Server) -> HarnessResult<Self> {
        let stats = server.stats();
        Ok(Self {
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            connections: stats.connections,
            holders: stats
                .semaphores
                .iter()
                .map(|semaphore| semaphore.holders)
                .sum(),
            waiters: stats
                .semaphores
                .iter()
                .map(|semaphore| semaphore.waiters)
                .sum(),
        })
    }
}

/// Waits until the counts equal `before`. Returns the last counts, which differ if the time is
/// over.
async fn wait_until_freed(
    server: &Server,
    before: ResourceCounts,
) -> HarnessResult<ResourceCounts> {
    let end = now() + FREE_TIMEOUT;
    loop {
        let current = ResourceCounts::new(server)?;
        if current == before || now() > end {
            return Ok(current);
        }
        sleep(Duration::from_millis(1)).await;
    }
}

impl fmt::Display for ResourceCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            descriptors,
            tasks,
            connections,
            holders,
            waiters,
        } = self;
        write!(
            f,
            "{descriptors} descriptors, {tasks} tasks; \
             server: {connections} connections, {holders} holders, {waiters} waiters"
        )
    }
}

/// Numbers of finished cycles and injected faults.
#[derive(Debug, Default)]
struct Counts {
    cycles: [CycleCounts; CYCLES.len()],
    faults: [AtomicU64; FAULTS.len()],
}

#[derive(Debug, Default)]
struct CycleCounts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        writeln!(
            f,
            "| cycle | succeeded | failed because of a fault |\n|---|---|---|"
        )?;
        for (name, CycleCounts { succeeded, failed }) in CYCLES.iter().zip(&self.cycles) {
            writeln!(f, "| {name} | {} | {} |", count(succeeded), count(failed))?;
        }
        write!(f, "\n| fault | count |\n|---|---|")?;
        for (name, times) in FAULTS.iter().zip(&self.faults) {
            write!(f, "\n| {name} | {} |", count(times))?;
        }
        Ok(())
    }
}
