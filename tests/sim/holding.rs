//! A slot in a user's hands, and what he tells of it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use dflock::{Error, Held, Semaphore};

use super::history::{How, Slot, What};
use super::run::Stage;

/// A slot that will be asked for its user's belief at each event. Dropped, it says so.
pub(super) struct Holding {
    stage: Arc<Stage>,
    held: Option<Arc<Semaphore<Held>>>,
    slot: Slot,
}

impl Holding {
    pub(super) fn new(stage: &Arc<Stage>, client: usize, held: Semaphore<Held>) -> Self {
        let held = Arc::new(held);
        let slot = stage.history.had(client, &held);
        Self { stage: Arc::clone(stage), held: Some(held), slot }
    }

    pub(super) fn note_told(&self, since: Duration) {
        self.stage.history.note(What::Told { slot: self.slot, since });
    }

    pub(super) async fn release(mut self) -> Result<Semaphore, Error> {
        let (slot, stage) = (self.slot, Arc::clone(&self.stage));
        let released = self.let_go(How::Release).release().await;
        let outcome = released.as_ref().map(drop).map_err(super::actor::name);
        stage.history.note(What::Released { slot, outcome });
        released
    }

    pub(super) fn close(mut self) {
        self.let_go(How::Close).close();
    }

    fn let_go(&mut self, how: How) -> Semaphore<Held> {
        let held = self.held.take().expect("let go of once");
        self.stage.history.note(What::Gone { slot: self.slot, how, believed: !held.is_lost() });
        Arc::into_inner(held).expect("the history keeps none")
    }
}

impl Deref for Holding {
    type Target = Held;

    fn deref(&self) -> &Held {
        self.held.as_ref().expect("held until let go of")
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if self.held.is_some() {
            drop(self.let_go(How::Drop));
        }
    }
}

/// A slot that the body of a `with_slot` works under.
pub(super) struct Body<'a> {
    stage: &'a Stage,
    held: &'a Held,
    slot: Slot,
    /// Whether the body came to its end.
    pub(super) done: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(stage: &'a Stage, client: usize, held: &'a Held) -> Self {
        let slot = stage.history.slot(held.token());
        stage.history.note(What::Had { client, key: held.key().into(), slot, lease: held.lease(), sampled: false });
        Self { stage, held, slot, done: false }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        let how = if self.done { How::Release } else { How::Drop };
        self.stage.history.note(What::Gone { slot: self.slot, how, believed: !self.held.is_lost() });
    }
}
