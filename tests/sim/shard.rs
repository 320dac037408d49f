//! Simulated server of one shard, and its current faults.

use std::sync::Arc;
use std::time::Duration;

use dflock::Stats;
use dflock::server::Server;
use tokio::time::sleep;

use super::history::What;
use super::run::Stage;

pub(super) struct Shard {
    stage: Arc<Stage>,
    index: usize,
    /// `None` while it is stopped.
    server: Option<Server>,
    pub(super) downs: u32,
    pub(super) freezes: u32,
    pub(super) refusals: u32,
    pub(super) delays: Vec<Duration>,
}

impl Shard {
    /// Starts the server with this index.
    pub(super) fn new(stage: &Arc<Stage>, index: usize) -> Self {
        let mut shard = Self {
            stage: Arc::clone(stage),
            index,
            server: None,
            downs: 0,
            freezes: 0,
            refusals: 0,
            delays: Vec::new(),
        };
        shard.start();
        shard
    }

    /// Applies the faults that are active now.
    pub(super) fn apply(&self) {
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

    /// Applies a fault to the server. Returns whether the server runs and `affects` returns true
    /// for its state.
    pub(super) fn strike(
        &self,
        strikes: impl FnOnce(Stats) -> bool,
        act: impl FnOnce(&Server),
    ) -> bool {
        let Some(server) = &self.server else {
            return false;
        };
        let struck = strikes(server.stats());
        act(server);
        struck
    }

    /// Stops the server. Returns whether it was running.
    pub(super) async fn stop(&mut self) -> bool {
        self.downs += 1;
        let Some(server) = self.server.take() else {
            return false;
        };
        self.stage.net.serve(self.index, None);
        drop(server);
        // The tasks are aborted one by one, and each returns its slots.
        sleep(Duration::from_millis(1)).await;
        self.stage.history.note(What::Stopped { shard: self.index });
        true
    }

    pub(super) fn go_on(&mut self) {
        self.downs -= 1;
        if self.downs == 0 {
            self.start();
        }
    }

    pub(super) fn into_server(self) -> Server {
        self.server.expect("each restart ends")
    }

    fn start(&mut self) {
        let plan = &self.stage.plan;
        let (number, observer) = self.stage.history.start_server(self.index);
        let config = Server::builder()
            .read_timeout(plan.read_timeout)
            .lease_sweep_interval(plan.sweep)
            .auto_release(plan.auto_release)
            .build()
            // Each server has another seed, so that tokens of a previous server are not valid.
            .seed(plan.seed.wrapping_mul(1000) + number as u64)
            .observer(observer);
        let server = config.start_in_memory().expect("valid options");
        self.stage
            .net
            .serve(self.index, Some((server.connector(), number)));
        self.server = Some(server);
    }
}
