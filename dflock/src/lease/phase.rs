//! What is known of a place in line, and what it has become.

use crate::error::{Error, Lost, LostReason};
use crate::transport::Instant;
use crate::watch::{Ended, Outcome, Watch};
use crate::wire::{Grant, Token};

use super::term::Term;

/// Where a lease stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// In line.
    Queued,
    /// Granted, but not believed until a renewal confirms it.
    Offered(Grant),
    /// Held until the term ends.
    Held {
        /// The token, and the lease as the server gave it last.
        grant: Grant,
        term: Term,
        /// Whether a renewal is under way.
        asking: bool,
    },
    /// The line ended without a slot; the error is for whoever waits.
    Refused(Option<Error>),
    /// The slot was held and is gone.
    Lost(Lost),
    /// Given back, or left.
    Over,
}

/// The phase, and the renewals that were asked for.
#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Whether the slot is in the user's hands, so that its loss is the user's to hear of.
    pub(super) taken: bool,
    /// How many times the user asked for a renewal.
    pub(super) wanted: u64,
    /// How many of these were asked for before the renewal under way was sent.
    pub(super) begun: u64,
    /// How many of these are done.
    pub(super) done: u64,
    /// How many renewals were sent.
    pub(super) renewals: u64,
    /// Who sees the wait and the hold; `None` when both are over.
    pub(super) watch: Option<Watch>,
}

impl State {
    pub(super) fn new(phase: Phase, watch: Watch) -> Self {
        // who begins with a slot has it in hand
        let taken = matches!(phase, Phase::Held { .. });
        Self { phase, taken, wanted: 0, begun: 0, done: 0, renewals: 0, watch: Some(watch) }
    }

    /// The token of a hold whose time is over, and how it was lost.
    pub(super) fn overdue(&self, now: Instant) -> Option<(Token, LostReason)> {
        match self.phase {
            Phase::Held { grant, term, asking } if now >= term.ends => {
                Some((grant.token, if asking { LostReason::Unreachable } else { LostReason::Expired }))
            }
            _ => None,
        }
    }

    /// When the term ends, if the slot is held.
    pub(super) fn ends(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held { term, .. } => Some(term.ends),
            _ => None,
        }
    }

    /// When the next renewal is due, while the slot is held.
    pub(super) fn renewal(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held { term, .. } => Some(term.renewal),
            _ => None,
        }
    }

    /// How it was lost, if it was.
    pub(super) fn lost(&self) -> Option<Lost> {
        match &self.phase {
            Phase::Lost(lost) => Some(lost.clone()),
            _ => None,
        }
    }

    /// The token of a slot that the server may still count as ours.
    pub(super) fn token(&self) -> Option<Token> {
        match &self.phase {
            Phase::Offered(grant) | Phase::Held { grant, .. } => Some(grant.token),
            // over in time only: the server may not know yet
            Phase::Lost(lost) if matches!(lost.reason, LostReason::Expired | LostReason::Unreachable) => Some(lost.token),
            Phase::Queued | Phase::Refused(_) | Phase::Lost(_) | Phase::Over => None,
        }
    }

    /// The wait or the hold is over, and the first to say so says how. Who watches is told when this is dropped: outside of the lock.
    pub(super) fn unwatch(&mut self, outcome: Outcome) -> Option<Ended> {
        self.watch.take().map(|watch| watch.ended(outcome))
    }

    /// The same for a watch that was away, if it is all over by now; else it watches on.
    pub(super) fn watch_on(&mut self, watch: Watch) -> Option<Ended> {
        self.watch = Some(watch);
        self.outcome().and_then(|outcome| self.unwatch(outcome))
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Queued | Phase::Offered(_) | Phase::Held { .. } => None,
            Phase::Lost(lost) => Some(Outcome::Lost(lost.clone())),
            Phase::Refused(error) => Some(error.as_ref().map_or(Outcome::Failed, Outcome::of)),
            Phase::Over => Some(Outcome::Dropped),
        }
    }

    /// Ends it on the owner's wish. A loss stays a loss.
    pub(super) fn leave(&mut self) {
        if !matches!(self.phase, Phase::Lost(_)) {
            self.phase = Phase::Over;
        }
    }
}
