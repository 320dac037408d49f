//! Acquires of a semaphore that does not fail when its key is in use with another limit.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Enqueue, SemaphoreInner, in_span};
use crate::client::{AdoptedLimits, Client};
use crate::clock::Instant;
use crate::engine::{Backoff, SlotSpec};
use crate::error::{Error, Operation};
use crate::lease::{LeaseConfig, LeaseHandle};
use crate::limit_mismatch::LimitMismatch;
use crate::telemetry::{self, HoldSpan, SlotTelemetry};
use crate::wire::{Grant, Limit, Primitive};

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The part of the wait that is left for the last try.
const LAST_TRY: Duration = Duration::from_millis(100);

/// The reaction to a limit mismatch, if it is not an error.
#[derive(Debug)]
pub(super) enum MismatchPolicy {
    WaitOut,
    /// The limits that semaphores of the client have adopted.
    Adopt(Arc<AdoptedLimits>),
}

impl MismatchPolicy {
    /// Returns `None` if a mismatch is an error.
    pub(super) fn new(on_limit_mismatch: LimitMismatch, client: &Client) -> Option<Self> {
        match on_limit_mismatch {
            LimitMismatch::Fail => None,
            LimitMismatch::WaitOut => Some(Self::WaitOut),
            LimitMismatch::Adopt => Some(Self::Adopt(client.adopted_limits().clone())),
        }
    }
}

impl SemaphoreInner {
    /// Like [`acquire`](Self::acquire), and handles a limit mismatch by `policy`.
    pub(super) async fn acquire_with_policy(
        &self,
        policy: &MismatchPolicy,
        wait: Duration,
        span: HoldSpan,
    ) -> Result<(LeaseHandle, Grant), Error> {
        let telemetry = SlotTelemetry::start_wait(self.config.slot.labels(), span);
        let mut tries = Tries::new(&self.config, policy, wait);
        loop {
            let config = tries.config.clone();
            match self.join(&config, tries.remaining, &telemetry).await {
                Ok(granted) => {
                    tries.confirm();
                    let operation = Operation::Acquire;
                    return match self.hold(&config, operation, granted, telemetry) {
                        Ok(acquired) => acquired,
                        Err(verification) => verification.await,
                    };
                }
                Err(error) => {
                    let prepared = tries.prepare_next(error);
                    if let Err(error) = self.until_closed(Operation::Acquire, prepared).await {
                        return Err(telemetry.record_failure(error));
                    }
                }
            }
        }
    }

    /// Like [`enqueue`](Self::enqueue), and handles a limit mismatch by `policy`.
    pub(super) async fn enqueue_with_policy(
        &self,
        policy: &MismatchPolicy,
    ) -> Result<Enqueue, Error> {
        let labels = self.config.slot.labels();
        let telemetry = SlotTelemetry::start_wait(labels, HoldSpan::FollowsFrom);
        let mut tries = Tries::new(&self.config, policy, self.acquire_timeout);
        loop {
            let config = tries.config.clone();
            let enqueue = pin!(config.engine.enqueue(&config.slot));
            let enqueue = in_span(&telemetry, enqueue);
            match self.until_closed(Operation::Enqueue, enqueue).await {
                Ok(outcome) => {
                    tries.confirm();
                    return self.enqueued(&config, outcome, telemetry).await;
                }
                Err(error) => {
                    let prepared = tries.prepare_next(error);
                    if let Err(error) = self.until_closed(Operation::Enqueue, prepared).await {
                        return Err(telemetry.record_failure(error));
                    }
                }
            }
        }
    }
}

/// The tries of one call, with the limit of the next one.
struct Tries<'a> {
    policy: &'a MismatchPolicy,
    /// The configuration with the limit of the semaphore.
    own: &'a Arc<LeaseConfig>,
    /// The configuration with the limit of the next try.
    config: Arc<LeaseConfig>,
    started_at: Instant,
    /// The wait of the whole call.
    wait: Duration,
    /// The wait of the next try.
    remaining: Duration,
    backoff: Backoff,
    /// The limit has changed since the last pause.
    has_switched: bool,
}

impl<'a> Tries<'a> {
    fn new(own: &'a Arc<LeaseConfig>, policy: &'a MismatchPolicy, wait: Duration) -> Self {
        let started_at = own.engine.now();
        let adopted = match policy {
            MismatchPolicy::WaitOut => None,
            MismatchPolicy::Adopt(limits) => limits.current(own.slot.key.as_str(), started_at),
        };
        Self {
            policy,
            own,
            config: adopted.map_or_else(|| own.clone(), |limit| with_limit(own, limit)),
            started_at,
            wait,
            remaining: wait,
            backoff: own.engine.backoff(&own.slot, MAX_PAUSE),
            has_switched: false,
        }
    }

    /// Notes that the server has accepted the limit of this try.
    fn confirm(&self) {
        if let MismatchPolicy::Adopt(limits) = self.policy {
            let SlotSpec { key, primitive, .. } = &self.config.slot;
            limits.confirm(key.as_str(), primitive.limit(), self.own.engine.now());
        }
    }

    /// Prepares the try after one that failed with `error`. Returns the error of the call if there
    /// is none.
    ///
    /// Another limit is tried at once, but only once before a pause, so that no server can cause
    /// tries without a pause.
    async fn prepare_next(&mut self, error: Error) -> Result<(), Error> {
        let (context, theirs) = match error {
            Error::LimitMismatch {
                context, theirs, ..
            } => (context, theirs),
            // The try had what was left of the wait, but the caller waited for all of it.
            Error::Timeout { context, .. } => {
                let waited = self.wait;
                return Err(Error::Timeout { context, waited });
            }
            error => return Err(error),
        };
        let next = self.next_limit(theirs.and_then(Limit::new));
        let ours = self.own.slot.primitive.limit().get();
        let mismatch = Error::LimitMismatch {
            context,
            ours,
            theirs: theirs.filter(|theirs| *theirs != ours),
        };
        if next.is_none() || mem::replace(&mut self.has_switched, true) {
            self.has_switched = false;
            let latest = self.remaining_wait().saturating_sub(LAST_TRY);
            if latest.is_zero() {
                return Err(mismatch);
            }
            sleep(self.backoff.pause().min(latest)).await;
        }
        self.remaining = self.remaining_wait();
        // A try without a wait is not limited by the wait of this call.
        if self.remaining.is_zero() && !self.wait.is_zero() {
            return Err(mismatch);
        }
        if let Some(limit) = next {
            self.config = with_limit(self.own, limit);
        }
        Ok(())
    }

    /// Returns the limit to try in place of the one that the server refused, if there is another.
    /// `theirs` is the limit of the server.
    fn next_limit(&self, theirs: Option<Limit>) -> Option<Limit> {
        let MismatchPolicy::Adopt(limits) = self.policy else {
            return None;
        };
        let SlotSpec { key, primitive, .. } = &self.own.slot;
        let own = primitive.limit();
        match theirs {
            Some(theirs) => {
                let now = self.own.engine.now();
                if theirs != own && limits.adopt(key.as_shared(), theirs, now) {
                    telemetry::warn_adopted_limit(self.own.slot.labels(), own, theirs);
                }
                Some(theirs)
            }
            None if self.config.slot.primitive != *primitive => Some(own),
            None => limits.last(key.as_str()).filter(|last| *last != own),
        }
    }

    /// Returns what is left of the wait of the whole call.
    fn remaining_wait(&self) -> Duration {
        let elapsed = self.own.engine.now().duration_since(self.started_at);
        self.wait.saturating_sub(elapsed)
    }
}

/// Returns the configuration `own` with another `limit`.
fn with_limit(own: &Arc<LeaseConfig>, limit: Limit) -> Arc<LeaseConfig> {
    let primitive = Primitive::Semaphore(limit);
    if own.slot.primitive == primitive {
        return own.clone();
    }
    let slot = SlotSpec {
        primitive,
        ..own.slot.clone()
    };
    Arc::new(LeaseConfig {
        slot,
        ..LeaseConfig::clone(own)
    })
}
