//! Instrumented body of a `with_slot`.

use std::convert::Infallible;

use dflock::Held;

use super::history::{Event, GrantId, Probe, ReleaseKind};
use super::run::Simulation;

pub(super) struct TrackedBody<'a> {
    simulation: &'a Simulation,
    held: &'a Held,
    slot: GrantId,
    /// True if the body ran to its end.
    finished: bool,
}

impl<'a> TrackedBody<'a> {
    pub(super) fn new(simulation: &'a Simulation, client: usize, held: &'a Held) -> Self {
        let slot = simulation.history.grant_id(held.token());
        let probe = if simulation.plan.polls_is_lost {
            Probe::Body
        } else {
            Probe::Disabled
        };
        simulation.history.record(Event::Acquired {
            client,
            key: held.key().into(),
            slot,
            lease: held.lease(),
            probe,
            in_body: true,
            further: Vec::new(),
        });
        Self {
            simulation,
            held,
            slot,
            finished: false,
        }
    }

    /// Runs `work`, and polls `is_lost` meanwhile if the plan observes slots.
    pub(super) async fn run(mut self, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            never = self.watch_is_lost() => match never {},
            () = work => {}
        }
        self.finished = true;
    }

    /// Polls `is_lost` at each event while the client runs. Only the body has access to the slot,
    /// so the history cannot do it.
    async fn watch_is_lost(&self) -> Infallible {
        let Some(mut changes) = self.simulation.history.changes() else {
            return std::future::pending().await;
        };
        let mut was_lost = false;
        loop {
            let lost = self.held.is_lost();
            if lost != was_lost {
                was_lost = lost;
                let slot = self.slot;
                self.simulation.history.record(if lost {
                    Event::ReportedLost { slot }
                } else {
                    Event::ReportedHeld { slot }
                });
            }
            changes
                .changed()
                .await
                .expect("the history outlives every body");
        }
    }
}

impl Drop for TrackedBody<'_> {
    fn drop(&mut self) {
        let kind = if self.finished {
            ReleaseKind::Release
        } else {
            ReleaseKind::Drop
        };
        self.simulation.history.record(Event::GivenUp {
            slot: self.slot,
            kind,
            was_held: !self.held.is_lost(),
        });
    }
}
