//! Simulated server of one shard, and its current faults.

use std::sync::Arc;
use std::time::Duration;

use dflock::Stats;
use dflock::server::Server;
use tokio::time::sleep;

use super::history::Event;
use super::run::Simulation;

pub(super) struct SimServer {
    simulation: Arc<Simulation>,
    index: usize,
    /// `None` while it is stopped.
    server: Option<Server>,
    pub(super) stops: u32,
    pub(super) freezes: u32,
    pub(super) refusals: u32,
    pub(super) delays: Vec<Duration>,
}

impl SimServer {
    /// Starts the server with this index.
    pub(super) fn new(simulation: &Arc<Simulation>, index: usize) -> Self {
        let mut server = Self {
            simulation: Arc::clone(simulation),
            index,
            server: None,
            stops: 0,
            freezes: 0,
            refusals: 0,
            delays: Vec::new(),
        };
        server.start();
        server
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
    pub(super) fn inject(
        &self,
        affects: impl FnOnce(Stats) -> bool,
        apply: impl FnOnce(&Server),
    ) -> bool {
        let Some(server) = &self.server else {
            return false;
        };
        let affected = affects(server.stats());
        apply(server);
        affected
    }

    /// Stops the server. Returns whether it was running.
    pub(super) async fn stop(&mut self) -> bool {
        self.stops += 1;
        let Some(server) = self.server.take() else {
            return false;
        };
        self.simulation.net.set_listener(self.index, None);
        drop(server);
        // The tasks are aborted one by one, and each returns its slots.
        sleep(Duration::from_millis(1)).await;
        self.simulation
            .history
            .record(Event::Stopped { shard: self.index });
        true
    }

    pub(super) fn restart(&mut self) {
        self.stops -= 1;
        if self.stops == 0 {
            self.start();
        }
    }

    pub(super) fn into_server(self) -> Server {
        self.server.expect("each restart ends")
    }

    fn start(&mut self) {
        let plan = &self.simulation.plan;
        let (number, observer) = self.simulation.history.start_server(self.index);
        let config = Server::builder()
            .read_timeout(plan.read_timeout)
            .lease_sweep_interval(plan.sweep)
            .auto_release(plan.auto_release)
            .build()
            // Each server has another seed, so that tokens of a previous server are not valid.
            .seed(plan.seed.wrapping_mul(1000) + number as u64)
            .observer(observer);
        let server = config.start_in_memory().expect("valid options");
        self.simulation
            .net
            .set_listener(self.index, Some((server.connector(), number)));
        self.server = Some(server);
    }
}
