//! The owner's side of a lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::task;
use tracing::Span;

use super::hold_limits::HoldBounds;
use super::hold_registry::Registration;
use super::keep_alive::KeepAlive;
use super::state::{End, Phase, State};
use super::{Lease, LeaseConfig};
use crate::clock::Instant;
use crate::engine::{Entry, Granted, Renewals};
use crate::error::{Error, Lost, LostReason, Operation};
use crate::telemetry::{Outcome, SlotTelemetry};
use crate::wire::{Grant, Token};

/// The owner of a wait or a hold. Dropping it gives up either, at once and without a runtime.
#[derive(Debug)]
pub(crate) struct LeaseHandle(Arc<Lease>);

impl LeaseHandle {
    /// Returns the hold of a slot that was granted so promptly that no lease can have ended since.
    /// A client that was closed in the meantime gives up the slot here.
    pub(crate) fn granted(
        config: &Arc<LeaseConfig>,
        operation: Operation,
        granted: Granted,
        telemetry: SlotTelemetry,
    ) -> Result<Self, Error> {
        let Granted {
            entry,
            grant,
            sent_at,
            received_at,
            ..
        } = granted;
        let Some(registration) = config.register(task::try_id(), entry.permits()) else {
            entry.abandon(&config.slot, grant.token);
            return Err(telemetry.record_failure(config.closed(operation)));
        };
        let bounds = config.hold_limits.start(sent_at, received_at, grant.lease);
        if let Some(end) = bounds.latest_end() {
            entry.set_latest_end(end);
        }
        let renewals = entry.renewals();
        // A slot that is lost already is found to be by the first look at the state.
        let renewed_at = renewals.last().and_then(Result::ok).unwrap_or(sent_at);
        let deadlines = bounds.cap(config.deadlines(renewed_at, &grant, 0));
        let telemetry = telemetry.record_grant(config.slot.labels(), &grant.token, entry.permits());
        let phase = Phase::Held {
            grant,
            deadlines,
            renewing: false,
        };
        let state = State::new(phase, renewals, bounds, telemetry, Some(registration));
        let lease = Lease::new(config.clone(), entry, state);
        lease.start_keep_alive(deadlines.renew_at, received_at);
        Ok(Self(lease))
    }

    /// Verifies a grant that took long to arrive: the slot is held once the server has renewed it,
    /// within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases the slot.
    pub(crate) async fn verified(
        config: &Arc<LeaseConfig>,
        operation: Operation,
        granted: Granted,
        limit: Duration,
        telemetry: SlotTelemetry,
    ) -> Result<Self, Error> {
        let Granted { entry, grant, .. } = granted;
        let phase = Phase::Unverified(grant);
        let state = State::new(
            phase,
            Renewals::default(),
            HoldBounds::default(),
            telemetry,
            None,
        );
        let handle = Self(Lease::new(config.clone(), entry, state));
        let lease = &handle.0;
        if let Err(error) = lease.verify_grant(grant, limit).await {
            lease.end(End::Failed(error));
        }
        handle.wait().await?;
        let renew_at = lease.lock_state().renew_at();
        let now = lease.now();
        lease.start_keep_alive(renew_at.unwrap_or(now), now);
        // Not before: a caller that does not poll this future must not delay the close.
        let registration = config.register(task::try_id(), lease.permits);
        let registration = registration.ok_or_else(|| config.closed(operation))?;
        let mut state = lease.state.lock();
        if state.is_live() {
            state.registration = Some(registration);
        }
        drop(state);
        Ok(handle)
    }

    /// Returns a place in the queue, with a task that waits for the grant. A closed client leaves
    /// the queue here.
    pub(crate) fn queued(
        config: &Arc<LeaseConfig>,
        operation: Operation,
        entry: Entry,
        telemetry: SlotTelemetry,
    ) -> Result<Self, Error> {
        let Some(registration) = config.register(None, 1) else {
            return Err(telemetry.record_failure(config.closed(operation)));
        };
        let bounds = HoldBounds::default();
        let state = State::new(
            Phase::Queued,
            Renewals::default(),
            bounds,
            telemetry,
            Some(registration),
        );
        let lease = Lease::new(config.clone(), entry, state);
        KeepAlive::spawn_queued(&lease);
        Ok(Self(lease))
    }

    /// Waits for the slot.
    pub(crate) async fn wait(&self) -> Result<Grant, Error> {
        self.0
            .wait_until(|state| match &mut state.phase {
                Phase::Queued | Phase::Unverified(_) => None,
                Phase::Held { grant, .. } => {
                    state.owned_by_user = true;
                    if let Some(registration) = &mut state.registration {
                        registration.set_task();
                    }
                    Some(Ok(*grant))
                }
                Phase::Lost(lost) => Some(Err(lost.clone().into())),
                Phase::Failed(error) => Some(Err(error
                    .take()
                    .unwrap_or_else(|| self.0.config.disconnected()))),
                Phase::Lingering { .. } | Phase::Released => {
                    Some(Err(self.0.config.disconnected()))
                }
            })
            .await
    }

    /// Ends the wait because its time is over.
    pub(crate) fn time_out(&self) {
        self.0.end(End::TimedOut);
    }

    /// Ends the wait because the client is closed, unless the user has the slot.
    pub(crate) fn client_closed(&self) {
        self.0.end(End::ClientClosed);
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

    /// Returns the number of permits of the hold.
    pub(crate) fn permits(&self) -> u32 {
        self.0.permits
    }

    /// Returns the tokens of the permits after the first one.
    pub(crate) fn further_tokens(&self) -> &[Token] {
        self.0.further_tokens.as_deref().unwrap_or_default()
    }

    /// Returns how many slots must be released before this one is granted; 0 if it is. The engine
    /// knows it.
    pub(crate) fn position(&self) -> Result<u64, Error> {
        let entry = self.0.entry.lock();
        let position = entry.as_ref().and_then(Entry::position);
        position.ok_or_else(|| self.0.config.disconnected())
    }

    pub(crate) fn config(&self) -> &Arc<LeaseConfig> {
        &self.0.config
    }

    /// The time until the lease expires, unless it is renewed. Zero if the slot is lost.
    pub(crate) fn remaining(&self) -> Duration {
        let expires_at = self.0.lock_state().expires_at();
        expires_at.map_or(Duration::ZERO, |expires_at| {
            expires_at.duration_since(self.0.now())
        })
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
    /// the reply, as does the registration. The keep-alive task stops.
    pub(crate) fn into_entry(
        self,
        token: &Token,
        now: Instant,
    ) -> Result<(Entry, Option<SlotTelemetry>, Option<Registration>), Lost> {
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
        let registration = state.registration.take();
        state.phase = Phase::Released;
        drop(state);
        drop(entry_guard);
        if !KeepAlive::take_back(&mut entry) {
            lease.changed.notify_waiters();
        }
        Ok((entry, telemetry, registration))
    }

    /// Leaves the slot to the keep-alive task if `min_hold` is not over. Returns whether it did:
    /// then the task releases the slot, and this handle has nothing left to end.
    pub(crate) fn linger(&self, outcome: Outcome) -> bool {
        let lease = &self.0;
        if lease.config.hold_limits.has_no_min() {
            return false;
        }
        let now = lease.now();
        let (lingers, telemetry) = lease.lock_state().linger(now, outcome);
        if lingers {
            lease.changed.notify_waiters();
            // The keep-alive task may not have begun with this lease.
            lease.wake_keep_alive();
        }
        drop(telemetry);
        lingers
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
        if !matches!(
            self.0.state.lock().phase,
            Phase::Released | Phase::Lingering { .. }
        ) && !self.linger(Outcome::Dropped)
        {
            self.0.end(End::Dropped);
        }
    }
}
