//! The core of a semaphore: acquires, waits and releases, with their telemetry.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::driver;
use crate::engine::{EnqueueOutcome, Granted, ReleaseOutcome, SlotSpec};
use crate::error::{ConfigError, Error, Operation};
use crate::lease::{HoldLimits, LeaseConfig, LeaseHandle, OnLost};
use crate::telemetry::{HoldSpan, Outcome, SlotTelemetry};
use crate::wire::{Grant, KeyBuf, LeaseSeconds, Primitive, Seconds, Token};

/// A grant that was received later than this after its request is verified by a renewal before it
/// is held. Half of the shortest lease that the wire can express: no lease can have ended sooner.
const MAX_UNVERIFIED_AGE: Duration = Duration::from_millis(500);

/// The unvalidated options of a semaphore or a lock, except the key and the limit.
pub(crate) struct SlotOptions {
    pub(crate) acquire_timeout: Duration,
    pub(crate) lease_ttl: Option<Duration>,
    pub(crate) renew_ratio: f64,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) on_lost: Option<OnLost>,
    pub(crate) client: Option<Client>,
}

impl Default for SlotOptions {
    fn default() -> Self {
        Self {
            acquire_timeout: Duration::from_secs(10),
            lease_ttl: None,
            renew_ratio: 0.5,
            max_hold: None,
            min_hold: None,
            on_lost: None,
            client: None,
        }
    }
}

/// The validated options of a semaphore or a lock.
#[derive(Debug)]
pub(crate) struct SemaphoreInner {
    acquire_timeout: Duration,
    config: Arc<LeaseConfig>,
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
        let hold_limits = HoldLimits::new(options.max_hold, options.min_hold, options.lease_ttl)?;
        let client = options.client.clone().map_or_else(Client::current, Ok)?;
        let server = client.engine().server_for(key.as_str())?;
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
            hold_limits,
            fencing: client.fencing(),
            on_lost: options.on_lost.clone(),
        });
        Ok(Self {
            acquire_timeout: options.acquire_timeout,
            config,
        })
    }

    pub(crate) fn key(&self) -> &str {
        self.config.slot.key.as_str()
    }

    pub(crate) fn primitive(&self) -> Primitive {
        self.config.slot.primitive
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
        let config = &self.config;
        let telemetry = SlotTelemetry::start_wait(config.slot.labels(), span);
        let acquire = pin!(config.engine.acquire(&config.slot, wait));
        match in_span(&telemetry, acquire).await {
            Ok(granted) => self.hold(granted, telemetry).await,
            Err(error) => Err(telemetry.record_failure(error)),
        }
    }

    /// Joins the queue, or takes a slot that is free.
    pub(crate) async fn enqueue(&self) -> Result<Enqueue, Error> {
        let config = &self.config;
        let telemetry = SlotTelemetry::start_wait(config.slot.labels(), HoldSpan::FollowsFrom);
        let enqueue = pin!(config.engine.enqueue(&config.slot));
        match in_span(&telemetry, enqueue).await {
            Ok(EnqueueOutcome::Granted(granted)) => {
                let held = self.hold(granted, telemetry).await;
                held.map(|(handle, grant)| Enqueue::Held(handle, grant))
            }
            Ok(EnqueueOutcome::Queued(entry)) => {
                telemetry.record_enqueue(config.slot.labels());
                Ok(Enqueue::Queued(LeaseHandle::queued(
                    config, entry, telemetry,
                )))
            }
            Err(error) => Err(telemetry.record_failure(error)),
        }
    }

    /// Waits for at most `wait` for the slot of the place in the queue that `handle` owns.
    pub(crate) async fn wait(&self, handle: &LeaseHandle, wait: Duration) -> Result<Grant, Error> {
        driver::require_timers()?;
        let granted = tokio::time::timeout(wait, handle.wait()).await;
        granted.unwrap_or_else(|_| {
            handle.time_out();
            let context = self.config.slot.context(Operation::Wait);
            Err(Error::Timeout {
                context,
                waited: wait,
            })
        })
    }

    /// Releases the slot of `token`.
    pub(crate) async fn release(&self, handle: LeaseHandle, token: &Token) -> Result<(), Error> {
        let runtime = driver::runtime_id()?;
        if handle.linger(Outcome::Released) {
            return Ok(());
        }
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

    /// Returns the hold of a slot that was granted. A late grant is verified first.
    async fn hold(
        &self,
        granted: Granted,
        telemetry: SlotTelemetry,
    ) -> Result<(LeaseHandle, Grant), Error> {
        let grant = granted.grant;
        let age = granted.received_at.duration_since(granted.sent_at);
        let handle = if age < MAX_UNVERIFIED_AGE {
            LeaseHandle::granted(&self.config, granted, telemetry)
        } else {
            // Boxed: the future is large, and rarely used.
            Box::pin(LeaseHandle::verified(&self.config, granted, telemetry)).await?
        };
        Ok((handle, grant))
    }
}

fn validate_wait(wait: Duration) -> Result<Seconds, ConfigError> {
    Seconds::round_up(wait).ok_or(ConfigError::Wait { wait })
}

/// Polls `future` inside of the span of `telemetry`.
fn in_span<T>(
    telemetry: &SlotTelemetry,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = T> {
    poll_fn(move |cx| telemetry.in_scope(|| future.as_mut().poll(cx)))
}
