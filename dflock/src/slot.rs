//! The core of a semaphore: acquires, waits and releases, with their telemetry.

mod limit_mismatch;

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::task;
use tokio::time::timeout;

use crate::client::{Client, LocalQueue};
use crate::clock::Instant;
use crate::driver;
use crate::engine::{Backoff, EnqueueOutcome, Granted, ReleaseOutcome, SlotSpec};
use crate::error::{ConfigError, Error, ErrorContext, Operation};
use crate::lease::{HoldLimits, LeaseConfig, LeaseHandle, OnLost};
use crate::limit_mismatch::LimitMismatch;
use crate::telemetry::{self, HoldSpan, Outcome, SlotTelemetry};
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
    pub(crate) max_hold: Option<Duration>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) on_lost: Option<OnLost>,
    /// `None` is the client's.
    pub(crate) on_limit_mismatch: Option<LimitMismatch>,
    pub(crate) local_queue: Option<u32>,
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
            on_limit_mismatch: None,
            local_queue: None,
            client: None,
        }
    }
}

/// The validated options of a semaphore or a lock.
#[derive(Debug)]
pub(crate) struct SemaphoreInner {
    acquire_timeout: Duration,
    local_queue: Option<Arc<LocalQueue>>,
    config: Arc<LeaseConfig>,
    /// `None` if a limit mismatch is an error.
    mismatch_policy: Option<MismatchPolicy>,
}

/// The hold of a slot that was granted.
type Acquired = Result<(LeaseHandle, Grant), Error>;

/// The verification of a grant that arrived late. Boxed: it is large, and rarely used.
type Verification<'a> = Pin<Box<dyn Future<Output = Acquired> + Send + 'a>>;

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
        let local_queue = options
            .local_queue
            .map(|waiters| NonZeroU32::new(waiters).ok_or(ConfigError::LocalQueue))
            .transpose()?;
        let client = options.client.clone().map_or_else(Client::current, Ok)?;
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
        let slot = SlotSpec {
            key,
            primitive,
            lease,
            server,
        };
        let local_queue = local_queue.map(|waiters| client.local_queues().get(&slot, waiters));
        let config = Arc::new(LeaseConfig {
            key_hash: client.holds().hash(&slot),
            slot,
            holds: client.holds().clone(),
            engine: engine.clone(),
            timing: client.timing().clone(),
            renew_ratio,
            hold_limits,
            fencing: client.fencing() || capabilities.fence,
            on_lost: options.on_lost.clone(),
        });
        Ok(Self {
            acquire_timeout: options.acquire_timeout,
            local_queue,
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
        self.check_open(Operation::Acquire)?;
        if !wait.is_zero() {
            self.warn_about_self_deadlock();
        }
        if let Some(policy) = &self.mismatch_policy {
            // Boxed: the future is large, and rarely used.
            return Box::pin(self.acquire_with_policy(policy, wait, span)).await;
        }
        // `self.config` each time: a local would be stored in the future.
        let telemetry = SlotTelemetry::start_wait(self.config.slot.labels(), span);
        match self.join(&self.config, wait, &telemetry).await {
            Ok(granted) => match self.hold(&self.config, Operation::Acquire, granted, telemetry) {
                Ok(acquired) => acquired,
                Err(verification) => verification.await,
            },
            Err(error) => Err(telemetry.record_failure(error)),
        }
    }

    /// Waits for a slot, for at most `wait`, or until the client is closed.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` stores its arguments twice, and every acquire moves this future"
    )]
    fn join<'a>(
        &'a self,
        config: &'a LeaseConfig,
        wait: Duration,
        telemetry: &'a SlotTelemetry,
    ) -> impl Future<Output = Result<Granted, Error>> + Send + 'a {
        async move {
            match &self.local_queue {
                Some(queue) if !wait.is_zero() => {
                    // Boxed: the future is large, and rarely used.
                    let mut acquire = Box::pin(Self::acquire_through(queue, config, wait));
                    let acquire = in_span(telemetry, acquire.as_mut());
                    self.until_closed(Operation::Acquire, acquire).await
                }
                _ => {
                    let acquire = pin!(config.engine.acquire(&config.slot, wait));
                    let acquire = in_span(telemetry, acquire);
                    self.until_closed(Operation::Acquire, acquire).await
                }
            }
        }
    }

    /// Waits in the local queue and then on the server, for at most `wait` together.
    async fn acquire_through(
        queue: &LocalQueue,
        config: &LeaseConfig,
        wait: Duration,
    ) -> Result<Granted, Error> {
        let LeaseConfig { engine, slot, .. } = config;
        let timeout_error = || Error::Timeout {
            context: slot.context(Operation::Acquire),
            waited: wait,
        };
        driver::require_timers()?;
        let (place, remaining) = if let Ok(place) = queue.try_acquire() {
            // The whole wait, although some time has passed: the server counts whole seconds.
            (place, wait)
        } else {
            let started_at = engine.now();
            // The queue is never closed.
            let Ok(Ok(place)) = timeout(wait, queue.acquire()).await else {
                return Err(timeout_error());
            };
            let waited = engine.now().duration_since(started_at);
            (place, wait.saturating_sub(waited))
        };
        // Zero would acquire only a free slot, and return another error if the server is down.
        if remaining.is_zero() {
            return Err(timeout_error());
        }
        let granted = engine.acquire(slot, remaining).await;
        drop(place);
        granted.map_err(|error| match error {
            Error::Timeout { .. } => timeout_error(),
            error => error,
        })
    }

    /// Joins the queue, or takes a slot that is free.
    pub(crate) async fn enqueue(&self) -> Result<Enqueue, Error> {
        self.check_open(Operation::Enqueue)?;
        if let Some(policy) = &self.mismatch_policy {
            return Box::pin(self.enqueue_with_policy(policy)).await;
        }
        let config = &self.config;
        let telemetry = SlotTelemetry::start_wait(config.slot.labels(), HoldSpan::FollowsFrom);
        let enqueue = pin!(config.engine.enqueue(&config.slot));
        let enqueue = in_span(&telemetry, enqueue);
        match self.until_closed(Operation::Enqueue, enqueue).await {
            Ok(outcome) => self.enqueued(config, outcome, telemetry).await,
            Err(error) => Err(telemetry.record_failure(error)),
        }
    }

    /// Waits for at most `wait` for the slot of the place in the queue that `handle` owns.
    pub(crate) async fn wait(&self, handle: &LeaseHandle, wait: Duration) -> Result<Grant, Error> {
        driver::require_timers()?;
        if self.config.holds.is_closed() {
            handle.client_closed();
        } else if !wait.is_zero() && !handle.is_held() {
            self.warn_about_self_deadlock();
        }
        let granted = timeout(wait, handle.wait()).await;
        granted.unwrap_or_else(|_| {
            handle.time_out();
            let context = self.context(Operation::Wait);
            Err(Error::Timeout {
                context,
                waited: wait,
            })
        })
    }

    /// Returns the position of the place in the queue that `handle` owns.
    pub(crate) fn position(&self, handle: &LeaseHandle) -> Result<u64, Error> {
        let LeaseConfig { engine, slot, .. } = &*self.config;
        if !engine.capabilities().position {
            return Err(engine.unsupported(Operation::Position, slot.key.as_shared().clone()));
        }
        handle.position()
    }

    /// Releases the slot of `token`.
    pub(crate) async fn release(&self, handle: LeaseHandle, token: &Token) -> Result<(), Error> {
        let runtime = driver::runtime_id()?;
        if handle.linger(Outcome::Released) {
            return Ok(());
        }
        let LeaseConfig { engine, slot, .. } = &*self.config;
        let sent_at = engine.now();
        let (entry, telemetry, registration) = handle.into_entry(token, sent_at)?;
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
        drop(telemetry.map(|telemetry| telemetry.end(outcome)));
        drop(registration);
        released
    }

    /// Returns the hold of a slot that was free, or the place in the queue.
    async fn enqueued(
        &self,
        config: &Arc<LeaseConfig>,
        outcome: EnqueueOutcome,
        telemetry: SlotTelemetry,
    ) -> Result<Enqueue, Error> {
        match outcome {
            EnqueueOutcome::Granted(granted) => {
                let acquired = match self.hold(config, Operation::Enqueue, granted, telemetry) {
                    Ok(acquired) => acquired,
                    Err(verification) => verification.await,
                };
                acquired.map(|(handle, grant)| Enqueue::Held(handle, grant))
            }
            EnqueueOutcome::Queued(entry) => {
                telemetry.record_enqueue(config.slot.labels());
                let handle = LeaseHandle::queued(config, entry, telemetry);
                handle.register(Operation::Enqueue, None)?;
                Ok(Enqueue::Queued(handle))
            }
        }
    }

    /// Returns the hold of a slot that was granted, or the verification of a late grant.
    ///
    /// It is not `async`: that would store the grant twice in the future of every acquire.
    fn hold<'a>(
        &'a self,
        config: &'a Arc<LeaseConfig>,
        operation: Operation,
        granted: Granted,
        telemetry: SlotTelemetry,
    ) -> Result<Acquired, Verification<'a>> {
        let grant = granted.grant;
        let age = granted.received_at.duration_since(granted.sent_at);
        match granted.verify_timeout {
            Some(limit) if age >= MAX_UNVERIFIED_AGE => Err(Box::pin(async move {
                let verified = LeaseHandle::verified(config, granted, limit, telemetry);
                let handle = self.until_closed(operation, verified).await?;
                register(handle, operation, grant)
            })),
            _ => {
                let handle = LeaseHandle::granted(config, granted, telemetry);
                Ok(register(handle, operation, grant))
            }
        }
    }

    /// Warns if the current task is about to wait for a slot that only it can release.
    fn warn_about_self_deadlock(&self) {
        let LeaseConfig {
            slot,
            holds,
            key_hash,
            ..
        } = &*self.config;
        if holds.current_task_holds_all(*key_hash, slot.primitive.limit().get()) {
            telemetry::warn_self_deadlock(slot.labels(), slot.primitive.limit());
        }
    }

    fn check_open(&self, operation: Operation) -> Result<(), Error> {
        if self.config.holds.is_closed() {
            return Err(self.config.closed(operation));
        }
        Ok(())
    }

    /// Awaits `future`, or returns an error as soon as the client is closed.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` stores its arguments twice, and every acquire moves this future"
    )]
    fn until_closed<'a, T: 'a>(
        &'a self,
        operation: Operation,
        future: impl Future<Output = Result<T, Error>> + Send + 'a,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'a {
        async move {
            tokio::select! {
                biased;
                result = future => result,
                () = self.config.holds.closed() => Err(self.config.closed(operation)),
            }
        }
    }
}

/// Registers the hold with its client. A client that was closed in the meantime gives up the slot.
fn register(handle: LeaseHandle, operation: Operation, grant: Grant) -> Acquired {
    handle.register(operation, task::try_id())?;
    Ok((handle, grant))
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
