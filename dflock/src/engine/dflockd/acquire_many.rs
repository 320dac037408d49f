//! Acquiring several permits of a key: all or none, on one connection.
//!
//! The protocol grants one permit for each request, so a caller that wants several holds some while
//! it waits for others. Two such callers could each wait for what the other one holds. Therefore a
//! caller that waits first acquires the *gate* of the key: a semaphore with one slot, whose key is
//! [`GATE_PREFIX`] and the key. It keeps the gate until it has all permits.
//!
//! Each permit is requested by a place in the queue of the key, so that acquires of one permit
//! cannot overtake it forever.

use std::mem;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::runtime::Id;
use tokio::time::sleep;

use super::acquire::{AttemptError, Rejoin, attempt_error, context, is_late, limits, request};
use super::call_limits::{AcquireLimits, CallLimits};
use super::entry::{release, renewal, renewed_lease};
use super::pool::{CallContext, CallError, Pool, Response};
use super::{Connection, ConnectionError, Dflockd, Entry, release_outcome};
use crate::clock::Instant;
use crate::driver;
use crate::engine::{self, Granted, RenewalPolicy, SlotSpec};
use crate::error::{ConfigError, Error, Operation};
use crate::mutex::Mutex;
use crate::wire::{Grant, KeyBuf, Limit, MAX_LINE, Primitive, Reply, Request};

/// The start of the key of a gate.
const GATE_PREFIX: &str = "dflock.gate:";

/// The time after the wait in which the server may answer `timeout` itself, so that the connection
/// can be reused. It is short, because permits are held without a use meanwhile.
const GRACE: Duration = Duration::from_millis(100);

impl Dflockd {
    /// Checks that so many `permits` of `slot` can be requested.
    #[expect(clippy::unused_self, reason = "the bounds are those of an engine")]
    pub(crate) fn validate_permits(
        &self,
        slot: &SlotSpec,
        permits: NonZeroU32,
    ) -> Result<(), ConfigError> {
        if permits.get() > 1 {
            gate(slot)?;
        }
        Ok(())
    }

    /// Waits for so many `permits` of `slot`, for at most `wait`. Without a wait it takes them only
    /// if all are free.
    ///
    /// The leases of the first permits are renewed by `policy` while the call waits for the others.
    /// If one of them is lost, or the connection, the call starts again, until the wait is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the permits that were granted, and leaves the queue.
    pub(crate) async fn acquire_many(
        &self,
        slot: &SlotSpec,
        permits: NonZeroU32,
        wait: Duration,
        policy: &dyn RenewalPolicy,
    ) -> Result<Granted, Error> {
        let pool = self.pool(slot);
        let attempt = Attempt {
            pool,
            runtime: driver::runtime_id()?,
            slot,
            gate: gate(slot)?,
            permits: usize::try_from(permits.get()).unwrap_or(usize::MAX),
            limits: limits(pool, pool.now(), wait),
            policy,
        };
        let mut rejoin = Rejoin::new(self, slot, attempt.limits);
        let mut is_first = true;
        loop {
            match attempt.run(is_first).await {
                Ok(granted) => return Ok(granted),
                Err(failed) => rejoin.pause(failed).await?,
            }
            is_first = false;
        }
    }
}

/// Returns the gate of `slot`, on its server. It is held by one caller at a time.
fn gate(slot: &SlotSpec) -> Result<SlotSpec, ConfigError> {
    let key = slot.key.as_str();
    let gate = KeyBuf::new(format!("{GATE_PREFIX}{key}"));
    let key = gate.map_err(|_| ConfigError::PermitsKey {
        key: key.chars().take(64).collect(),
        bytes: key.len(),
        max: MAX_LINE - GATE_PREFIX.len(),
    })?;
    Ok(SlotSpec {
        key,
        primitive: Primitive::Semaphore(Limit::ONE),
        lease: slot.lease,
        server: slot.server.clone(),
    })
}

/// One attempt to acquire all permits.
struct Attempt<'a> {
    pool: &'a Pool,
    runtime: Id,
    slot: &'a SlotSpec,
    gate: SlotSpec,
    permits: usize,
    limits: AcquireLimits,
    policy: &'a dyn RenewalPolicy,
}

impl Attempt<'_> {
    /// Acquires the gate and the permits, and releases the gate. The first attempt may use an idle
    /// connection.
    async fn run(&self, is_first: bool) -> Result<Granted, AttemptError> {
        let (pool, context) = (self.pool, self.context());
        let needs_gate = self.needs_gate();
        let first = if needs_gate { &self.gate } else { self.slot };
        let call = self.limits.call();
        let called = if is_first {
            pool.call(context, request(first), call, pool.now()).await
        } else {
            pool.call_on_new(context, request(first), call).await
        };
        let (connection, grant, sent_at) = match called {
            Ok(Response {
                connection,
                reply: Reply::Granted(grant),
                sent_at,
            }) => (connection, grant, sent_at),
            failed => return Err(attempt_error(pool, context, &self.limits, failed)),
        };
        let first = Lease::new(self, first, grant, sent_at);
        let (gate, permits) = if needs_gate {
            (Some(first), Vec::new())
        } else {
            (None, vec![first])
        };
        let mut partial = Partial {
            attempt: self,
            connection: Some(connection),
            leases: Mutex::new(Leases { gate, permits }),
        };
        partial.acquire_rest().await?;
        partial.release_gate().await?;
        partial.finish()
    }

    /// Without a wait no permit is held during one, so there is no gate. It could be taken by a caller
    /// that is about to release it.
    fn needs_gate(&self) -> bool {
        !self.limits.wait().is_zero()
    }

    /// Requests the missing permits, one after the other. Returns the first reply that is no grant,
    /// with a time before its request was sent.
    async fn request_rest<'a>(
        &'a self,
        connection: &mut Connection,
        leases: &Mutex<Leases<'a>>,
    ) -> Result<Option<(Reply, Instant)>, ConnectionError> {
        while leases.lock().permits.len() < self.permits {
            let (sent_at, call) = (self.pool.now(), self.limits.call());
            let request = call.apply(request(self.slot), sent_at);
            let mut limit = call.reply(sent_at);
            if self.needs_gate() {
                // The server counts whole seconds, and may answer up to a second after the wait.
                limit = limit.min(self.limits.remaining_wait(sent_at) + GRACE);
            }
            // A grant is stored in the poll that has read it, so that no cancellation loses it.
            let replies = connection.call_all([request], limit).await?;
            for reply in replies {
                let Reply::Granted(grant) = reply else {
                    return Ok(Some((reply, sent_at)));
                };
                let lease = Lease::new(self, self.slot, grant, sent_at);
                leases.lock().permits.push(lease);
            }
        }
        Ok(None)
    }

    /// Renews the leases until a renewal fails. It uses a second connection, because the server
    /// holds back its replies on a connection with a request that waits.
    ///
    /// A permit that is granted while this sleeps expires later than the others.
    async fn renew_until_failure(&self, leases: &Mutex<Leases<'_>>) -> Error {
        loop {
            let renew_at = leases.lock().renew_at();
            let now = self.pool.now();
            if now < renew_at {
                sleep(renew_at.duration_since(now)).await;
            } else if let Err(error) = self.renew(leases).await {
                return error;
            }
        }
    }

    /// Renews all leases once.
    async fn renew(&self, leases: &Mutex<Leases<'_>>) -> Result<(), Error> {
        let (pool, slot) = (self.pool, self.slot);
        let sent_at = pool.now();
        let context = context(slot, Operation::Renew);
        let requests: Vec<_> = leases.lock().iter().map(Lease::renewal).collect();
        let mut idle = pool.take_idle(self.runtime);
        let replies = loop {
            let is_idle = idle.is_some();
            let mut connection = match idle.take() {
                Some(connection) => connection,
                None => {
                    pool.open(context, CallLimits::immediate(pool.socket_timeout()))
                        .await?
                }
            };
            let requests = requests.iter().copied();
            match connection.call_all(requests, pool.socket_timeout()).await {
                Ok(replies) => {
                    pool.put_back(connection, sent_at);
                    break replies;
                }
                // The server had closed it.
                Err(error) if is_idle && error.is_disconnect() => {}
                Err(error) => return Err(error.into_error(context.to_error_context())),
            }
        };
        // Permits that were granted in the meantime are behind the others.
        for (lease, reply) in leases.lock().iter_mut().zip(replies) {
            let context = || slot.context(Operation::Renew);
            let renewed = renewed_lease(reply, slot.lease, &lease.grant)
                .map_err(|error| error.into_error(context()))?;
            lease.grant.lease =
                renewed.ok_or_else(|| Error::LeaseExpired { context: context() })?;
            lease.renewals += 1;
            lease.renew_at = self.policy.renew_at(sent_at, &lease.grant, lease.renewals);
        }
        Ok(())
    }

    fn context(&self) -> CallContext<'_> {
        context(self.slot, Operation::Acquire)
    }

    /// Returns the error of the attempt when the connection of its permits failed. The server has
    /// granted something on it, so that its end is the loss of a place in a queue.
    fn error(&self, error: ConnectionError) -> AttemptError {
        let context = self.context();
        let error = match error {
            ConnectionError::Timeout(_) if self.needs_gate() => {
                let (context, waited) = (context.to_error_context(), self.limits.wait());
                return AttemptError::Failed(Error::Timeout { context, waited });
            }
            ConnectionError::Timeout(_) => CallError::Timeout,
            error if error.is_disconnect() => {
                CallError::QueueLost(error.into_error(context.to_error_context()))
            }
            error => CallError::Failed(error.into_error(context.to_error_context())),
        };
        attempt_error(self.pool, context, &self.limits, Err(error))
    }
}

/// The lease of the gate or of a permit.
struct Lease<'a> {
    slot: &'a SlotSpec,
    grant: Grant,
    /// A time before the request of the grant was sent.
    requested_at: Instant,
    renewals: u64,
    renew_at: Instant,
}

impl<'a> Lease<'a> {
    fn new(attempt: &Attempt<'_>, slot: &'a SlotSpec, grant: Grant, requested_at: Instant) -> Self {
        Self {
            slot,
            grant,
            requested_at,
            renewals: 0,
            // From the grant, and not from the request, which may have waited for longer than the
            // lease. The hold does not depend on it: all permits of a late grant are verified.
            renew_at: attempt.policy.renew_at(attempt.pool.now(), &grant, 0),
        }
    }

    fn renewal(&self) -> Request<'a> {
        renewal(self.slot, self.grant.token, self.slot.lease)
    }

    fn release(&self) -> Request<'a> {
        release(self.slot, self.grant.token)
    }
}

/// The leases of one attempt.
struct Leases<'a> {
    gate: Option<Lease<'a>>,
    permits: Vec<Lease<'a>>,
}

impl<'a> Leases<'a> {
    fn iter(&self) -> impl Iterator<Item = &Lease<'a>> {
        self.gate.iter().chain(&self.permits)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lease<'a>> {
        self.gate.iter_mut().chain(&mut self.permits)
    }

    /// Returns the time of the next renewal.
    fn renew_at(&self) -> Instant {
        let times = self.iter().map(|lease| lease.renew_at);
        times.min().unwrap_or(Instant::MAX)
    }

    /// Returns the releases of the permits and then of the gate.
    fn releases(&self) -> Vec<Request<'a>> {
        self.permits
            .iter()
            .chain(&self.gate)
            .map(Lease::release)
            .collect()
    }
}

/// The permits that an attempt has so far. Dropping it gives them back, and the gate.
struct Partial<'a> {
    attempt: &'a Attempt<'a>,
    /// The connection to which the server attributes them. `None` once it is handed over.
    connection: Option<Box<Connection>>,
    leases: Mutex<Leases<'a>>,
}

impl<'a> Partial<'a> {
    /// Acquires the missing permits, and keeps the leases of the others meanwhile.
    async fn acquire_rest(&mut self) -> Result<(), AttemptError> {
        let (attempt, leases) = (self.attempt, &self.leases);
        let Some(connection) = &mut self.connection else {
            return Err(attempt.error(ConnectionError::Closed));
        };
        let requested = tokio::select! {
            biased;
            requested = attempt.request_rest(connection, leases) => requested,
            error = attempt.renew_until_failure(leases) => {
                return Err(AttemptError::QueueLost(error));
            }
        };
        let Some((reply, sent_at)) = requested.map_err(|error| attempt.error(error))? else {
            return Ok(());
        };
        // Before the connection returns to the pool.
        let releases = leases.lock().releases();
        self.release_all(releases).await?;
        let response = Response {
            connection: self.take_connection()?,
            reply,
            sent_at,
        };
        let (context, limits) = (attempt.context(), &attempt.limits);
        Err(attempt_error(attempt.pool, context, limits, Ok(response)))
    }

    /// Releases the gate, so that the next caller of several permits can begin.
    async fn release_gate(&mut self) -> Result<(), AttemptError> {
        let release = self.leases.lock().gate.as_ref().map(Lease::release);
        if release.is_some() {
            self.release_all(release).await?;
        }
        Ok(())
    }

    /// Sends releases, and waits for the replies.
    async fn release_all(
        &mut self,
        releases: impl IntoIterator<Item = Request<'a>>,
    ) -> Result<(), AttemptError> {
        let attempt = self.attempt;
        let limit = attempt.limits.immediate(attempt.pool.now());
        let Some(connection) = &mut self.connection else {
            return Err(attempt.error(ConnectionError::Closed));
        };
        let replies = match connection.call_all(releases, limit).await {
            Ok(replies) => replies,
            Err(ConnectionError::Timeout(limit)) => {
                let context = attempt.context().to_error_context();
                return Err(AttemptError::Failed(Error::Unresponsive { context, limit }));
            }
            Err(error) => return Err(attempt.error(error)),
        };
        // A permit or gate that was lost before is released as well.
        for reply in replies {
            release_outcome(attempt.slot, &reply).map_err(AttemptError::Failed)?;
        }
        Ok(())
    }

    /// Returns the hold of all permits.
    fn finish(mut self) -> Result<Granted, AttemptError> {
        let permits = mem::take(&mut self.leases.lock().permits);
        let lease = permits.iter().map(|permit| permit.grant.lease).min();
        let mut permits = permits.into_iter();
        let (Some(first), Some(lease)) = (permits.next(), lease) else {
            return Err(self.attempt.error(ConnectionError::Closed));
        };
        let further = permits.map(|permit| permit.grant).collect();
        let received_at = self.attempt.pool.now();
        Ok(Granted {
            entry: engine::Entry::Dflockd(Entry::with_permits(self.take_connection()?, further)),
            // The hold ends with the first of its leases.
            grant: Grant {
                lease,
                ..first.grant
            },
            sent_at: first.requested_at,
            received_at,
            verify_timeout: is_late(first.requested_at, received_at)
                .then(|| self.attempt.limits.immediate(received_at)),
        })
    }

    fn take_connection(&mut self) -> Result<Box<Connection>, AttemptError> {
        let connection = self.connection.take();
        connection.ok_or_else(|| self.attempt.error(ConnectionError::Closed))
    }
}

impl Drop for Partial<'_> {
    /// Does not block and needs no runtime.
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let mut releases = self.leases.lock().releases();
        if let Some(Reply::Granted(grant)) = connection.try_last_reply() {
            releases.push(release(self.attempt.slot, grant.token));
        }
        // A server of v1.10 does not read from a connection on which a request waits: it would
        // count the permits as held until then. Another connection releases them at once.
        if connection.pending_replies() > 0
            && let Some(mut idle) = self.attempt.pool.take_idle(self.attempt.runtime)
        {
            releases.iter().for_each(|release| idle.send(release));
        }
        releases.iter().for_each(|release| connection.send(release));
    }
}
