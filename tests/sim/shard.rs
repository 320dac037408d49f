//! One of the servers that the keys are spread over, and what is wrong with it.

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
    /// None while it is down.
    server: Option<Server>,
    pub(super) downs: u32,
    pub(super) freezes: u32,
    pub(super) refusals: u32,
    pub(super) delays: Vec<Duration>,
}

impl Shard {
    /// The server of this index, which runs.
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

    /// The server is as frozen, slow and unwilling as all faults of now make it.
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

    /// Does it to the server, if there is one, and says whether anything there was struck.
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

    /// Whether there was one to stop.
    pub(super) async fn stop(&mut self) -> bool {
        self.downs += 1;
        let Some(server) = self.server.take() else {
            return false;
        };
        self.stage.net.serve(self.index, None);
        drop(server);
        // its tasks are aborted one by one, and each gives up what it had
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
        self.server.expect("each restart has an end")
    }

    fn start(&mut self) {
        let plan = &self.stage.plan;
        let (number, observer) = self.stage.history.start_server(self.index);
        let config = Server::builder()
            .read_timeout(plan.read_timeout)
            .lease_sweep_interval(plan.sweep)
            .auto_release(plan.auto_release)
            .build()
            // another for each, or an old token would be good on a new server
            .seed(plan.seed.wrapping_mul(1000) + number as u64)
            .observer(observer);
        let server = config.start_in_memory().expect("the options are good");
        self.stage
            .net
            .serve(self.index, Some((server.connector(), number)));
        self.server = Some(server);
    }
}
