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

use super::dice::Dice;
use super::history::What;
use super::plan::{Fault, Planned};
use super::run::Stage;
use super::shard::Shard;

/// Advances time without running any task.
pub(super) fn jump(stage: &Stage, time: Duration) {
    stage.pauses.fetch_add(1, Ordering::Relaxed);
    let from = stage.history.begun().elapsed();
    let _ = pin!(tokio::time::advance(time)).poll(&mut Context::from_waker(Waker::noop()));
    stage.history.note(What::Jumped { from });
}

pub(super) struct Chaos {
    stage: Arc<Stage>,
    dice: Dice,
    shards: Vec<Shard>,
    /// Index of the connection that each `HalfOpen` fault affects.
    struck: Vec<Option<usize>>,
}

impl Chaos {
    pub(super) fn new(stage: &Arc<Stage>) -> Self {
        let struck = vec![None; stage.plan.faults.len()];
        let shards = (0..stage.plan.servers)
            .map(|index| Shard::new(stage, index))
            .collect();
        Self {
            stage: Arc::clone(stage),
            dice: Dice::new(stage.plan.seed, 3),
            shards,
            struck,
        }
    }

    /// Injects all faults, and ends all of them. Returns the servers, and the numbers of faults
    /// that had an effect.
    pub(super) async fn run(mut self) -> (Vec<Server>, BTreeMap<&'static str, u64>) {
        let mut faults = BTreeMap::new();
        let stage = Arc::clone(&self.stage);
        let mut steps: Vec<_> = stage
            .plan
            .faults
            .iter()
            .enumerate()
            .flat_map(|(i, p)| [(p.at, true, i), (p.at + p.lasts, false, i)])
            .collect();
        steps.sort_by_key(|(at, begins, i)| (*at, !begins, *i));
        for (at, begins, index) in steps {
            sleep_until(stage.history.begun() + at).await;
            let Planned { fault, lasts, .. } = &stage.plan.faults[index];
            if begins {
                stage.history.note(What::Fault(fault.clone()));
                if self.begin(index, fault, *lasts).await {
                    *faults.entry(fault.name()).or_default() += 1;
                }
            } else {
                self.end(index, fault);
                stage.history.note(What::Healed(fault.clone()));
            }
            self.shards.iter().for_each(Shard::apply);
        }
        (
            self.shards.into_iter().map(Shard::into_server).collect(),
            faults,
        )
    }

    /// Starts a fault and returns whether it had an effect. A lasting fault always counts, because
    /// it affects later connections, too.
    async fn begin(&mut self, index: usize, fault: &Fault, lasts: Duration) -> bool {
        let stage = &self.stage;
        match *fault {
            Fault::Partition { client, up, down } => stage.net.stall(client, up, down),
            Fault::HalfOpen { client, up, down } => {
                self.struck[index] = stage.net.stall_one(client, self.dice.index(60), up, down);
                return self.struck[index].is_some();
            }
            Fault::Reset { client, all } => {
                let throw = self.dice.index(60);
                return stage.net.reset(client, (!all).then_some(throw));
            }
            Fault::Busy { client } => {
                stage.pauses.fetch_add(1, Ordering::Relaxed);
                stage.net.keep_busy(client);
            }
            Fault::Jump => jump(stage, lasts),
            Fault::Freeze { shard } => self.shards[shard].freezes += 1,
            Fault::Restart { shard } => return self.shards[shard].stop().await,
            Fault::DelayReplies { shard, delay } => self.shards[shard].delays.push(delay),
            Fault::Refuse { shard } => self.shards[shard].refusals += 1,
            Fault::Disconnect { key } => {
                let key = &stage.plan.keys[key];
                return self.shards[key.shard].strike(
                    |there| is_used(&there, &key.name),
                    |server| server.faults().disconnect(&key.name),
                );
            }
            Fault::DisconnectAll { shard } => {
                return self.shards[shard].strike(
                    |there| there.connections > 0,
                    |server| server.faults().disconnect_all(),
                );
            }
            Fault::Expire { key } => {
                let key = &stage.plan.keys[key];
                return self.shards[key.shard].strike(
                    |there| is_held(&there, &key.name),
                    |server| _ = server.faults().expire(&key.name),
                );
            }
        }
        true
    }

    fn end(&mut self, index: usize, fault: &Fault) {
        let stage = &self.stage;
        match *fault {
            Fault::Partition { client, up, down } => stage.net.heal(client, up, down),
            Fault::HalfOpen { up, down, .. } => {
                if let Some(link) = self.struck[index] {
                    stage.net.heal_one(link, up, down);
                }
            }
            Fault::Busy { client } => {
                stage.pauses.fetch_add(1, Ordering::Relaxed);
                stage.net.let_run(client);
            }
            Fault::Freeze { shard } => self.shards[shard].freezes -= 1,
            Fault::Restart { shard } => self.shards[shard].go_on(),
            Fault::DelayReplies { shard, delay } => {
                let delays = &mut self.shards[shard].delays;
                let index = delays.iter().position(|d| *d == delay).expect("the fault has started");
                delays.remove(index);
            }
            Fault::Refuse { shard } => self.shards[shard].refusals -= 1,
            Fault::Jump
            | Fault::Reset { .. }
            | Fault::Disconnect { .. }
            | Fault::DisconnectAll { .. }
            | Fault::Expire { .. } => {}
        }
    }
}

/// Returns whether `key` has a holder or a waiter.
fn is_used(there: &Stats, key: &str) -> bool {
    there.semaphores.iter().any(|there| there.key == key)
        || there.locks.iter().any(|there| there.key == key)
}

fn is_held(there: &Stats, key: &str) -> bool {
    there
        .semaphores
        .iter()
        .any(|there| there.key == key && there.holders > 0)
        || there
            .locks
            .iter()
            .any(|there| there.key == key && there.owner_conn_id != 0)
}
