//! Acquiring several permits of a key: all or none, on one connection.
//!
//! The protocol grants one permit for each request, so a caller that wants several holds some while
//! it waits for others. Two such callers could each wait for what the other one holds. Therefore a
//! caller that waits first acquires the *gate* of the key: a semaphore with one slot, whose key is
//! [`GATE_PREFIX`] and the key. It keeps the gate until it has all permits.
//!
//! The gate has a separate connection. A server of v1.10 does not read from a connection on which a
//! request waits, so all renewals, and the releases of a cancelled call, are sent on the connection
//! of the gate.
//!
//! Each permit is requested by a place in the queue of the key, so that acquires of one permit
//! cannot overtake it forever.

use std::future::poll_fn;
use std::mem;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::timeout;

use super::acquire::{AttemptError, Rejoin, attempt_error, context, is_late, limits, request};
use super::call_limits::{AcquireLimits, CallLimits};
use super::entry::{release, renewal, renewed_lease};
use super::pool::{CallContext, CallError, Pool, Response};
use super::{Connection, ConnectionError, Dflockd, Entry, release_outcome};
use crate::clock::Instant;
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
    /// The leases of the gate and of the first permits are renewed by `policy` while the call waits
    /// for the others. If one of them is lost, or a connection, the call starts again, until the wait
    /// is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the permits that were granted, and the gate, and leaves the queue.
    pub(crate) async fn acquire_many(
        &self,
        slot: &SlotSpec,
        permits: NonZeroU32,
        wait: Duration,
        policy: &dyn RenewalPolicy,
    ) -> Result<Granted, Error> {
        let pool = self.pool(slot);
        let mut attempt = Attempt {
            pool,
            slot,
            gate: gate(slot)?,
            permits: usize::try_from(permits.get()).unwrap_or(usize::MAX),
            limits: limits(pool, pool.now(), wait),
            policy,
            is_first: true,
        };
        let mut rejoin = Rejoin::new(self, slot, attempt.limits);
        loop {
            match attempt.run().await {
                Ok(granted) => return Ok(granted),
                Err(failed) => rejoin.pause(failed).await?,
            }
            attempt.is_first = false;
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
    slot: &'a SlotSpec,
    gate: SlotSpec,
    permits: usize,
    limits: AcquireLimits,
    policy: &'a dyn RenewalPolicy,
    /// The first attempt may use idle connections. Before a later one the server went away.
    is_first: bool,
}

impl Attempt<'_> {
    /// Acquires the gate and the permits, and releases the gate.
    async fn run(&self) -> Result<Granted, AttemptError> {
        let mut partial = Partial {
            attempt: self,
            gate: None,
            connection: None,
            leases: Mutex::default(),
        };
        if self.needs_gate() {
            partial.acquire_gate().await?;
        }
        partial.acquire_permits().await?;
        if self.needs_gate() {
            partial.release_gate().await?;
        }
        partial.finish()
    }

    /// Without a wait no permit is held during one, so there is no gate. It could be taken by a caller
    /// that is about to release it.
    fn needs_gate(&self) -> bool {
        !self.limits.wait().is_zero()
    }

    /// Requests `slot` on a connection of the pool.
    async fn call(&self, slot: &SlotSpec, limits: CallLimits) -> Result<Response, CallError> {
        let (pool, context, request) = (self.pool, self.context(), request(slot));
        if self.is_first {
            pool.call(context, request, limits, pool.now()).await
        } else {
            pool.call_on_new(context, request, limits).await
        }
    }

    /// Requests the missing permits, one after the other, all on `connection`. Returns the first
    /// reply that is no grant, with a time before its request was sent.
    ///
    /// A grant is stored in the poll that has read it, so that no cancellation loses it.
    async fn request_permits<'a>(
        &'a self,
        connection: &mut Option<Box<Connection>>,
        leases: &Mutex<Leases<'a>>,
    ) -> Result<Option<(Reply, Instant)>, AttemptError> {
        let mut limits = self.limits.call();
        if self.needs_gate() {
            // The server counts whole seconds, and may answer up to a second after the wait.
            limits = limits.with_grace(GRACE);
        }
        while leases.lock().permits.len() < self.permits {
            let (reply, sent_at) = if let Some(connection) = connection {
                let sent_at = self.pool.now();
                let request = limits.apply(request(self.slot), sent_at);
                let called = connection.call_all([request], limits.reply(sent_at)).await;
                let reply = called.and_then(|mut replies| {
                    let reply = replies.pop();
                    reply.ok_or(ConnectionError::Closed)
                });
                (
                    reply.map_err(|error| self.connection_error(error))?,
                    sent_at,
                )
            } else {
                let called = self.call(self.slot, limits).await;
                let response = called.map_err(|error| self.error(error))?;
                *connection = Some(response.connection);
                (response.reply, response.sent_at)
            };
            let Reply::Granted(grant) = reply else {
                return Ok(Some((reply, sent_at)));
            };
            let lease = Lease::new(self, self.slot, grant, sent_at);
            leases.lock().permits.push(lease);
        }
        Ok(None)
    }

    /// Renews the leases on `gate`, the connection of the gate, until a renewal or the connection
    /// fails.
    ///
    /// A permit that is granted while this sleeps expires later than the others.
    async fn renew_until_failure(
        &self,
        gate: &mut Connection,
        leases: &Mutex<Leases<'_>>,
    ) -> Error {
        loop {
            let delay = leases.lock().renew_at().duration_since(self.pool.now());
            // Another caller can acquire the gate once its connection has ended.
            let closed = poll_fn(|cx| gate.poll_closed(cx));
            if let Ok(error) = timeout(delay, closed).await {
                return error.into_error(self.context().to_error_context());
            }
            if let Err(error) = self.renew(gate, leases).await {
                return error;
            }
        }
    }

    /// Renews all leases once.
    async fn renew(&self, gate: &mut Connection, leases: &Mutex<Leases<'_>>) -> Result<(), Error> {
        let (pool, slot) = (self.pool, self.slot);
        let sent_at = pool.now();
        let context = || slot.context(Operation::Renew);
        let requests: Vec<_> = leases.lock().iter().map(Lease::renewal).collect();
        let called = gate.call_all(requests, pool.socket_timeout()).await;
        let replies = called.map_err(|error| error.into_error(context()))?;
        // Permits that were granted in the meantime are behind the others.
        for (lease, reply) in leases.lock().iter_mut().zip(replies) {
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

    /// Returns the error of the attempt when a request for a permit has no reply.
    fn error(&self, error: CallError) -> AttemptError {
        let context = self.context();
        let error = match error {
            error if self.needs_gate() && self.is_wait_over(&error) => {
                let (context, waited) = (context.to_error_context(), self.limits.wait());
                return AttemptError::Failed(Error::Timeout { context, waited });
            }
            // The server has granted the gate, so that this is the loss of a place in its queue.
            CallError::Failed(error @ Error::Disconnected { .. }) if self.needs_gate() => {
                CallError::QueueLost(error)
            }
            error => error,
        };
        attempt_error(self.pool, context, &self.limits, Err(error))
    }

    /// Returns whether the error is due to the end of the wait. It can also limit the connect, since
    /// the gate may be granted shortly before it.
    fn is_wait_over(&self, error: &CallError) -> bool {
        match error {
            CallError::Timeout => true,
            CallError::Failed(Error::ConnectTimeout { limit, .. }) => {
                *limit < self.pool.connect_timeout()
            }
            CallError::Failed(Error::Unresponsive { limit, .. }) => {
                *limit < self.pool.socket_timeout()
            }
            _ => false,
        }
    }

    /// Returns the error of the attempt when one of its connections failed. The server has granted
    /// something on it, so that its end is the loss of a place in a queue.
    fn connection_error(&self, error: ConnectionError) -> AttemptError {
        let context = || self.context().to_error_context();
        self.error(match error {
            ConnectionError::Timeout(_) => CallError::Timeout,
            error if error.is_disconnect() => CallError::QueueLost(error.into_error(context())),
            error => CallError::Failed(error.into_error(context())),
        })
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
#[derive(Default)]
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
    /// The connection of the gate, which all leases are renewed and released on. No request waits on
    /// it. `None` if there is no gate.
    gate: Option<Box<Connection>>,
    /// The connection to which the server attributes the permits. `None` before the first reply to a
    /// request for one, and once it is handed over.
    connection: Option<Box<Connection>>,
    leases: Mutex<Leases<'a>>,
}

impl<'a> Partial<'a> {
    async fn acquire_gate(&mut self) -> Result<(), AttemptError> {
        let attempt = self.attempt;
        match attempt.call(&attempt.gate, attempt.limits.call()).await {
            Ok(Response {
                connection,
                reply: Reply::Granted(grant),
                sent_at,
            }) => {
                let lease = Lease::new(attempt, &attempt.gate, grant, sent_at);
                self.leases.lock().gate = Some(lease);
                self.gate = Some(connection);
                Ok(())
            }
            failed => {
                let (context, limits) = (attempt.context(), &attempt.limits);
                Err(attempt_error(attempt.pool, context, limits, failed))
            }
        }
    }

    /// Acquires the permits, and keeps the leases of the gate and of the first ones meanwhile.
    ///
    /// Without a gate nothing is renewed: no request waits, and a late hold is verified.
    async fn acquire_permits(&mut self) -> Result<(), AttemptError> {
        let (attempt, leases) = (self.attempt, &self.leases);
        let request = attempt.request_permits(&mut self.connection, leases);
        let requested = match &mut self.gate {
            None => request.await,
            Some(gate) => tokio::select! {
                biased;
                requested = request => requested,
                error = attempt.renew_until_failure(gate, leases) => {
                    Err(AttemptError::QueueLost(error))
                }
            },
        };
        let Some((reply, sent_at)) = requested? else {
            return Ok(());
        };
        // Before the connections return to the pool.
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
        self.release_all(release).await
    }

    /// Sends releases, and waits for the replies. The connection of the gate then returns to the
    /// pool.
    async fn release_all(
        &mut self,
        releases: impl IntoIterator<Item = Request<'a>>,
    ) -> Result<(), AttemptError> {
        let attempt = self.attempt;
        let sent_at = attempt.pool.now();
        let limit = attempt.limits.immediate(sent_at);
        let Some(connection) = self.gate.as_mut().or(self.connection.as_mut()) else {
            return Err(attempt.connection_error(ConnectionError::Closed));
        };
        let replies = match connection.call_all(releases, limit).await {
            Ok(replies) => replies,
            Err(ConnectionError::Timeout(limit)) => {
                let context = attempt.context().to_error_context();
                return Err(AttemptError::Failed(Error::Unresponsive { context, limit }));
            }
            Err(error) => return Err(attempt.connection_error(error)),
        };
        // A permit or gate that was lost before is released as well.
        for reply in replies {
            release_outcome(attempt.slot, &reply).map_err(AttemptError::Failed)?;
        }
        if let Some(gate) = self.gate.take() {
            attempt.pool.put_back(gate, sent_at);
        }
        Ok(())
    }

    /// Returns the hold of all permits.
    fn finish(mut self) -> Result<Granted, AttemptError> {
        let permits = mem::take(&mut self.leases.lock().permits);
        let lease = permits.iter().map(|permit| permit.grant.lease).min();
        let mut permits = permits.into_iter();
        let (Some(first), Some(lease)) = (permits.next(), lease) else {
            return Err(self.attempt.connection_error(ConnectionError::Closed));
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
        connection.ok_or_else(|| self.attempt.connection_error(ConnectionError::Closed))
    }
}

impl Drop for Partial<'_> {
    /// Does not block and needs no runtime.
    fn drop(&mut self) {
        let mut releases = self.leases.lock().releases();
        if let Some(connection) = &mut self.connection
            && let Some(Reply::Granted(grant)) = connection.try_last_reply()
        {
            releases.push(release(self.attempt.slot, grant.token));
        }
        // A server of v1.10 reads the releases on the connection of the gate only, while a request
        // waits on the other one. That one ends first, so that a server that reads it removes the
        // request from the queue before it grants a released permit to it.
        for mut connection in [self.connection.take(), self.gate.take()]
            .into_iter()
            .flatten()
        {
            for release in &releases {
                connection.send(release);
            }
        }
    }
}
