//! One simulation, from its seed to the check of its history.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Lost, Stats};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::actor::Actor;
use super::chaos::Chaos;
use super::clock::skewed;
use super::dice::Dice;
use super::history::{Entry, History, What};
use super::net::Net;
use super::plan::{ClientPlan, Key, Plan, SERVERS};
use super::pool::Pool;
use super::verdict::Verdict;

/// State that all parts of a simulation share.
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) history: Arc<History>,
    pub(super) net: Arc<Net>,
    /// Number of events that kept a program from running.
    pub(super) pauses: AtomicU64,
}

/// Result of one seed.
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Descriptions of violated invariants; empty if the run passed.
    pub violations: Vec<String>,
    /// Numbers of faults that had an effect, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Numbers of events, by kind.
    pub events: BTreeMap<&'static str, u64>,
    plan: Plan,
    entries: Vec<Entry>,
}

impl Outcome {
    /// Returns the whole history with one event per line. It is the same for the same seed.
    #[must_use]
    pub fn history(&self) -> String {
        let lines: Vec<_> = self.entries.iter().map(Entry::to_string).collect();
        format!("{}{}", self.plan, lines.join("\n"))
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("seed", &self.seed)
            .field("violations", &self.violations)
            .finish_non_exhaustive()
    }
}

/// Runs the simulation of `seed`.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play(seed))
}

async fn play(seed: u64) -> Outcome {
    let plan = Plan::new(seed);
    let history = History::new(Instant::now(), plan.watched);
    let net = Net::new(
        seed,
        plan.clients
            .iter()
            .map(|client| (client.up.clone(), client.down.clone())),
    );
    let stage = Arc::new(Stage {
        plan,
        history,
        net,
        pauses: AtomicU64::new(0),
    });
    let chaos = Chaos::new(&stage);
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut actors = cast(&stage);
    let (servers, faults) = chaos.run().await;
    // All faults have ended, so no operation can take long.
    let longest = stage.plan.length + Duration::from_mins(10);
    if timeout(longest, async {
        while actors.join_next().await.is_some() {}
    })
    .await
    .is_err()
    {
        stage
            .history
            .note(What::Wrong(format!("{} actors did not finish", actors.len())));
        actors.shutdown().await;
    }
    drop(actors);
    come_to_rest(&stage, &servers, tasks).await;

    let Stage {
        plan, history, net, ..
    } = Arc::into_inner(stage).expect("all clones were dropped");
    let entries = history.take_entries();
    let verdict = Verdict::of(&plan, history.begun(), &entries, &net.lock().links);
    Outcome {
        seed,
        violations: verdict.violations,
        faults,
        events: verdict.events,
        plan,
        entries,
    }
}

/// Spawns all actors. The actors of one client share its connections.
fn cast(stage: &Arc<Stage>) -> JoinSet<()> {
    let mut actors = JoinSet::new();
    let mut number = 0;
    for (index, plan) in stage.plan.clients.iter().enumerate() {
        let client = client(stage, index, plan);
        let pool = |(index, key): (usize, &Key)| {
            let history = Arc::clone(&stage.history);
            let on_lost = move |lost: &Lost| {
                history.note(What::OnLost {
                    slot: history.slot(&lost.token),
                    reason: lost.reason,
                });
            };
            Pool::new(&client, key, plan.leases[index], plan.renew_ratio, on_lost)
        };
        let pools: Vec<_> = stage.plan.keys.iter().enumerate().map(pool).collect();
        for _ in 0..plan.actors {
            number += 1;
            let dice = Dice::new(stage.plan.seed, 100 + number);
            let actor = Actor {
                stage: Arc::clone(stage),
                index,
                client: client.clone(),
                pools: pools.clone(),
                dice,
            };
            actors.spawn(actor.live());
        }
    }
    actors
}

fn client(stage: &Arc<Stage>, index: usize, plan: &ClientPlan) -> Client {
    let clock = skewed(stage.history.begun(), plan.per_million);
    Client::builder()
        .servers(SERVERS[..stage.plan.servers].iter().copied())
        .connector(stage.net.connector(index, clock))
        .server_read_timeout(stage.plan.read_timeout)
        .heartbeat(plan.heartbeat)
        .socket_timeout(plan.socket_timeout)
        .connect_timeout(plan.connect_timeout)
        .build()
        .expect("valid options")
}

/// Checks, after all actors have ended, that no holder, waiter, connection or task is left.
async fn come_to_rest(stage: &Stage, servers: &[Server], tasks: usize) {
    let wrong = |what: String| stage.history.note(What::Wrong(what));
    let plan = &stage.plan;
    // Packets on their way must arrive first. Without auto-release a cancelled wait can occupy its
    // slot for a lease.
    let owed = if plan.auto_release {
        Duration::ZERO
    } else {
        plan.longest_lease()
    };
    sleep(owed + 2 * plan.longest_latency() + Duration::from_millis(100)).await;
    for Stats {
        semaphores, locks, ..
    } in servers.iter().map(Server::stats)
    {
        if !semaphores.is_empty() || !locks.is_empty() {
            wrong(format!("still on the server: {semaphores:?} {locks:?}"));
        }
    }
    sleep(plan.read_timeout + Duration::from_secs(2)).await;
    let connections: u64 = servers
        .iter()
        .map(|server| server.stats().connections)
        .sum();
    if connections > 0 || stage.net.open() > 0 {
        wrong(format!(
            "{connections} connections on the servers and {} in the network are left",
            stage.net.open()
        ));
    }
    let left = Handle::current().metrics().num_alive_tasks();
    if left != tasks {
        wrong(format!("{left} tasks are left, {tasks} expected"));
    }
}
