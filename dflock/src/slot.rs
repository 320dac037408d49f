//! The core of a semaphore and a lock: acquires, waits and releases, with their telemetry.

mod options;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::driver;
use crate::engine::{EnqueueOutcome, Granted, ReleaseOutcome, SlotSpec};
use crate::error::{ConfigError, Error, Operation};
use crate::lease::{LeaseConfig, LeaseHandle};
use crate::telemetry::{HoldSpan, Outcome, SlotTelemetry};
use crate::wire::{Grant, KeyBuf, LeaseSeconds, Seconds, Token};

pub(crate) use options::{RawOptions, handle_builder};

/// A grant that was received later than this after its request is verified by a renewal before it
/// is held. Half of the shortest lease that the wire can express: no lease can have ended sooner.
const MAX_UNVERIFIED_AGE: Duration = Duration::from_millis(500);

/// The validated options of a semaphore or a lock.
#[derive(Debug)]
pub(crate) struct SemaphoreInner {
    acquire_timeout: Duration,
    config: Arc<LeaseConfig>,
}

/// The verification of a grant that arrived late. Boxed: it is large, and rarely used.
type Verification<'a> =
    Pin<Box<dyn Future<Output = Result<(LeaseHandle, Grant), Error>> + Send + 'a>>;

/// The result of an enqueue.
#[derive(Debug)]
pub(crate) enum Enqueue {
    Held(LeaseHandle, Grant),
    Queued(LeaseHandle),
}

impl SemaphoreInner {
    pub(crate) fn new(options: RawOptions) -> Result<Self, ConfigError> {
        let key =
            KeyBuf::new(options.key.as_str()).map_err(|why| ConfigError::key(&options.key, why))?;
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
        let client = options.client.map_or_else(Client::current, Ok)?;
        let engine = client.engine();
        let capabilities = engine.capabilities();
        if let Some(lease) = lease
            && lease.as_duration() < capabilities.shortest_lease
        {
            return Err(ConfigError::ShortLease {
                lease: lease.as_duration(),
                engine: capabilities.engine,
                shortest: capabilities.shortest_lease,
            });
        }
        let server = engine.server_for(key.as_str())?;
        let config = Arc::new(LeaseConfig {
            slot: SlotSpec {
                key,
                capacity: options.capacity,
                lease,
                server,
            },
            engine: client.engine().clone(),
            timing: client.timing().clone(),
            renew_ratio,
            fencing: client.fencing() || capabilities.fence,
            on_lost: options.on_lost,
        });
        Ok(Self {
            acquire_timeout: options.acquire_timeout,
            config,
        })
    }

    pub(crate) fn key(&self) -> &str {
        self.config.slot.key.as_str()
    }

    pub(crate) fn limit(&self) -> u32 {
        self.config.slot.capacity.limit().get()
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
        let telemetry = SlotTelemetry::waiting(config.slot.labels(), span);
        let acquire = pin!(config.engine.acquire(&config.slot, wait));
        match in_span(&telemetry, acquire).await {
            Ok(granted) => match self.hold(granted, telemetry) {
                Ok(held) => Ok(held),
                Err(verification) => verification.await,
            },
            Err(error) => Err(telemetry.failed(error)),
        }
    }

    /// Joins the queue, or takes a slot that is free.
    pub(crate) async fn enqueue(&self) -> Result<Enqueue, Error> {
        let config = &self.config;
        let telemetry = SlotTelemetry::waiting(config.slot.labels(), HoldSpan::FollowsFrom);
        let enqueue = pin!(config.engine.enqueue(&config.slot));
        match in_span(&telemetry, enqueue).await {
            Ok(EnqueueOutcome::Granted(granted)) => {
                let (handle, grant) = match self.hold(granted, telemetry) {
                    Ok(held) => held,
                    Err(verification) => verification.await?,
                };
                Ok(Enqueue::Held(handle, grant))
            }
            Ok(EnqueueOutcome::Queued(entry)) => {
                telemetry.queued(config.slot.labels());
                Ok(Enqueue::Queued(LeaseHandle::queued(
                    config, entry, telemetry,
                )))
            }
            Err(error) => Err(telemetry.failed(error)),
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

    /// Returns the position of the place in the queue that `handle` owns.
    pub(crate) fn position(&self, handle: &LeaseHandle) -> Result<u64, Error> {
        let LeaseConfig { engine, slot, .. } = &*self.config;
        handle
            .position()
            .ok_or_else(|| engine.unsupported(Operation::Position, slot.key.as_shared().clone()))
    }

    /// Releases the slot of `token`.
    pub(crate) async fn release(&self, handle: LeaseHandle, token: &Token) -> Result<(), Error> {
        let runtime = driver::runtime()?;
        let LeaseConfig { engine, slot, .. } = &*self.config;
        let sent_at = engine.now();
        let (entry, telemetry) = handle.into_entry(token, sent_at)?;
        let (outcome, released) = match engine
            .release(entry, slot, *token, (runtime, sent_at))
            .await
        {
            Ok(ReleaseOutcome::Released) => (Outcome::Released, Ok(())),
            Ok(ReleaseOutcome::NotHeld(reason)) => {
                let lost = self.config.report_lost(*token, reason);
                (Outcome::Lost(lost.clone()), Err(lost.into()))
            }
            // No reply was waited for.
            Err(error @ Error::Config(_)) => (Outcome::Dropped, Err(error)),
            Err(error) => (Outcome::Closed, Err(error)),
        };
        drop(telemetry.map(|telemetry| telemetry.ended(outcome)));
        released
    }

    /// Returns the hold of a slot that was granted, or the verification of a late grant.
    ///
    /// It is not `async`: that would store the grant twice in the future of every acquire.
    fn hold(
        &self,
        granted: Granted,
        telemetry: SlotTelemetry,
    ) -> Result<(LeaseHandle, Grant), Verification<'_>> {
        let grant = granted.grant;
        let age = granted.received_at.since(granted.sent_at);
        match granted.verify_timeout {
            Some(limit) if age >= MAX_UNVERIFIED_AGE => Err(Box::pin(async move {
                let verified = LeaseHandle::verified(&self.config, granted, limit, telemetry);
                Ok((verified.await?, grant))
            })),
            _ => {
                let handle = LeaseHandle::granted(&self.config, granted, telemetry);
                Ok((handle, grant))
            }
        }
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
    poll_fn(move |cx| telemetry.within(|| future.as_mut().poll(cx)))
}
