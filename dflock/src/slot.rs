//! The core of a semaphore: acquires, waits and releases, with their telemetry.

mod limit_mismatch;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::clock::Instant;
use crate::driver;
use crate::engine::{Backoff, EnqueueOutcome, Granted, ReleaseOutcome, SlotSpec};
use crate::error::{ConfigError, Error, ErrorContext, Operation};
use crate::lease::{LeaseConfig, LeaseHandle, OnLost};
use crate::limit_mismatch::LimitMismatch;
use crate::telemetry::{HoldSpan, Outcome, SlotTelemetry};
use crate::wire::{Grant, KeyBuf, LeaseSeconds, Primitive, Seconds, Token};
use limit_mismatch::MismatchPolicy;

/// A grant that was received later than this after its request is verified by a renewal before it
/// is held. Half of the shortest lease that the wire can express: no lease can have ended sooner.
const MAX_UNVERIFIED_AGE: Duration = Duration::from_millis(500);

/// The unvalidated options of a semaphore or a lock, except the key and the limit.
pub(crate) struct SlotOptions {
    pub(crate) acquire_timeout: Duration,
    pub(crate) lease_ttl: Option<Duration>,
    pub(crate) renew_ratio: f64,
    pub(crate) on_lost: Option<OnLost>,
    /// `None` is the client's.
    pub(crate) on_limit_mismatch: Option<LimitMismatch>,
    pub(crate) client: Option<Client>,
}

impl Default for SlotOptions {
    fn default() -> Self {
        Self {
            acquire_timeout: Duration::from_secs(10),
            lease_ttl: None,
            renew_ratio: 0.5,
            on_lost: None,
            on_limit_mismatch: None,
            client: None,
        }
    }
}

/// The validated options of a semaphore or a lock.
#[derive(Debug)]
pub(crate) struct SemaphoreInner {
    acquire_timeout: Duration,
    config: Arc<LeaseConfig>,
    /// `None` if a limit mismatch is an error.
    mismatch_policy: Option<MismatchPolicy>,
}

/// The result of an enqueue.
#[derive(Debug)]
pub(crate) enum Enqueue {
    Held(LeaseHandle, Grant),
    Queued(LeaseHandle),
}

impl SemaphoreInner {
    pub(crate) fn new(
        key: &str,
        primitive: Primitive,
        options: &SlotOptions,
    ) -> Result<Self, ConfigError> {
        let key = KeyBuf::new(key).map_err(|why| ConfigError::key(key, why))?;
        validate_wait(options.acquire_timeout)?;
        let lease = options
            .lease_ttl
            .map(|lease| LeaseSeconds::new(lease).ok_or(ConfigError::Lease { lease }))
            .transpose()?;
        let renew_ratio = options.renew_ratio;
        // Written so that NaN is refused.
        if !(renew_ratio > 0.0 && renew_ratio < 1.0) {
            return Err(ConfigError::RenewRatio { ratio: renew_ratio });
        }
        let client = options.client.clone().map_or_else(Client::current, Ok)?;
        let server = client.engine().server_for(key.as_str())?;
        let mismatch_policy = match primitive {
            // A lock has no limit that could differ.
            Primitive::Lock => None,
            Primitive::Semaphore(_) => {
                let on_limit_mismatch = options.on_limit_mismatch;
                let on_limit_mismatch =
                    on_limit_mismatch.unwrap_or_else(|| client.on_limit_mismatch());
                MismatchPolicy::new(on_limit_mismatch, &client)
            }
        };
        let config = Arc::new(LeaseConfig {
            slot: SlotSpec {
                key,
                primitive,
                lease,
                server,
            },
            engine: client.engine().clone(),
            timing: client.timing().clone(),
            renew_ratio,
            fencing: client.fencing(),
            on_lost: options.on_lost.clone(),
        });
        Ok(Self {
            acquire_timeout: options.acquire_timeout,
            config,
            mismatch_policy,
        })
    }

    pub(crate) fn key(&self) -> &str {
        self.config.slot.key.as_str()
    }

    pub(crate) fn primitive(&self) -> Primitive {
        self.config.slot.primitive
    }

    /// Returns whether both are of the same client.
    pub(crate) fn shares_client(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config.engine, &other.config.engine)
    }

    /// Returns the time on the clock of the leases.
    pub(crate) fn now(&self) -> Instant {
        self.config.engine.now()
    }

    /// Returns the pauses between repeated acquires, each at most `max_bound`.
    pub(crate) fn backoff(&self, max_bound: Duration) -> Backoff {
        self.config.engine.backoff(&self.config.slot, max_bound)
    }

    /// Returns the context of an error of `operation`.
    pub(crate) fn context(&self, operation: Operation) -> ErrorContext {
        self.config.slot.context(operation)
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// Waits in the queue for at most `wait`, and joins it again when the place in it is lost.
    pub(crate) async fn acquire(
        &self,
        wait: Duration,
        span: HoldSpan,
    ) -> Result<(LeaseHandle, Grant), Error> {
        validate_wait(wait)?;
        if let Some(policy) = &self.mismatch_policy {
            // Boxed: the future is large, and rarely used.
            return Box::pin(self.acquire_with_policy(policy, wait, span)).await;
        }
        let config = &self.config;
        let telemetry = SlotTelemetry::start_wait(config.slot.labels(), span);
        let acquire = pin!(config.engine.acquire(&config.slot, wait));
        match in_span(&telemetry, acquire).await {
            Ok(granted) => Self::hold(config, granted, telemetry).await,
            Err(error) => Err(telemetry.record_failure(error)),
        }
    }

    /// Joins the queue, or takes a slot that is free.
    pub(crate) async fn enqueue(&self) -> Result<Enqueue, Error> {
        if let Some(policy) = &self.mismatch_policy {
            return Box::pin(self.enqueue_with_policy(policy)).await;
        }
        let config = &self.config;
        let telemetry = SlotTelemetry::start_wait(config.slot.labels(), HoldSpan::FollowsFrom);
        let enqueue = pin!(config.engine.enqueue(&config.slot));
        match in_span(&telemetry, enqueue).await {
            Ok(outcome) => Self::enqueued(config, outcome, telemetry).await,
            Err(error) => Err(telemetry.record_failure(error)),
        }
    }

    /// Waits for at most `wait` for the slot of the place in the queue that `handle` owns.
    pub(crate) async fn wait(&self, handle: &LeaseHandle, wait: Duration) -> Result<Grant, Error> {
        driver::require_timers()?;
        let granted = tokio::time::timeout(wait, handle.wait()).await;
        granted.unwrap_or_else(|_| {
            handle.time_out();
            let context = self.context(Operation::Wait);
            Err(Error::Timeout {
                context,
                waited: wait,
            })
        })
    }

    /// Releases the slot of `token`.
    pub(crate) async fn release(&self, handle: LeaseHandle, token: &Token) -> Result<(), Error> {
        let runtime = driver::runtime_id()?;
        let LeaseConfig { engine, slot, .. } = &*self.config;
        let sent_at = engine.now();
        let (entry, telemetry) = handle.into_entry(token, sent_at)?;
        let (outcome, released) = match engine
            .release(entry, slot, *token, (runtime, sent_at))
            .await
        {
            Ok(ReleaseOutcome::Released) => (Outcome::Released, Ok(())),
            Ok(ReleaseOutcome::NotHeld) => {
                let lost = self.config.report_lost(*token);
                (Outcome::Lost(lost.clone()), Err(lost.into()))
            }
            // No reply was waited for.
            Err(error @ Error::Config(_)) => (Outcome::Dropped, Err(error)),
            Err(error) => (Outcome::Closed, Err(error)),
        };
        drop(telemetry.map(|telemetry| telemetry.end(outcome)));
        released
    }

    /// Returns the hold of a slot that was free, or the place in the queue.
    async fn enqueued(
        config: &Arc<LeaseConfig>,
        outcome: EnqueueOutcome,
        telemetry: SlotTelemetry,
    ) -> Result<Enqueue, Error> {
        match outcome {
            EnqueueOutcome::Granted(granted) => {
                let held = Self::hold(config, granted, telemetry).await;
                held.map(|(handle, grant)| Enqueue::Held(handle, grant))
            }
            EnqueueOutcome::Queued(entry) => {
                telemetry.record_enqueue(config.slot.labels());
                Ok(Enqueue::Queued(LeaseHandle::queued(
                    config, entry, telemetry,
                )))
            }
        }
    }

    /// Returns the hold of a slot that was granted. A late grant is verified first.
    async fn hold(
        config: &Arc<LeaseConfig>,
        granted: Granted,
        telemetry: SlotTelemetry,
    ) -> Result<(LeaseHandle, Grant), Error> {
        let grant = granted.grant;
        let age = granted.received_at.duration_since(granted.sent_at);
        let handle = if age < MAX_UNVERIFIED_AGE {
            LeaseHandle::granted(config, granted, telemetry)
        } else {
            // Boxed: the future is large, and rarely used.
            Box::pin(LeaseHandle::verified(config, granted, telemetry)).await?
        };
        Ok((handle, grant))
    }
}

pub(crate) fn validate_wait(wait: Duration) -> Result<Seconds, ConfigError> {
    Seconds::round_up(wait).ok_or(ConfigError::Wait { wait })
}

/// Polls `future` inside of the span of `telemetry`.
fn in_span<T>(
    telemetry: &SlotTelemetry,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = T> {
    poll_fn(move |cx| telemetry.in_scope(|| future.as_mut().poll(cx)))
}
