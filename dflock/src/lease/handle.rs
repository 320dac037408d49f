//! The owner's side of a lease.

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::keep_alive::KeepAlive;
use super::state::{End, Phase};
use super::{Lease, LeaseConfig};
use crate::clock::Instant;
use crate::engine::{Entry, Granted};
use crate::error::{Error, Lost, LostReason};
use crate::telemetry::SlotTelemetry;
use crate::wire::{Grant, Token};

/// The owner of a wait or a hold. Dropping it gives up either, at once and without a runtime.
#[derive(Debug)]
pub(crate) struct LeaseHandle(Arc<Lease>);

impl LeaseHandle {
    /// Returns the hold of a slot that was granted so promptly that no lease can have ended since.
    pub(crate) fn granted(
        config: &Arc<LeaseConfig>,
        granted: Granted,
        telemetry: SlotTelemetry,
    ) -> Self {
        let Granted {
            entry,
            grant,
            sent_at,
            received_at,
            ..
        } = granted;
        let deadlines = config.deadlines(sent_at, &grant, 0);
        let telemetry = telemetry.granted(config.slot.labels(), &grant.token);
        let phase = Phase::Held {
            grant,
            deadlines,
            renewing: false,
        };
        let lease = Lease::new(config.clone(), entry, phase, telemetry);
        lease.start_keep_alive(deadlines.renew_at, received_at);
        Self(lease)
    }

    /// Verifies a grant that took long to arrive: the slot is held once the server has renewed it,
    /// within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases the slot.
    pub(crate) async fn verified(
        config: &Arc<LeaseConfig>,
        granted: Granted,
        limit: Duration,
        telemetry: SlotTelemetry,
    ) -> Result<Self, Error> {
        let Granted { entry, grant, .. } = granted;
        let phase = Phase::Unverified(grant);
        let handle = Self(Lease::new(config.clone(), entry, phase, telemetry));
        if let Err(error) = handle.0.verify_grant(grant, limit).await {
            handle.0.end(End::Failed(error));
        }
        handle.wait().await?;
        let renew_at = handle.0.lock_state().renew_at();
        let now = handle.0.now();
        handle.0.start_keep_alive(renew_at.unwrap_or(now), now);
        Ok(handle)
    }

    /// Returns a place in the queue, with a task that waits for the grant.
    pub(crate) fn queued(
        config: &Arc<LeaseConfig>,
        entry: Entry,
        telemetry: SlotTelemetry,
    ) -> Self {
        let lease = Lease::new(config.clone(), entry, Phase::Queued, telemetry);
        KeepAlive::spawn_queued(&lease);
        Self(lease)
    }

    /// Waits for the slot.
    pub(crate) async fn wait(&self) -> Result<Grant, Error> {
        self.0
            .wait_until(|state| match &mut state.phase {
                Phase::Queued | Phase::Unverified(_) => None,
                Phase::Held { grant, .. } => {
                    state.owned_by_user = true;
                    Some(Ok(*grant))
                }
                Phase::Lost(lost) => Some(Err(lost.clone().into())),
                Phase::Failed(error) => Some(Err(error
                    .take()
                    .unwrap_or_else(|| self.0.config.disconnected()))),
                Phase::Released => Some(Err(self.0.config.disconnected())),
            })
            .await
    }

    /// Ends the wait because its time is over.
    pub(crate) fn time_out(&self) {
        self.0.end(End::TimedOut);
    }

    /// The span of the wait or the hold while it lasts.
    pub(crate) fn span(&self) -> Span {
        self.0.span()
    }

    /// Returns whether the slot is held now.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.0.lock_state().phase, Phase::Held { .. })
    }

    /// The token, and the lease as the server returned it last, while the slot is held.
    pub(crate) fn grant(&self) -> Option<Grant> {
        match self.0.lock_state().phase {
            Phase::Held { grant, .. } => Some(grant),
            _ => None,
        }
    }

    /// Returns how many slots must be released before this one is granted; 0 if it is. `None` if
    /// the engine does not know it.
    pub(crate) fn position(&self) -> Option<u64> {
        let entry = self.0.entry.lock();
        entry.as_ref().and_then(Entry::position)
    }

    pub(crate) fn config(&self) -> &Arc<LeaseConfig> {
        &self.0.config
    }

    /// The time until the lease expires, unless it is renewed. Zero if the slot is lost.
    pub(crate) fn remaining(&self) -> Duration {
        let expires_at = self.0.lock_state().expires_at();
        expires_at.map_or(Duration::ZERO, |expires_at| expires_at.since(self.0.now()))
    }

    pub(crate) fn check(&self) -> Result<(), Lost> {
        self.0.lock_state().lost().map_or(Ok(()), Err)
    }

    pub(crate) async fn lost(&self) -> Lost {
        self.0.wait_until(|state| state.lost()).await
    }

    /// Renews the lease now and waits for the server's reply.
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let mine = {
            let mut state = self.0.lock_state();
            state.renewals_requested += 1;
            state.renewals_requested
        };
        self.0.changed.notify_waiters();
        // The keep-alive task may not have begun with this lease.
        self.0.wake_keep_alive();
        let renewed = self.0.wait_until(|state| match &state.phase {
            Phase::Lost(lost) => Some(Err(lost.clone())),
            _ => (state.renewals_completed >= mine).then_some(Ok(())),
        });
        renewed.await.map_err(Error::Lost)
    }

    /// Takes the entry, for the release of the slot of `token`, and the telemetry, which ends with
    /// the reply. The keep-alive task stops.
    pub(crate) fn into_entry(
        self,
        token: &Token,
        now: Instant,
    ) -> Result<(Entry, Option<SlotTelemetry>), Lost> {
        let lease = &self.0;
        let mut entry_guard = lease.entry.lock();
        let mut state = lease.state.lock();
        state.expire(&lease.config, now);
        let is_held = matches!(state.phase, Phase::Held { .. });
        let Some(mut entry) = is_held.then(|| entry_guard.take()).flatten() else {
            let lost = state.lost();
            drop(state);
            drop(entry_guard);
            lease.changed.notify_waiters();
            return Err(lost.unwrap_or_else(|| lease.config.lost(*token, LostReason::Disconnected)));
        };
        let telemetry = state.telemetry.take();
        state.phase = Phase::Released;
        drop(state);
        drop(entry_guard);
        if !KeepAlive::take_back(&mut entry) {
            lease.changed.notify_waiters();
        }
        Ok((entry, telemetry))
    }

    /// Closes the connection without a release. The server notices that it ends.
    pub(crate) fn close(self) {
        self.0.end(End::Closed);
    }
}

impl Drop for LeaseHandle {
    /// Spawns nothing and blocks on nothing.
    fn drop(&mut self) {
        // Every release ends here; a hold that was released has nothing left to end.
        if !matches!(self.0.state.lock().phase, Phase::Released) {
            self.0.end(End::Dropped);
        }
    }
}
