//! Instrumented hold of a slot.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use dflock::{Error, Held};

use super::history::{Event, GrantId, ReleaseKind};
use super::resource::Resource;
use super::run::Simulation;

/// A slot that is observed at each event. Giving it up is recorded, also by a drop.
pub(super) struct TrackedHold {
    simulation: Arc<Simulation>,
    held: Option<Arc<Resource<Held>>>,
    slot: GrantId,
}

impl TrackedHold {
    pub(super) fn new(simulation: &Arc<Simulation>, client: usize, held: Resource<Held>) -> Self {
        let held = Arc::new(held);
        let slot = simulation.history.record_acquired(client, &held);
        Self {
            simulation: Arc::clone(simulation),
            held: Some(held),
            slot,
        }
    }

    pub(super) fn slot(&self) -> GrantId {
        self.slot
    }

    pub(super) fn record_notified(&self, since: Duration) {
        self.simulation.history.record(Event::LossNotified {
            slot: self.slot,
            since,
        });
    }

    /// Runs `work` until it ends or the slot is lost.
    pub(super) async fn run_tracked(&self, work: impl Future<Output = ()>) -> Result<(), Error> {
        let marker = || DoneMarker {
            simulation: &self.simulation,
            slot: self.slot,
        };
        self.run(async {
            let _marker = marker();
            work.await;
        })
        .await
    }

    pub(super) async fn release(mut self) -> Result<(), Error> {
        let (slot, simulation) = (self.slot, Arc::clone(&self.simulation));
        let released = self.finish(ReleaseKind::Release).release().await;
        let outcome = released
            .as_ref()
            .map(drop)
            .map_err(super::actor::error_kind);
        simulation
            .history
            .record(Event::ReleaseReturned { slot, outcome });
        released
    }

    pub(super) fn close(mut self) {
        self.finish(ReleaseKind::Close).close();
    }

    fn finish(&mut self, kind: ReleaseKind) -> Resource<Held> {
        let held = self.held.take().expect("only taken once");
        self.simulation.history.record(Event::GivenUp {
            slot: self.slot,
            kind,
            was_held: !held.is_lost(),
        });
        Arc::into_inner(held).expect("the history has weak references only")
    }
}

impl Deref for TrackedHold {
    type Target = Held;

    fn deref(&self) -> &Held {
        self.held.as_ref().expect("only taken at the end")
    }
}

impl Drop for TrackedHold {
    fn drop(&mut self) {
        if self.held.is_some() {
            drop(self.finish(ReleaseKind::Drop));
        }
    }
}

/// Guard that records on drop that the body of a `run` ended.
struct DoneMarker<'a> {
    simulation: &'a Simulation,
    slot: GrantId,
}

impl Drop for DoneMarker<'_> {
    fn drop(&mut self) {
        self.simulation
            .history
            .record(Event::RunEnded { slot: self.slot });
    }
}
