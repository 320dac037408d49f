//! Instrumented body of a `with_slot`.

use std::convert::Infallible;

use dflock::Held;

use super::history::{Asked, How, Slot, What};
use super::run::Stage;

pub(super) struct Body<'a> {
    stage: &'a Stage,
    held: &'a Held,
    slot: Slot,
    /// Whether the body ran to its end.
    done: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(stage: &'a Stage, client: usize, held: &'a Held) -> Self {
        let slot = stage.history.slot(held.token());
        let asked = if stage.plan.watched {
            Asked::Inside
        } else {
            Asked::Never
        };
        stage.history.note(What::Had {
            client,
            key: held.key().into(),
            slot,
            lease: held.lease(),
            asked,
            in_body: true,
        });
        Self {
            stage,
            held,
            slot,
            done: false,
        }
    }

    /// Runs `work`, and polls `is_lost` meanwhile if the plan observes slots.
    pub(super) async fn work(mut self, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            never = self.believe() => match never {},
            () = work => {}
        }
        self.done = true;
    }

    /// Polls `is_lost` at each event while the client runs. Only the body has access to the slot,
    /// so the history cannot do it.
    async fn believe(&self) -> Infallible {
        let Some(mut news) = self.stage.history.news() else {
            return std::future::pending().await;
        };
        let mut doubted = false;
        loop {
            let lost = self.held.is_lost();
            if lost != doubted {
                doubted = lost;
                let slot = self.slot;
                self.stage.history.note(if lost {
                    What::Doubted { slot }
                } else {
                    What::Unlost { slot }
                });
            }
            news.changed()
                .await
                .expect("the history outlives every body");
        }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        let how = if self.done { How::Release } else { How::Drop };
        self.stage.history.note(What::Gone {
            slot: self.slot,
            how,
            believed: !self.held.is_lost(),
        });
    }
}
