//! Injects the planned faults.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use dflock::Stats;
use dflock::server::Server;
use tokio::time::sleep_until;

use super::history::Event;
use super::plan::{Fault, ScheduledFault};
use super::rng::Rng;
use super::run::Simulation;
use super::server::SimServer;

/// Advances time without running any task.
pub(super) fn advance_time(simulation: &Simulation, time: Duration) {
    simulation.pauses.fetch_add(1, Ordering::Relaxed);
    let from = simulation.history.start().elapsed();
    let _ = pin!(tokio::time::advance(time)).poll(&mut Context::from_waker(Waker::noop()));
    simulation.history.record(Event::TimeJumped { from });
}

pub(super) struct FaultInjector {
    simulation: Arc<Simulation>,
    rng: Rng,
    servers: Vec<SimServer>,
    /// Index of the connection that each `HalfOpen` fault affects.
    targets: Vec<Option<usize>>,
}

impl FaultInjector {
    pub(super) fn new(simulation: &Arc<Simulation>) -> Self {
        let targets = vec![None; simulation.plan.faults.len()];
        let servers = (0..simulation.plan.servers)
            .map(|index| SimServer::new(simulation, index))
            .collect();
        Self {
            simulation: Arc::clone(simulation),
            rng: Rng::new(simulation.plan.seed, 3),
            servers,
            targets,
        }
    }

    /// Injects all faults, and ends all of them. Returns the servers, and the numbers of faults
    /// that had an effect.
    pub(super) async fn run(mut self) -> (Vec<Server>, BTreeMap<&'static str, u64>) {
        let mut faults = BTreeMap::new();
        let simulation = Arc::clone(&self.simulation);
        let mut steps: Vec<_> = simulation
            .plan
            .faults
            .iter()
            .enumerate()
            .flat_map(|(i, p)| [(p.at, true, i), (p.at + p.duration, false, i)])
            .collect();
        steps.sort_by_key(|(at, starts, i)| (*at, !starts, *i));
        for (at, starts, index) in steps {
            sleep_until(simulation.history.start() + at).await;
            let ScheduledFault {
                fault, duration, ..
            } = &simulation.plan.faults[index];
            if starts {
                simulation
                    .history
                    .record(Event::FaultStarted(fault.clone()));
                if self.start(index, fault, *duration).await {
                    *faults.entry(fault.name()).or_default() += 1;
                }
            } else {
                self.end(index, fault);
                simulation.history.record(Event::FaultEnded(fault.clone()));
            }
            self.servers.iter().for_each(SimServer::apply);
        }
        (
            self.servers
                .into_iter()
                .map(SimServer::into_server)
                .collect(),
            faults,
        )
    }

    /// Starts a fault and returns whether it had an effect. A lasting fault always counts, because
    /// it affects later connections, too.
    async fn start(&mut self, index: usize, fault: &Fault, duration: Duration) -> bool {
        let simulation = &self.simulation;
        match *fault {
            Fault::Partition { client, up, down } => simulation.net.stall(client, up, down),
            Fault::HalfOpen { client, up, down } => {
                self.targets[index] =
                    simulation
                        .net
                        .stall_connection(client, self.rng.index(60), up, down);
                return self.targets[index].is_some();
            }
            Fault::Reset { client, all } => {
                let random = self.rng.index(60);
                return simulation.net.reset(client, (!all).then_some(random));
            }
            Fault::Busy { client } => {
                simulation.pauses.fetch_add(1, Ordering::Relaxed);
                simulation.net.start_busy(client);
            }
            Fault::Jump => advance_time(simulation, duration),
            Fault::Freeze { shard } => self.servers[shard].freezes += 1,
            Fault::Restart { shard } => return self.servers[shard].stop().await,
            Fault::DelayReplies { shard, delay } => self.servers[shard].delays.push(delay),
            Fault::Refuse { shard } => self.servers[shard].refusals += 1,
            Fault::Disconnect { key } => {
                let key = &simulation.plan.keys[key];
                return self.servers[key.shard].inject(
                    |stats| is_used(&stats, &key.name),
                    |server| server.faults().disconnect(&key.name),
                );
            }
            Fault::DisconnectAll { shard } => {
                return self.servers[shard].inject(
                    |stats| stats.connections > 0,
                    |server| server.faults().disconnect_all(),
                );
            }
            Fault::Expire { key } => {
                let key = &simulation.plan.keys[key];
                return self.servers[key.shard].inject(
                    |stats| is_held(&stats, &key.name),
                    |server| _ = server.faults().expire(&key.name),
                );
            }
        }
        true
    }

    fn end(&mut self, index: usize, fault: &Fault) {
        let simulation = &self.simulation;
        match *fault {
            Fault::Partition { client, up, down } => simulation.net.heal(client, up, down),
            Fault::HalfOpen { up, down, .. } => {
                if let Some(link) = self.targets[index] {
                    simulation.net.heal_connection(link, up, down);
                }
            }
            Fault::Busy { client } => {
                simulation.pauses.fetch_add(1, Ordering::Relaxed);
                simulation.net.end_busy(client);
            }
            Fault::Freeze { shard } => self.servers[shard].freezes -= 1,
            Fault::Restart { shard } => self.servers[shard].restart(),
            Fault::DelayReplies { shard, delay } => {
                let delays = &mut self.servers[shard].delays;
                let index = delays
                    .iter()
                    .position(|d| *d == delay)
                    .expect("the fault has started");
                delays.remove(index);
            }
            Fault::Refuse { shard } => self.servers[shard].refusals -= 1,
            Fault::Jump
            | Fault::Reset { .. }
            | Fault::Disconnect { .. }
            | Fault::DisconnectAll { .. }
            | Fault::Expire { .. } => {}
        }
    }
}

/// Returns whether `key` has a holder or a waiter.
fn is_used(stats: &Stats, key: &str) -> bool {
    stats.semaphores.iter().any(|entry| entry.key == key)
        || stats.locks.iter().any(|entry| entry.key == key)
}

fn is_held(stats: &Stats, key: &str) -> bool {
    stats
        .semaphores
        .iter()
        .any(|entry| entry.key == key && entry.holders > 0)
        || stats
            .locks
            .iter()
            .any(|entry| entry.key == key && entry.owner_conn_id != 0)
}
