//! One simulation, from its seed to the check of its history.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Lost, Stats};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::actor::{Actor, pause_while_busy};
use super::checker::CheckResult;
use super::clock::skewed;
use super::fault_injector::FaultInjector;
use super::history::{Entry, Event, History};
use super::net::Net;
use super::plan::{ClientPlan, Key, Plan, SERVERS};
use super::resource::Resource;
use super::rng::Rng;

/// State that all parts of a simulation share.
pub(super) struct Simulation {
    pub(super) plan: Plan,
    pub(super) history: Arc<History>,
    pub(super) net: Arc<Net>,
    /// Number of events that kept a program from running.
    pub(super) pauses: AtomicU64,
    /// Time at which each client began to close.
    pub(super) closes: Vec<OnceLock<Instant>>,
}

impl Simulation {
    /// Closes `client` at the planned time. The program of a busy client does not run.
    async fn close(self: Arc<Self>, index: usize, client: Client, at: Duration) {
        sleep_until(self.history.start() + at).await;
        let simulation = Arc::clone(&self);
        let close = async move {
            let _ = self.closes[index].set(Instant::now());
            self.history.record(Event::CloseStarted { client: index });
            client.close().await;
            self.history.record(Event::Closed { client: index });
        };
        pause_while_busy(simulation, index, close).await;
    }
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
    runtime.block_on(run_seed(seed))
}

async fn run_seed(seed: u64) -> Outcome {
    let plan = Plan::new(seed);
    let history = History::new(Instant::now(), plan.polls_is_lost);
    let net = Net::new(
        seed,
        plan.clients
            .iter()
            .map(|client| (client.up.clone(), client.down.clone())),
    );
    let closes = plan.clients.iter().map(|_| OnceLock::new()).collect();
    let simulation = Arc::new(Simulation {
        closes,
        plan,
        history,
        net,
        pauses: AtomicU64::new(0),
    });
    let injector = FaultInjector::new(&simulation);
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut actors = spawn_actors(&simulation);
    let (servers, faults) = injector.run().await;
    // All faults have ended, so no operation can take long.
    let longest = simulation.plan.length + Duration::from_mins(10);
    if timeout(longest, async {
        while actors.join_next().await.is_some() {}
    })
    .await
    .is_err()
    {
        simulation.history.record(Event::Violation(format!(
            "{} actors did not finish",
            actors.len()
        )));
        actors.shutdown().await;
    }
    drop(actors);
    check_quiescent(&simulation, &servers, tasks).await;

    let Simulation {
        plan, history, net, ..
    } = Arc::into_inner(simulation).expect("all clones were dropped");
    let entries = history.take_entries();
    let result = CheckResult::check(&plan, history.start(), &entries, &net.lock().links);
    Outcome {
        seed,
        violations: result.violations,
        faults,
        events: result.events,
        plan,
        entries,
    }
}

/// Spawns all actors. The actors of one client share its connections.
fn spawn_actors(simulation: &Arc<Simulation>) -> JoinSet<()> {
    let mut actors = JoinSet::new();
    let mut number = 0;
    for (index, plan) in simulation.plan.clients.iter().enumerate() {
        let client = client(simulation, index, plan);
        let resource = |(index, key): (usize, &Key)| {
            let history = Arc::clone(&simulation.history);
            let on_lost = move |lost: &Lost| {
                history.record(Event::OnLost {
                    slot: history.grant_id(&lost.token),
                    reason: lost.reason,
                });
            };
            let max_hold = plan.max_holds[index];
            Resource::new(
                &client,
                key,
                plan.leases[index],
                plan.renew_ratio,
                max_hold,
                on_lost,
            )
        };
        let resources: Vec<_> = simulation
            .plan
            .keys
            .iter()
            .enumerate()
            .map(resource)
            .collect();
        if let Some(at) = plan.close_at {
            actors.spawn(Arc::clone(simulation).close(index, client.clone(), at));
        }
        for _ in 0..plan.actors {
            number += 1;
            let rng = Rng::new(simulation.plan.seed, 100 + number);
            let actor = Actor {
                simulation: Arc::clone(simulation),
                index,
                client: client.clone(),
                resources: resources.clone(),
                rng,
            };
            actors.spawn(actor.run());
        }
    }
    actors
}

fn client(simulation: &Arc<Simulation>, index: usize, plan: &ClientPlan) -> Client {
    let clock = skewed(simulation.history.start(), plan.per_million);
    Client::builder()
        .servers(SERVERS[..simulation.plan.servers].iter().copied())
        .connector(simulation.net.connector(index, clock))
        .server_read_timeout(simulation.plan.read_timeout)
        .heartbeat(plan.heartbeat)
        .socket_timeout(plan.socket_timeout)
        .connect_timeout(plan.connect_timeout)
        .build()
        .expect("valid options")
}

/// Checks, after all actors have ended, that no holder, waiter, connection or task is left.
async fn check_quiescent(simulation: &Simulation, servers: &[Server], tasks: usize) {
    let violation = |what: String| simulation.history.record(Event::Violation(what));
    let plan = &simulation.plan;
    // Packets on their way must arrive first. Without auto-release a cancelled wait can occupy its
    // slot for a lease.
    let owed = if plan.auto_release {
        Duration::ZERO
    } else {
        plan.longest_lease()
    };
    let owed = owed.max(plan.longest_min_hold());
    sleep(owed + 2 * plan.longest_latency() + Duration::from_millis(100)).await;
    for Stats {
        semaphores, locks, ..
    } in servers.iter().map(Server::stats)
    {
        if !semaphores.is_empty() || !locks.is_empty() {
            violation(format!("still on the server: {semaphores:?} {locks:?}"));
        }
    }
    sleep(plan.read_timeout + Duration::from_secs(2)).await;
    let connections: u64 = servers
        .iter()
        .map(|server| server.stats().connections)
        .sum();
    if connections > 0 || simulation.net.open_connections() > 0 {
        violation(format!(
            "{connections} connections on the servers and {} in the network are left",
            simulation.net.open_connections()
        ));
    }
    let left = Handle::current().metrics().num_alive_tasks();
    if left != tasks {
        violation(format!("{left} tasks are left, {tasks} expected"));
    }
}
