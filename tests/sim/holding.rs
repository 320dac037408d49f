//! A slot in a user's hands, and what he tells of it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use dflock::{Error, Held};

use super::history::{How, Slot, What};
use super::pool::Pool;
use super::run::Stage;

/// A slot that will be asked for its user's belief at each event. Dropped, it says so.
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

    /// Works for so long, unless the slot is lost before.
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
        let held = self.held.take().expect("let go of once");
        self.stage.history.note(What::Gone {
            slot: self.slot,
            how,
            believed: !held.is_lost(),
        });
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

/// A body that works under a slot; dropped, it says that it has come to its end.
struct Worked<'a> {
    stage: &'a Stage,
    slot: Slot,
}

impl Drop for Worked<'_> {
    fn drop(&mut self) {
        self.stage.history.note(What::Worked { slot: self.slot });
    }
}
