//! The task of an owner: it makes entries in the queue until one has ended for good.

use std::rc::Rc;

use tokio::time::{Instant, timeout};

use super::entry::{End, EntrySession, EntrySpec, Phase, Wait};
use super::error::CallError;
use super::queue_entry::{EntryContext, QueueEntry, QueueEntryEnd, time_left};
use super::session_state::SessionState;
use super::txn;

/// Serves one owner until its entry has ended in the cluster.
pub(super) async fn run(context: EntryContext, owner: EntrySession, spec: EntrySpec) {
    let owner = Rc::new(owner);
    let end = match run_until_ended(&context, &owner, &spec).await {
        Ok(end) => end,
        Err(error) => End::Failed(error),
    };
    owner.set_phase(Phase::Ended(end));
}

async fn run_until_ended(
    context: &EntryContext,
    owner: &Rc<EntrySession>,
    spec: &EntrySpec,
) -> Result<End, CallError> {
    let state = &*context.state;
    let wait_end = match spec.wait {
        Wait::AtMost(wait) => Instant::now().checked_add(wait),
        Wait::Never => Some(Instant::now() + state.request_timeout),
        Wait::Forever => None,
    };
    state.identify(time_left(state, wait_end)).await?;
    if spec.wait == Wait::Never
        && let Some(end) = Box::pin(peek(state, spec)).await?
    {
        return Ok(end);
    }
    loop {
        if owner.is_given_up() {
            return Ok(End::Released);
        }
        let limit = time_left(state, wait_end);
        let lease = timeout(limit, context.leases.lease(spec.ttl, spec.permits)).await;
        let Some(lease) = lease.unwrap_or_else(|_| Err(state.unresponsive_error(limit)))? else {
            return Ok(End::SessionEnded);
        };
        let entry = QueueEntry::new(context, owner, spec, wait_end, lease);
        match Box::pin(entry.run()).await? {
            QueueEntryEnd::Ended(end) => return Ok(end),
            QueueEntryEnd::PositionLost if !matches!(spec.wait, Wait::AtMost(_)) => {
                return Ok(End::Revoked);
            }
            // The next entry is on another lease.
            QueueEntryEnd::LeaseEnded | QueueEntryEnd::PositionLost => {}
        }
        if wait_end.is_some_and(|end| Instant::now() >= end) {
            return Ok(End::TimedOut);
        }
    }
}

/// Returns the end of an owner that may not wait, if the queue has no room.
async fn peek(state: &SessionState, spec: &EntrySpec) -> Result<Option<End>, CallError> {
    let queue = state.layout.queue(spec.kind, &spec.key);
    let request = txn::peek(&queue);
    let response = state.cluster.call(&request, state.request_limits()).await?;
    let Some((limit, length)) = txn::parse_peek(response.response) else {
        return Ok(None);
    };
    Ok(match limit {
        Some(theirs) if theirs != spec.limit => Some(End::LimitMismatch { theirs }),
        _ if length + u64::from(spec.permits) > u64::from(spec.limit) => Some(End::TimedOut),
        _ => None,
    })
}
