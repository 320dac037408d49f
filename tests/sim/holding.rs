//! Instrumented hold of a slot.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use dflock::{Error, Held};

use super::history::{How, Slot, What};
use super::pool::Pool;
use super::run::Stage;

/// A slot that is observed at each event. Giving it up is recorded, also by a drop.
pub(super) struct Holding {
    stage: Arc<Stage>,
    held: Option<Arc<Pool<Held>>>,
    slot: Slot,
}

impl Holding {
    pub(super) fn new(stage: &Arc<Stage>, client: usize, held: Pool<Held>) -> Self {
        let held = Arc::new(held);
        let slot = stage.history.had(client, &held);
        Self {
            stage: Arc::clone(stage),
            held: Some(held),
            slot,
        }
    }

    pub(super) fn note_told(&self, since: Duration) {
        self.stage.history.note(What::Told {
            slot: self.slot,
            since,
        });
    }

    /// Runs `work` until it ends or the slot is lost.
    pub(super) async fn work(&self, work: impl Future<Output = ()>) -> Result<(), Error> {
        let worked = || Worked {
            stage: &self.stage,
            slot: self.slot,
        };
        self.run(async {
            let _worked = worked();
            work.await;
        })
        .await
    }

    pub(super) async fn release(mut self) -> Result<(), Error> {
        let (slot, stage) = (self.slot, Arc::clone(&self.stage));
        let released = self.let_go(How::Release).release().await;
        let outcome = released.as_ref().map(drop).map_err(super::actor::name);
        stage.history.note(What::Released { slot, outcome });
        released
    }

    pub(super) fn close(mut self) {
        self.let_go(How::Close).close();
    }

    fn let_go(&mut self, how: How) -> Pool<Held> {
        let held = self.held.take().expect("only taken once");
        self.stage.history.note(What::Gone {
            slot: self.slot,
            how,
            believed: !held.is_lost(),
        });
        Arc::into_inner(held).expect("the history has weak references only")
    }
}

impl Deref for Holding {
    type Target = Held;

    fn deref(&self) -> &Held {
        self.held.as_ref().expect("only taken at the end")
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if self.held.is_some() {
            drop(self.let_go(How::Drop));
        }
    }
}

/// Guard that records on drop that the body of a `run` ended.
struct Worked<'a> {
    stage: &'a Stage,
    slot: Slot,
}

impl Drop for Worked<'_> {
    fn drop(&mut self) {
        self.stage.history.note(What::Worked { slot: self.slot });
    }
}
