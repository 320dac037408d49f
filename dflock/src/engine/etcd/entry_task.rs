//! The task of an entry: it joins the queue, again if its place is lost, until the entry has ended.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::{Instant, timeout};

use super::entry::{End, EntrySession, EntrySpec, Phase, Wait};
use super::error::CallError;
use super::keys::{EntryName, QueueName};
use super::leases::Leases;
use super::queue_attempt::{AttemptOutcome, QueueAttempt, time_left};
use super::queues::Queues;
use super::session_state::SessionState;
use super::txn;

/// The parts of a session that the task of an entry uses.
#[derive(Clone)]
pub(super) struct EntryTask {
    state: Rc<SessionState>,
    leases: Rc<Leases>,
    queues: Rc<Queues>,
}

impl EntryTask {
    pub(super) fn new(state: Rc<SessionState>, leases: Rc<Leases>) -> Self {
        let queues = Queues::start(state.clone());
        Self {
            state,
            leases,
            queues,
        }
    }

    /// Serves one entry until it has ended in the cluster.
    pub(super) async fn run(self, entry: EntrySession, spec: EntrySpec) {
        let entry = Rc::new(entry);
        let end = match self.run_attempts(&entry, &spec).await {
            Ok(end) => end,
            Err(error) => End::Failed(error),
        };
        entry.set_phase(Phase::Ended(end));
    }

    async fn run_attempts(
        &self,
        entry: &Rc<EntrySession>,
        spec: &EntrySpec,
    ) -> Result<End, CallError> {
        let state = &self.state;
        let queue = state.layout.queue(spec.kind, &spec.key);
        let wait_end = match spec.wait {
            Wait::AtMost(wait) => Instant::now().checked_add(wait),
            Wait::Never => Some(Instant::now() + state.request_timeout),
            Wait::Forever => None,
        };
        state.identify(time_left(state, wait_end)).await?;
        if spec.wait == Wait::Never
            && let Some(end) = Box::pin(self.peek(&queue, spec)).await?
        {
            return Ok(end);
        }
        loop {
            if entry.is_given_up() {
                return Ok(End::Released);
            }
            let limit = time_left(state, wait_end);
            let lease = timeout(limit, self.leases.lease(spec.ttl, spec.permits)).await;
            let Some(lease) = lease.unwrap_or_else(|_| Err(state.unresponsive(limit)))? else {
                return Ok(End::SessionEnded);
            };
            let name = EntryName {
                queue: queue.clone(),
                id: state.next_id(),
                permits: spec.permits,
            };
            let attempt = QueueAttempt {
                state,
                leases: &self.leases,
                queues: &self.queues,
                entry,
                spec,
                wait_end,
                entry_lease: lease.insert(name.clone(), entry.clone()),
                lease,
                name,
                repeated: Cell::new(false),
            };
            match Box::pin(attempt.run()).await? {
                AttemptOutcome::Ended(end) => return Ok(end),
                // The place in the queue ended with its lease.
                AttemptOutcome::PlaceLost if matches!(spec.wait, Wait::AtMost(_)) => {}
                AttemptOutcome::PlaceLost => return Ok(End::Revoked),
            }
        }
    }

    /// Returns the end of an entry that may not wait, if the queue has no room.
    async fn peek(&self, queue: &QueueName, spec: &EntrySpec) -> Result<Option<End>, CallError> {
        let request = txn::peek(queue);
        let limits = self.state.request_limits();
        let response = self.state.cluster.call(&request, limits).await?.response;
        let Some((limit, length)) = txn::parse_peek(response) else {
            return Ok(None);
        };
        Ok(match limit {
            Some(theirs) if length > 0 && theirs != spec.limit => {
                Some(End::LimitMismatch { theirs })
            }
            _ if length + u64::from(spec.permits) > u64::from(spec.limit) => Some(End::TimedOut),
            _ => None,
        })
    }
}
