//! The state of a lease and its transitions. `ARCHITECTURE.md` has the table.

use crate::clock::Instant;
use crate::engine::Renewals;
use crate::error::{Error, Lost, LostReason, Operation};
use crate::telemetry::{EmitOnDrop, Outcome, SlotTelemetry};
use crate::wire::{Grant, Token};

use super::LeaseConfig;
use super::hold_limits::HoldBounds;
use super::hold_registry::Registration;
use super::timing::Deadlines;

/// The phase of a lease.
#[derive(Debug)]
pub(super) enum Phase {
    /// Waiting in the queue.
    Queued,
    /// Granted, but not held before a renewal has verified the grant.
    Unverified(Grant),
    /// Held until the deadline.
    Held {
        /// The token, and the lease as the server returned it last.
        grant: Grant,
        deadlines: Deadlines,
        /// A renewal is in flight.
        renewing: bool,
    },
    /// The owner gave up the slot before `min_hold` was over: the keep-alive task keeps it until
    /// then, and releases it.
    Lingering {
        grant: Grant,
        deadlines: Deadlines,
        renewing: bool,
    },
    /// The wait ended without a slot. The error is for the task that waits.
    Failed(Option<Error>),
    /// The slot was held and is lost.
    Lost(Lost),
    /// The owner gave up the wait or the slot.
    Released,
}

/// The ways in which a wait or a hold ends.
#[derive(Debug)]
pub(super) enum End {
    /// The deadline has passed. [`State::expire`] has recorded the loss.
    Expired,
    /// The slot is lost before its deadline.
    Lost(LostReason),
    /// The wait ended without a slot.
    Failed(Error),
    /// The keep-alive task has stopped, for example with its runtime.
    TaskStopped,
    /// The time for the wait is over.
    TimedOut,
    /// The owner dropped its handle.
    Dropped,
    /// The owner closed the connection without a release.
    Closed,
    /// The client was closed before the user had the slot.
    ClientClosed,
}

/// The phase, the requests for a renewal, and the telemetry.
#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The renewals that the engine makes by itself.
    pub(super) renewals: Renewals,
    /// The last of them that `phase` has.
    followed: Option<Instant>,
    /// The bounds of the hold. Those of a wait are set when its slot is held.
    pub(super) bounds: HoldBounds,
    /// The user has the slot, so that its loss is reported.
    pub(super) owned_by_user: bool,
    /// The number of renewals that the user has requested.
    pub(super) renewals_requested: u64,
    /// The number of these that were requested before the last renewal was sent.
    pub(super) renewals_started: u64,
    /// The number of these that are done.
    pub(super) renewals_completed: u64,
    /// The number of renewals that were sent.
    pub(super) renewals_sent: u64,
    /// The telemetry of the wait or the hold. `None` once both have ended.
    pub(super) telemetry: Option<SlotTelemetry>,
    /// The wait in the queue or the hold, in the registry of the client. `None` once both have
    /// ended. Dropped outside of the lock, because it wakes the task that closes the client.
    pub(super) registration: Option<Registration>,
}

impl State {
    pub(super) fn new(
        phase: Phase,
        renewals: Renewals,
        bounds: HoldBounds,
        telemetry: SlotTelemetry,
        registration: Option<Registration>,
    ) -> Self {
        // A lease that begins as held was acquired without a wait in the queue: the user has it.
        let owned_by_user = matches!(phase, Phase::Held { .. });
        Self {
            phase,
            renewals,
            followed: None,
            bounds,
            owned_by_user,
            renewals_requested: 0,
            renewals_started: 0,
            renewals_completed: 0,
            renewals_sent: 0,
            telemetry: Some(telemetry),
            registration,
        }
    }

    /// Records the loss of a hold whose deadline has passed, or whose renewal by the engine has found
    /// that the slot is lost. Returns whether it did: then the
    /// caller notifies the waiting tasks after it has unlocked the state.
    pub(super) fn expire(&mut self, config: &LeaseConfig, now: Instant) -> bool {
        if let Err(reason) = self.follow_renewals(config)
            && let Phase::Held { grant, .. } | Phase::Lingering { grant, .. } = self.phase
        {
            self.phase = Phase::Lost(config.lost(grant.token, reason));
            return true;
        }
        match self.phase {
            Phase::Held {
                grant,
                deadlines,
                renewing,
            }
            | Phase::Lingering {
                grant,
                deadlines,
                renewing,
            } if now >= deadlines.expires_at => {
                let reason = if self.bounds.is_reached(deadlines.expires_at) {
                    LostReason::Overdue
                } else if renewing {
                    LostReason::Unreachable
                } else {
                    LostReason::Expired
                };
                self.phase = Phase::Lost(config.lost(grant.token, reason));
                true
            }
            _ => false,
        }
    }

    /// Moves the deadlines to those of the last renewal that the engine made by itself. Returns the
    /// reason if the engine has found that the slot is lost.
    fn follow_renewals(&mut self, config: &LeaseConfig) -> Result<(), LostReason> {
        let Some(renewed_at) = self.renewals.last().transpose()? else {
            return Ok(());
        };
        if Some(renewed_at) <= self.followed {
            return Ok(());
        }
        self.followed = Some(renewed_at);
        if let Phase::Held {
            grant, deadlines, ..
        }
        | Phase::Lingering {
            grant, deadlines, ..
        } = &mut self.phase
        {
            // The large jitter of a first renewal is for an engine that does not renew: some of the
            // holds on a lease would request one before each of the engine's own.
            let renewals = self.renewals_sent.max(1);
            let renewed = config.deadlines(renewed_at, grant, renewals);
            *deadlines = self.bounds.cap(renewed);
        }
        Ok(())
    }

    /// Ends the wait or the hold, unless it has ended before. Returns the telemetry, which is
    /// emitted when it is dropped: outside of the lock.
    pub(super) fn end(&mut self, config: &LeaseConfig, end: End) -> Option<EmitOnDrop> {
        let waiting = matches!(self.phase, Phase::Queued | Phase::Unverified(_));
        let mut outcome = None;
        match (end, &self.phase) {
            (End::Lost(reason), Phase::Held { grant, .. } | Phase::Lingering { grant, .. }) => {
                self.phase = Phase::Lost(config.lost(grant.token, reason));
            }
            (End::TaskStopped, Phase::Held { grant, .. } | Phase::Lingering { grant, .. }) => {
                self.phase = Phase::Lost(config.lost(grant.token, LostReason::Disconnected));
            }
            (End::TaskStopped, _) if waiting => {
                self.phase = Phase::Failed(Some(config.disconnected()));
            }
            (End::Failed(error), _) if waiting => self.phase = Phase::Failed(Some(error)),
            (End::ClientClosed, Phase::Queued | Phase::Unverified(_) | Phase::Held { .. }) => {
                // A hold does not fail: it ends as one whose handle is dropped.
                outcome = (!waiting).then_some(Outcome::Dropped);
                self.phase = Phase::Failed(Some(config.closed(Operation::Wait)));
            }
            (End::TimedOut, _) if waiting => {
                outcome = Some(Outcome::Timeout);
                self.phase = Phase::Released;
            }
            (End::Closed, Phase::Held { .. }) => {
                outcome = Some(Outcome::Closed);
                self.phase = Phase::Released;
            }
            (End::Dropped | End::Closed, Phase::Held { .. } | Phase::Failed(_)) => {
                self.phase = Phase::Released;
            }
            (End::Dropped | End::Closed, _) if waiting => self.phase = Phase::Released,
            // A loss stays a loss, and an end cannot be replaced by another.
            _ => {}
        }
        let outcome = outcome.or_else(|| self.outcome())?;
        self.end_telemetry(outcome)
    }

    /// Returns whether the close of the client ends the wait or the hold: the user has not had the
    /// slot yet. A slot that `min_hold` keeps, or whose release is in flight, is waited for.
    pub(super) fn ends_with_client(&self) -> bool {
        !self.owned_by_user
            && matches!(
                self.phase,
                Phase::Queued | Phase::Unverified(_) | Phase::Held { .. }
            )
    }

    /// Returns whether neither the wait nor the hold has ended.
    pub(super) fn is_live(&self) -> bool {
        matches!(
            self.phase,
            Phase::Queued | Phase::Unverified(_) | Phase::Held { .. } | Phase::Lingering { .. }
        )
    }

    /// Leaves a slot that its owner gives up to the keep-alive task, if `min_hold` is not over.
    /// Returns whether it did, and the telemetry of the hold, which is emitted when it is dropped:
    /// outside of the lock.
    pub(super) fn linger(&mut self, now: Instant, outcome: Outcome) -> (bool, Option<EmitOnDrop>) {
        match self.phase {
            Phase::Held {
                grant,
                deadlines,
                renewing,
            } if self.owned_by_user && self.bounds.earliest_end.is_some_and(|end| now < end) => {
                self.phase = Phase::Lingering {
                    grant,
                    deadlines,
                    renewing,
                };
                // Its loss is not reported any more.
                self.owned_by_user = false;
                if let Some(registration) = &mut self.registration {
                    registration.clear_task();
                }
                (true, self.end_telemetry(outcome))
            }
            _ => (false, None),
        }
    }

    /// Returns the time at which a slot that its owner gave up is released.
    pub(super) fn release_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Lingering { .. } => self.bounds.earliest_end,
            _ => None,
        }
    }

    /// Returns the expiry of the lease, if the slot is held or kept.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held { deadlines, .. } | Phase::Lingering { deadlines, .. } => {
                Some(deadlines.expires_at)
            }
            _ => None,
        }
    }

    /// Returns the time of the next renewal, if the slot is held or kept.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held { deadlines, .. } | Phase::Lingering { deadlines, .. } => {
                Some(deadlines.renew_at)
            }
            _ => None,
        }
    }

    /// The loss, if the slot is lost.
    pub(super) fn lost(&self) -> Option<Lost> {
        match &self.phase {
            Phase::Lost(lost) => Some(lost.clone()),
            _ => None,
        }
    }

    /// The token of a slot that the server may still count as held by this lease.
    pub(super) fn token_on_server(&self) -> Option<Token> {
        match &self.phase {
            Phase::Unverified(grant)
            | Phase::Held { grant, .. }
            | Phase::Lingering { grant, .. } => Some(grant.token),
            // The hold ended by the clock of this client: the server may count it as held.
            Phase::Lost(Lost {
                token,
                reason: LostReason::Expired | LostReason::Unreachable | LostReason::Overdue,
                ..
            }) => Some(*token),
            Phase::Queued | Phase::Failed(_) | Phase::Lost(_) | Phase::Released => None,
        }
    }

    /// Ends the telemetry with `outcome`. Later calls return `None`. The returned value emits it
    /// when it is dropped: outside of the lock.
    pub(super) fn end_telemetry(&mut self, outcome: Outcome) -> Option<EmitOnDrop> {
        self.telemetry
            .take()
            .map(|telemetry| telemetry.end(outcome))
    }

    /// Stores `telemetry` again, or ends it if the lease has ended in the meantime.
    pub(super) fn restore_telemetry(&mut self, telemetry: SlotTelemetry) -> Option<EmitOnDrop> {
        self.telemetry = Some(telemetry);
        self.outcome()
            .and_then(|outcome| self.end_telemetry(outcome))
    }

    /// The outcome for telemetry, if the wait or the hold has ended.
    fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Queued | Phase::Unverified(_) | Phase::Held { .. } => None,
            Phase::Lost(lost) => Some(Outcome::Lost(lost.clone())),
            Phase::Failed(error) => {
                Some(error.as_ref().map_or(Outcome::Failed, Outcome::from_error))
            }
            Phase::Lingering { .. } | Phase::Released => Some(Outcome::Dropped),
        }
    }
}
