//! One entry in a queue, on one lease: join, wait, hold, and leave.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant as TokioInstant, sleep, sleep_until};

use super::entry::{Demand, End, EntryLease, EntrySession, EntrySpec, Held, Phase, Wait, token};
use super::error::CallError;
use super::keys::EntryName;
use super::lease::SessionLease;
use super::leases::Leases;
use super::queue::{Position, Queue, WaiterSpec};
use super::queues::Queues;
use super::session_state::{RETRY_PAUSE, SessionState};
use super::txn::{Basis, Join, JoinResult};
use crate::clock::{Clock, Instant};

/// The longest sleep toward a time on the clock of the leases.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// The time for the response to a request to join after the wait is over, so that a slot that is
/// free is also granted to a wait that is shorter than a round trip.
const GRACE: Duration = Duration::from_secs(1);

/// The parts of a session that its entries use.
#[derive(Clone)]
pub(super) struct EntryContext {
    pub(super) state: Rc<SessionState>,
    pub(super) leases: Rc<Leases>,
    pub(super) queues: Rc<Queues>,
}

/// An entry of one owner. The owner has one at a time.
pub(super) struct QueueEntry<'a> {
    context: &'a EntryContext,
    owner: &'a Rc<EntrySession>,
    spec: &'a EntrySpec,
    /// The end of the wait.
    wait_end: Option<TokioInstant>,
    /// The time at which the owner must know whether it waits or holds.
    join_end: TokioInstant,
    name: EntryName,
    lease: Rc<SessionLease>,
    /// The part of the lease that belongs to this entry.
    entry_lease: Arc<EntryLease>,
    /// An earlier request to join may still be under way.
    repeated: Cell<bool>,
}

/// The end of an entry.
pub(super) enum QueueEntryEnd {
    Ended(End),
    /// The lease had ended before the entry was made.
    LeaseEnded,
    /// The position in the queue was lost before there was a slot.
    PositionLost,
}

enum JoinOutcome {
    /// The entry was made, behind so many permits if that is known.
    Joined {
        revision: i64,
        ahead: Option<u64>,
    },
    LeaseEnded,
    Refused(End),
}

/// The reason for which an entry leaves the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaveReason {
    TimedOut,
    /// The cluster does not answer the request to join.
    Unresponsive,
    GivenUp,
    /// The slot was held until its latest end.
    Overdue,
    /// The entry was deleted, or its lease has ended.
    Lost,
}

impl<'a> QueueEntry<'a> {
    /// Adds an entry to `lease`, and makes none in the cluster yet.
    pub(super) fn new(
        context: &'a EntryContext,
        owner: &'a Rc<EntrySession>,
        spec: &'a EntrySpec,
        wait_end: Option<TokioInstant>,
        lease: Rc<SessionLease>,
    ) -> Self {
        let state = &*context.state;
        let name = EntryName {
            queue: state.layout.queue(spec.kind, &spec.key),
            id: state.next_id(),
            permits: spec.permits,
        };
        Self {
            context,
            owner,
            spec,
            wait_end,
            join_end: TokioInstant::now() + time_left(state, wait_end),
            entry_lease: lease.insert(name.clone(), owner.clone()),
            name,
            lease,
            repeated: Cell::new(false),
        }
    }

    /// Joins, waits, holds, and leaves.
    pub(super) async fn run(self) -> Result<QueueEntryEnd, CallError> {
        let outcome = self.join_and_hold().await;
        self.lease.remove(self.name.id);
        if self.repeated.get() {
            // A request that is still under way would make the entry again.
            self.lease.abandon(self.name);
        }
        outcome
    }

    async fn join_and_hold(&self) -> Result<QueueEntryEnd, CallError> {
        let (revision, ahead) = match self.join().await? {
            JoinOutcome::Joined { revision, ahead } => (revision, ahead),
            JoinOutcome::LeaseEnded => return Ok(QueueEntryEnd::LeaseEnded),
            JoinOutcome::Refused(end) => return Ok(QueueEntryEnd::Ended(end)),
        };
        self.lease.set_created(self.name.id, revision);
        let waiter = WaiterSpec {
            revision,
            permits: self.spec.permits.into(),
            limit: self.spec.limit.into(),
        };
        let granted = match ahead {
            Some(ahead) if waiter.missing(ahead) == 0 => Ok(()),
            Some(_) if self.spec.wait == Wait::Never => Err(LeaveReason::TimedOut),
            _ => self.wait(waiter, ahead).await,
        };
        let reason = match granted {
            Ok(()) => self.hold(revision).await,
            Err(LeaveReason::Lost) => {
                // The rest of the entry is deleted, and the owner does not wait for the reply.
                self.spawn_delete();
                return Ok(QueueEntryEnd::PositionLost);
            }
            Err(reason) => reason,
        };
        let end = match reason {
            LeaveReason::Lost => End::Revoked,
            LeaveReason::TimedOut => End::TimedOut,
            LeaveReason::Unresponsive => {
                let limit = self.state().request_timeout;
                End::Failed(self.state().unresponsive_error(limit))
            }
            LeaveReason::Overdue => End::Overdue,
            LeaveReason::GivenUp => {
                match self.state().delete_entry(&self.name, Some(revision)).await {
                    Ok(true) => return Ok(QueueEntryEnd::Ended(End::Released)),
                    Ok(false) => return Ok(QueueEntryEnd::Ended(End::Revoked)),
                    Err(error) => End::Failed(error),
                }
            }
        };
        // The owner does not wait for the reply.
        self.owner.set_phase(Phase::Ended(end.clone()));
        self.leases()
            .delete(&self.lease, &self.name, Some(revision))
            .await;
        Ok(QueueEntryEnd::Ended(end))
    }

    /// Joins the queue.
    async fn join(&self) -> Result<JoinOutcome, CallError> {
        let left = self.join_end.saturating_duration_since(TokioInstant::now());
        let limits = self.state().limits(left);
        let value = self.state().entry_value(self.spec.limit);
        let join = Join {
            name: &self.name,
            lease: self.lease.id(),
            value: &value,
        };
        let mut basis = Basis::first(self.name.permits);
        loop {
            let sent = self
                .state()
                .cluster
                .call(&join.request(&basis), limits)
                .await;
            let parsed = sent.and_then(|outcome| {
                self.repeated.set(self.repeated.get() || outcome.repeated);
                let result = join.result(outcome.response);
                result.ok_or_else(|| CallError::malformed(outcome.member, "join"))
            });
            let result = match parsed {
                Ok(result) => result,
                Err(error) if error.is_lease_not_found() => {
                    // Its next renewal ends it. A refusal carries no id of the cluster, so it may be
                    // that of a foreign member.
                    self.lease.retire();
                    self.lease.request_renewal();
                    return Ok(JoinOutcome::LeaseEnded);
                }
                Err(error) => {
                    if error.uncertain || self.repeated.get() {
                        self.repeated.set(true);
                        self.spawn_delete();
                    }
                    return Err(error);
                }
            };
            return Ok(match result {
                JoinResult::Created { revision, ahead } => JoinOutcome::Joined {
                    revision,
                    ahead: Some(ahead),
                },
                JoinResult::Exists { revision } => JoinOutcome::Joined {
                    revision,
                    ahead: None,
                },
                JoinResult::Retry(next) => {
                    basis = next;
                    continue;
                }
                JoinResult::LimitMismatch { theirs } => {
                    JoinOutcome::Refused(End::LimitMismatch { theirs })
                }
                JoinResult::ForeignValue { key } => {
                    let key = String::from_utf8_lossy(&key).into_owned();
                    JoinOutcome::Refused(End::ForeignValue(key))
                }
            });
        }
    }

    /// Waits in the queue until the entry is granted.
    async fn wait(&self, waiter: WaiterSpec, ahead: Option<u64>) -> Result<(), LeaveReason> {
        let queue = self.context.queues.queue(&self.name.queue);
        queue.insert(self.name.id, self.owner.clone(), waiter, ahead);
        let granted = self.wait_for_grant(&queue).await;
        queue.remove(self.name.id);
        granted
    }

    async fn wait_for_grant(&self, queue: &Queue) -> Result<(), LeaveReason> {
        loop {
            if self.owner.take_demand() == Demand::GiveUp {
                return Err(LeaveReason::GivenUp);
            }
            if self.entry_lease.has_ended() {
                return Err(LeaveReason::Lost);
            }
            match queue.position(self.name.id) {
                Position::Granted => return Ok(()),
                Position::Gone => return Err(LeaveReason::Lost),
                Position::Unknown => {}
                Position::Behind(_) if self.spec.wait == Wait::Never => {
                    return Err(LeaveReason::TimedOut);
                }
                Position::Behind(position) => self.owner.set_phase(Phase::Queued { position }),
            }
            tokio::select! {
                () = self.owner.wait_for_notification() => {}
                reason = self.wait_limit() => return Err(reason),
            }
        }
    }

    /// Completes when the owner waits no longer for the grant. An owner without a limit waits for
    /// one only once it knows that it is queued.
    async fn wait_limit(&self) -> LeaveReason {
        match self.wait_end {
            Some(end) => {
                sleep_until(end).await;
                LeaveReason::TimedOut
            }
            None if self.owner.is_joining() => {
                sleep_until(self.join_end).await;
                LeaveReason::Unresponsive
            }
            None => pending().await,
        }
    }

    /// Holds the slot until the owner gives it up or it is lost.
    async fn hold(&self, revision: i64) -> LeaveReason {
        let mut is_announced = false;
        loop {
            match self.owner.take_demand() {
                Demand::GiveUp => return LeaveReason::GivenUp,
                Demand::Renew => self.lease.request_renewal(),
                Demand::Hold => {}
            }
            if self.entry_lease.has_ended() {
                return LeaveReason::Lost;
            }
            let latest_end = self.owner.latest_end();
            if latest_end.is_some_and(|end| self.state().clock.now() >= end) {
                return LeaveReason::Overdue;
            }
            if is_announced {
                tokio::select! {
                    () = self.owner.wait_for_notification() => {}
                    () = sleep_toward(&self.state().clock, latest_end) => {}
                }
            } else if self.leases().is_current(&self.lease) {
                is_announced = true;
                self.owner.set_phase(Phase::Held(Held {
                    token: token(revision, self.name.id),
                    lease: self.entry_lease.clone(),
                }));
            } else {
                // A lease that is over for this client holds nothing until it is renewed.
                self.lease.request_renewal();
                tokio::select! {
                    () = self.owner.wait_for_notification() => {}
                    () = sleep(RETRY_PAUSE) => {}
                    reason = self.wait_limit() => return reason,
                }
            }
        }
    }

    fn state(&self) -> &SessionState {
        &self.context.state
    }

    fn leases(&self) -> &Rc<Leases> {
        &self.context.leases
    }

    /// Deletes the entry if it is there. The owner does not wait for it.
    fn spawn_delete(&self) {
        self.leases()
            .spawn_delete(&self.lease, self.name.clone(), None);
    }
}

/// Returns the time for a response that is owed at once, if the wait ends at `wait_end`.
pub(super) fn time_left(state: &SessionState, wait_end: Option<TokioInstant>) -> Duration {
    let left = wait_end.map(|end| end.saturating_duration_since(TokioInstant::now()));
    let limit = left.map(|left| left.saturating_add(GRACE));
    limit.map_or(state.request_timeout, |limit| {
        limit.min(state.request_timeout)
    })
}

/// Sleeps until `end` on the clock of the leases, but may wake early: timers stand still while the
/// machine is suspended, and that clock does not. Without an end it stays pending.
async fn sleep_toward(clock: &Clock, end: Option<Instant>) {
    match end {
        Some(end) => {
            let left = end.duration_since(clock.now());
            sleep(left.min(MAX_SLEEP)).await;
        }
        None => pending().await,
    }
}
