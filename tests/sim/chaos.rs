//! Does what the plan says is to go wrong.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use dflock::Stats;
use dflock::server::Server;
use tokio::time::{sleep, sleep_until};

use super::dice::Dice;
use super::history::What;
use super::plan::{Fault, Planned};
use super::run::Stage;

/// Lets time pass without letting anybody run.
pub(super) fn jump(stage: &Stage, time: Duration) {
    stage.pauses.fetch_add(1, Ordering::Relaxed);
    let from = stage.history.begun().elapsed();
    let _ = pin!(tokio::time::advance(time)).poll(&mut Context::from_waker(Waker::noop()));
    stage.history.note(What::Jumped { from });
}

pub(super) struct Chaos {
    stage: Arc<Stage>,
    dice: Dice,
    /// None while it is down.
    server: Option<Server>,
    starts: u64,
    downs: u32,
    freezes: u32,
    refusals: u32,
    delays: Vec<Duration>,
    /// Which connection each fault of one connection struck.
    struck: Vec<Option<usize>>,
}

impl Chaos {
    pub(super) fn new(stage: &Arc<Stage>) -> Self {
        let struck = vec![None; stage.plan.faults.len()];
        let dice = Dice::new(stage.plan.seed, 3);
        let (starts, downs, freezes, refusals, delays) = (0, 0, 0, 0, Vec::new());
        let mut chaos = Self { stage: Arc::clone(stage), dice, server: None, starts, downs, freezes, refusals, delays, struck };
        chaos.start();
        chaos
    }

    /// Does all of it; in the end everything works again. How many faults of each kind struck something.
    pub(super) async fn run(mut self) -> (Server, BTreeMap<&'static str, u64>) {
        let mut faults = BTreeMap::new();
        let stage = Arc::clone(&self.stage);
        let mut steps: Vec<_> =
            stage.plan.faults.iter().enumerate().flat_map(|(i, p)| [(p.at, true, i), (p.at + p.lasts, false, i)]).collect();
        steps.sort_by_key(|(at, begins, i)| (*at, !begins, *i));
        for (at, begins, index) in steps {
            sleep_until(stage.history.begun() + at).await;
            let Planned { fault, lasts, .. } = &stage.plan.faults[index];
            if begins {
                stage.history.note(What::Fault(format!("{fault:?}")));
                if self.begin(index, fault, *lasts).await {
                    *faults.entry(fault.name()).or_default() += 1;
                }
            } else {
                self.end(index, fault);
                stage.history.note(What::Healed(format!("{fault:?}")));
            }
            self.apply();
        }
        (self.server.expect("each restart has an end"), faults)
    }

    /// Whether there was something that it struck. What lasts strikes what comes while it does, too.
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
            Fault::Freeze => self.freezes += 1,
            Fault::Restart => return self.stop().await,
            Fault::DelayReplies { delay } => self.delays.push(delay),
            Fault::Refuse => self.refusals += 1,
            Fault::Disconnect { key } => {
                let key = &stage.plan.keys[key].0;
                return self
                    .strike(|there| there.semaphores.iter().any(|there| there.key == *key), |server| server.faults().disconnect(key));
            }
            Fault::DisconnectAll => return self.strike(|there| there.connections > 0, |server| server.faults().disconnect_all()),
            Fault::Expire { key } => {
                let key = &stage.plan.keys[key].0;
                let is_held = |there: Stats| there.semaphores.iter().any(|there| there.key == *key && there.holders > 0);
                return self.strike(is_held, |server| server.faults().expire(key));
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
            Fault::Freeze => self.freezes -= 1,
            Fault::Restart => {
                self.downs -= 1;
                if self.downs == 0 {
                    self.start();
                }
            }
            Fault::DelayReplies { delay } => {
                let index = self.delays.iter().position(|d| *d == delay).expect("it began");
                self.delays.remove(index);
            }
            Fault::Refuse => self.refusals -= 1,
            Fault::Jump | Fault::Reset { .. } | Fault::Disconnect { .. } | Fault::DisconnectAll | Fault::Expire { .. } => {}
        }
    }

    /// The server is as frozen, slow and unwilling as all faults of now make it.
    fn apply(&self) {
        let Some(server) = &self.server else { return };
        let faults = server.faults();
        if self.freezes > 0 {
            faults.freeze();
        } else {
            faults.thaw();
        }
        faults.refuse_connections(self.refusals > 0);
        faults.delay_replies(self.delays.iter().copied().max().unwrap_or_default());
    }

    /// Does it to the server, if there is one, and says whether anything there was struck.
    fn strike(&self, strikes: impl FnOnce(Stats) -> bool, act: impl FnOnce(&Server)) -> bool {
        let Some(server) = &self.server else { return false };
        let struck = strikes(server.stats());
        act(server);
        struck
    }

    /// Whether there was one to stop.
    async fn stop(&mut self) -> bool {
        self.downs += 1;
        let Some(server) = self.server.take() else { return false };
        self.stage.net.serve(None);
        drop(server);
        // its tasks are aborted one by one, and each gives up what it had
        sleep(Duration::from_millis(1)).await;
        self.stage.history.note(What::Stopped);
        true
    }

    fn start(&mut self) {
        let plan = &self.stage.plan;
        self.starts += 1;
        let (number, observer) = self.stage.history.start_server();
        let config = Server::builder()
            .read_timeout(plan.read_timeout)
            .lease_sweep_interval(plan.sweep)
            .auto_release(plan.auto_release)
            .build()
            // another for each, or an old token would be good on a new server
            .seed(plan.seed.wrapping_mul(1000) + self.starts)
            .observer(observer);
        let server = config.start_in_memory().expect("the options are good");
        self.stage.net.serve(Some((server.connector(), number)));
        self.server = Some(server);
    }
}
