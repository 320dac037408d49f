//! Leader election of three replicas. Leaders fail in different ways; no two of them ever lead at
//! the same time.
//!
//! `cargo run --example leader`. The embedded server injects the faults. With other servers, only
//! the replicas that are killed and the resignation are shown.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Error, Leader, Leadership, Lock};
use dflock_examples::Outcome;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The number of leaders that are ended.
const TERMS: u32 = 12;

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let (client, servers) = dflock_examples::connect(1).await?;
    let overlaps = Overlaps::default();
    let mut replicas = Vec::new();
    for name in ["red", "green", "blue"] {
        replicas.push(Replica::start(name, &client, &overlaps)?);
    }
    for term in 0..TERMS {
        let leader = leader(&replicas).await;
        let mut leadership = replicas[leader].leadership.clone();
        // The leader does some work before it fails.
        sleep(Duration::from_millis(50)).await;
        match (term % 3, servers.first()) {
            (1, Some(server)) => disconnect(server, replicas[leader].name),
            (2, _) => replicas[leader].resign(),
            _ => {
                // A process that is killed: its connections close, and it starts again later.
                let killed = replicas.swap_remove(leader);
                println!("{} is killed", killed.name);
                killed.task.abort();
                replicas.push(Replica::start(killed.name, &client, &overlaps)?);
            }
        }
        let has_ended = |state: &Leadership| !matches!(state, Leadership::Leading { .. });
        leadership.wait_for(has_ended).await?;
    }
    for replica in &replicas {
        replica.task.abort();
    }
    println!(
        "{} terms, {} overlaps",
        overlaps.terms.load(Ordering::Relaxed),
        overlaps.found.load(Ordering::Relaxed)
    );
    if overlaps.found.load(Ordering::Relaxed) > 0 {
        return Err("two replicas led at the same time".into());
    }
    Ok(())
}

/// Closes the connection of the leader.
fn disconnect(server: &Server, name: &str) {
    println!("{name} is disconnected");
    server.faults().disconnect("scheduler");
}

/// A program of which several run, and one leads.
struct Replica {
    name: &'static str,
    task: JoinHandle<Result<(), Error>>,
    leadership: watch::Receiver<Leadership>,
    resign: watch::Sender<()>,
}

impl Replica {
    fn start(
        name: &'static str,
        client: &Client,
        overlaps: &Overlaps,
    ) -> Result<Self, dflock::ConfigError> {
        let scheduler = Lock::builder()
            .key("scheduler")
            .lease_ttl(Duration::from_secs(1))
            .client(client.clone())
            .build()?;
        let overlaps = overlaps.clone();
        let (resign, requested) = watch::channel(());
        let lead = scheduler.lead(async move |leader: &Leader| {
            let _term = overlaps.start();
            println!("{name} leads");
            // This receiver has not seen the requests that are sent from now on.
            let mut requested = requested.clone();
            requested.mark_unchanged();
            if requested.changed().await.is_ok() {
                println!("{name} resigns");
                leader.resign();
            }
            // The body is dropped here after a resignation.
            sleep(Duration::from_mins(1)).await;
        });
        Ok(Self {
            name,
            leadership: lead.watch(),
            task: tokio::spawn(lead),
            resign,
        })
    }

    fn resign(&self) {
        self.resign.send_replace(());
    }
}

/// Waits until a replica leads, and returns its index.
async fn leader(replicas: &[Replica]) -> usize {
    loop {
        let leads =
            |replica: &Replica| matches!(*replica.leadership.borrow(), Leadership::Leading { .. });
        if let Some(leader) = replicas.iter().position(leads) {
            return leader;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Counts the terms, and those that began while another one ran.
#[derive(Clone, Default)]
struct Overlaps {
    running: Arc<AtomicU32>,
    terms: Arc<AtomicU32>,
    found: Arc<AtomicU32>,
}

impl Overlaps {
    /// Counts a term until the returned guard is dropped.
    fn start(&self) -> Term {
        self.terms.fetch_add(1, Ordering::SeqCst);
        if self.running.fetch_add(1, Ordering::SeqCst) > 0 {
            self.found.fetch_add(1, Ordering::SeqCst);
        }
        Term(Arc::clone(&self.running))
    }
}

struct Term(Arc<AtomicU32>);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
