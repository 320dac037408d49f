//! What a semaphore or a lock asks of its server: the way of one acquire.

mod backoff;
mod patience;
mod wish;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::client::Client;
use crate::error::{ConfigError, Error, ErrorContext, Operation, TlsErrorKind};
use crate::lease::{LeaseConfig, LeaseHandle};
use crate::telemetry::{self, HoldSpan, Outcome, SlotTelemetry};
use crate::transport::{Answer, Ask, Connection, Fault, Instant, NoReply, Pool, driver};
use crate::wire::{Capacity, Grant, KeyBuf, LeaseSeconds, Reply, Request, Seconds, Status, Token};

use backoff::Backoff;
use patience::Patience;
pub(crate) use wish::{Wish, options};

/// A grant that came later than this after its request is confirmed before it is believed: half of the shortest lease that the
/// wire can carry, so no lease can have ended before.
const PROMPT: Duration = Duration::from_millis(500);

/// A key, how many may hold it, and everything that is needed to get a slot of it. What is in it is valid.
#[derive(Debug)]
pub(crate) struct Slot {
    client: Client,
    /// The index of the server that the key lives on.
    shard: usize,
    capacity: Capacity,
    acquire_timeout: Duration,
    config: Arc<LeaseConfig>,
}

/// Where an enqueue led.
#[derive(Debug)]
pub(crate) enum Joined {
    Held(LeaseHandle, Grant),
    Queued(LeaseHandle),
}

/// A slot that the server says is ours.
struct Offer {
    connection: Box<Connection>,
    grant: Grant,
    /// A point before it was asked for.
    asked: Instant,
}

/// Reason for which an acquire got no slot.
enum NoSlot {
    /// The server went away, or is about to, while the request was in its queue.
    PlaceLost(Error),
    /// The server's answer is neither a grant nor a timeout.
    Refused(Answer),
    /// Everything else.
    Failed(Error),
}

/// What an enqueue was answered with.
enum Place {
    Free(Offer),
    InLine(Box<Connection>),
}

impl Slot {
    pub(crate) fn new(wish: Wish) -> Result<Self, ConfigError> {
        let key = KeyBuf::new(wish.key.as_str()).map_err(|why| ConfigError::key(&wish.key, why))?;
        seconds(wish.acquire_timeout)?;
        let lease = wish
            .lease_ttl
            .map(|lease| LeaseSeconds::new(lease).ok_or(ConfigError::Lease { lease }))
            .transpose()?;
        let renew_ratio = wish.renew_ratio;
        // written so that NaN is refused
        if !(renew_ratio > 0.0 && renew_ratio < 1.0) {
            return Err(ConfigError::RenewRatio { ratio: renew_ratio });
        }
        let client = wish.client.map_or_else(Client::current, Ok)?;
        let shard = client.shard(key.as_str())?;
        let config = Arc::new(LeaseConfig {
            key,
            kind: wish.capacity.kind(),
            server: client.pool(shard).server().clone(),
            timing: client.timing().clone(),
            renew_ratio,
            lease,
            fencing: client.fencing(),
            idle: client.pool(shard).idle().clone(),
            on_lost: wish.on_lost,
        });
        Ok(Self {
            client,
            shard,
            capacity: wish.capacity,
            acquire_timeout: wish.acquire_timeout,
            config,
        })
    }

    pub(crate) fn key(&self) -> &str {
        self.config.key.as_str()
    }

    pub(crate) fn limit(&self) -> u32 {
        self.capacity.limit().get()
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// Waits in line for a slot for at most `wait`, and joins the line again when its place is lost.
    pub(crate) async fn acquire(
        &self,
        wait: Duration,
        span: HoldSpan,
    ) -> Result<(LeaseHandle, Grant), Error> {
        seconds(wait)?;
        let watch = SlotTelemetry::waiting(self.config.labels(), span);
        let began = self.pool().now();
        let offer = match within(&watch, pin!(self.stand_in_line(began, wait))).await {
            Ok(offer) => offer,
            Err(error) => return Err(watch.failed(error)),
        };
        self.believe(offer, watch, |slot| slot.prompt_limit(began, wait))
            .await
    }

    /// Joins the line, or gets a slot at once.
    pub(crate) async fn enqueue(&self) -> Result<Joined, Error> {
        let watch = SlotTelemetry::waiting(self.config.labels(), HoldSpan::FollowsFrom);
        let place = match within(&watch, pin!(self.join())).await {
            Ok(place) => place,
            Err(error) => return Err(watch.failed(error)),
        };
        match place {
            Place::Free(offer) => {
                let held = self
                    .believe(offer, watch, |slot| slot.config.timing.socket_timeout)
                    .await;
                held.map(|(hold, grant)| Joined::Held(hold, grant))
            }
            Place::InLine(connection) => {
                watch.queued(self.config.labels());
                Ok(Joined::Queued(LeaseHandle::queued(
                    &self.config,
                    connection,
                    watch,
                )))
            }
        }
    }

    /// Waits for at most `wait` for the slot that the place in line `hold` becomes.
    pub(crate) async fn wait(&self, hold: &LeaseHandle, wait: Duration) -> Result<Grant, Error> {
        driver::require_timers()?;
        let granted = tokio::time::timeout(wait, hold.wait()).await;
        #[cfg(dflock_mutant = "pool_reuse_with_reply_owed")]
        if granted.is_err() {
            hold.steal_connection()
                .into_iter()
                .for_each(|connection| self.pool().give(connection, self.pool().now()));
        }
        granted.unwrap_or_else(|_| {
            hold.time_out();
            Err(Error::Timeout {
                context: self.config.context(Operation::Wait),
                waited: wait,
            })
        })
    }

    /// Gives the slot of `token` back, and its connection to the pool.
    pub(crate) async fn release(&self, hold: LeaseHandle, token: &Token) -> Result<(), Error> {
        let runtime = Pool::runtime()?;
        let asked = self.pool().now();
        let (mut connection, watch) = hold.into_connection(token, asked)?;
        if connection.runtime() != Some(runtime)
            && let Err(error) = driver::require_timers()
        {
            // not waited for: the reply would have no limit
            connection.send(&self.config.release(*token));
            drop(connection);
            drop(watch.map(|watch| watch.ended(Outcome::Dropped)));
            return Err(error.into());
        }
        connection.rebind_runtime(runtime);
        let context = || self.config.context(Operation::Release);
        let call = connection.call(
            &self.config.release(*token),
            self.config.timing.socket_timeout,
        );
        let reply = call.await.map(|(connection, reply)| {
            // whatever else is said: the slot may still be ours there, until the connection closes
            if matches!(
                reply,
                Reply::Ok | Reply::Refused(Status::Error | Status::LeaseExpired)
            ) {
                self.pool().give(connection, asked);
            }
            reply
        });
        let (outcome, released) = match reply {
            Ok(Reply::Ok) => (Outcome::Released, Ok(())),
            Ok(Reply::Refused(Status::Error | Status::LeaseExpired)) => {
                let lost = self.config.report_lost(*token);
                (Outcome::Lost(lost.clone()), Err(lost.into()))
            }
            Ok(reply) => (Outcome::Closed, Err(Error::unexpected(context(), &reply))),
            Err(fault) => {
                if let Fault::Silence(_) = fault {
                    self.pool().close_unused_since(asked);
                }
                (Outcome::Closed, Err(fault.into_error(context())))
            }
        };
        drop(watch.map(|watch| watch.ended(outcome)));
        released
    }

    /// The grant that a blocking acquire was answered with.
    async fn stand_in_line(&self, began: Instant, wait: Duration) -> Result<Offer, Error> {
        let context = || self.config.context(Operation::Acquire);
        let ask = |spent| self.ask(wait, spent);
        let no_slot = match self.offer(self.pool().call(began, &context, &ask).await, wait) {
            Ok(offer) => return Ok(offer),
            Err(NoSlot::Failed(error)) => return Err(error),
            Err(no_slot) => no_slot,
        };
        // boxed: it is large, and rare
        Box::pin(self.without_offer(began, wait, no_slot)).await
    }

    /// What becomes of an acquire that got no slot at first.
    async fn without_offer(
        &self,
        began: Instant,
        wait: Duration,
        no_slot: NoSlot,
    ) -> Result<Offer, Error> {
        match no_slot {
            NoSlot::PlaceLost(error) => self.stand_in_line_again(began, wait, error).await,
            NoSlot::Refused(answer) => {
                let context = self.config.context(Operation::Acquire);
                Err(self
                    .refusal(answer, context, self.prompt_limit(began, wait))
                    .await)
            }
            NoSlot::Failed(error) => Err(error),
        }
    }

    /// Joins the line again after `error` ended the connection and the place in line, and whenever
    /// that happens again, until there is a slot or the wait is over.
    async fn stand_in_line_again(
        &self,
        began: Instant,
        wait: Duration,
        mut error: Error,
    ) -> Result<Offer, Error> {
        let context = || self.config.context(Operation::Acquire);
        let ask = |spent| self.ask(wait, spent);
        let mut backoff = Backoff::new(self.pool().jitter_seed());
        telemetry::place_lost(self.config.labels(), &error);
        loop {
            let pause = backoff.pause();
            if pause >= wait.saturating_sub(self.pool().now().since(began)) {
                return Err(error);
            }
            sleep(pause).await;
            let answer = self.pool().call_anew(began, &context, &ask).await;
            error = match self.offer(answer, wait) {
                Ok(offer) => return Ok(offer),
                Err(NoSlot::PlaceLost(error)) => {
                    telemetry::place_lost(self.config.labels(), &error);
                    backoff.reset();
                    error
                }
                Err(NoSlot::Refused(answer)) => {
                    self.refusal(answer, context(), self.prompt_limit(began, wait))
                        .await
                }
                Err(NoSlot::Failed(error)) => error,
            };
            if !is_away(&error) {
                return Err(error);
            }
        }
    }

    /// The request of an acquire with the time `wait`, of which `spent` is over.
    fn ask(&self, wait: Duration, spent: Duration) -> Ask<'_> {
        let patience = self.patience(wait);
        let wait = patience.seconds(spent);
        let request = Request::Acquire {
            key: self.config.key.as_key(),
            capacity: self.capacity,
            wait,
            lease: self.config.lease,
        };
        Ask {
            request,
            limit: patience.reply(spent),
            connect: patience.connect(spent),
        }
    }

    /// The offer in the answer to an acquire with the time `wait`.
    fn offer(&self, answer: Result<Answer, NoReply>, wait: Duration) -> Result<Offer, NoSlot> {
        let context = || self.config.context(Operation::Acquire);
        match answer {
            Ok(Answer {
                connection,
                reply: Reply::Granted(grant),
                asked,
            }) => Ok(Offer {
                connection,
                grant,
                asked,
            }),
            Ok(Answer {
                connection,
                reply: Reply::Timeout,
                ..
            }) => {
                // the answer is news of the server, and the question may be old
                self.pool().give(connection, self.pool().now());
                Err(NoSlot::Failed(Error::Timeout {
                    context: context(),
                    waited: wait,
                }))
            }
            // a server that shuts down in order says so to all in its queues; v1.10.0 has no other word
            // for it than `error`, which it says at once to a request that it does not understand
            Ok(Answer {
                reply: reply @ Reply::Refused(Status::Draining | Status::Error),
                asked,
                ..
            }) if self.pool().is_queued_since(asked) => {
                Err(NoSlot::PlaceLost(Error::unexpected(context(), &reply)))
            }
            Ok(answer) => Err(NoSlot::Refused(answer)),
            Err(NoReply::Silent) => {
                let patience = self.patience(wait);
                Err(NoSlot::Failed(if patience.awaits_timeout() {
                    Error::Unresponsive {
                        context: context(),
                        limit: patience.whole(),
                    }
                } else {
                    Error::Timeout {
                        context: context(),
                        waited: wait,
                    }
                }))
            }
            Err(NoReply::Ended(error)) => Err(NoSlot::PlaceLost(error)),
            Err(NoReply::Failed(error)) => Err(NoSlot::Failed(error)),
        }
    }

    fn patience(&self, wait: Duration) -> Patience {
        Patience::new(wait, self.pool().timeouts())
    }

    /// How long a reply may take that the server owes at once, during an acquire with the time `wait`.
    fn prompt_limit(&self, began: Instant, wait: Duration) -> Duration {
        self.patience(wait).prompt(self.pool().now().since(began))
    }

    /// The grant or the place in line that an enqueue was answered with.
    async fn join(&self) -> Result<Place, Error> {
        let context = || self.config.context(Operation::Enqueue);
        let limit = self.config.timing.socket_timeout;
        let request = Request::Enqueue {
            key: self.config.key.as_key(),
            capacity: self.capacity,
            lease: self.config.lease,
        };
        let answer = self
            .pool()
            .call(self.pool().now(), &context, &|_| {
                Ask::prompt(request, limit)
            })
            .await;
        match answer.map_err(|why| why.into_error(context(), limit))? {
            Answer {
                connection,
                reply: Reply::Acquired(grant),
                asked,
            } => Ok(Place::Free(Offer {
                connection,
                grant,
                asked,
            })),
            Answer {
                connection,
                reply: Reply::Queued,
                ..
            } => Ok(Place::InLine(connection)),
            answer => Err(Box::pin(self.refusal(answer, context(), limit)).await),
        }
    }

    /// A prompt grant is believed, any other is confirmed first, within `limit`.
    async fn believe(
        &self,
        Offer {
            connection,
            grant,
            asked,
        }: Offer,
        watch: SlotTelemetry,
        limit: impl FnOnce(&Self) -> Duration,
    ) -> Result<(LeaseHandle, Grant), Error> {
        let now = self.pool().now();
        if now.since(asked) < PROMPT {
            return Ok((
                LeaseHandle::granted(&self.config, connection, grant, (asked, now), watch),
                grant,
            ));
        }
        // boxed: it is large, and rare
        let hold = Box::pin(LeaseHandle::verified(
            &self.config,
            connection,
            grant,
            limit(self),
            watch,
        ))
        .await?;
        Ok((hold, grant))
    }

    /// Why the server said no. What is asked for the error is answered within `limit`.
    #[cfg_attr(
        not(feature = "stats"),
        expect(
            clippy::unused_async,
            reason = "without stats there is nothing to ask for"
        )
    )]
    async fn refusal(&self, answer: Answer, context: ErrorContext, limit: Duration) -> Error {
        let Answer {
            connection,
            reply,
            asked,
        } = answer;
        if reply == Reply::Refused(Status::LimitMismatch) {
            #[cfg(feature = "stats")]
            let theirs = self.their_limit(connection, limit).await;
            #[cfg(not(feature = "stats"))]
            let theirs = {
                let _ = limit;
                self.pool().give(connection, asked);
                None
            };
            return Error::LimitMismatch {
                context,
                ours: self.limit(),
                theirs,
            };
        }
        // any other reply is to another question, and what this connection says next cannot be trusted
        if matches!(reply, Reply::Refused(_)) {
            self.pool().give(connection, asked);
        }
        Error::unexpected(context, &reply)
    }

    /// The limit that the key has, if the server tells.
    #[cfg(feature = "stats")]
    async fn their_limit(&self, connection: Box<Connection>, limit: Duration) -> Option<u32> {
        let asked = self.pool().now();
        let (connection, reply) = connection.call(&Request::Stats, limit).await.ok()?;
        let Reply::Stats(stats) = reply else {
            return None;
        };
        self.pool().give(connection, asked);
        stats.conflicting_limit(self.limit(), self.key())
    }

    fn pool(&self) -> &Pool {
        self.client.pool(self.shard)
    }
}

fn seconds(wait: Duration) -> Result<Seconds, ConfigError> {
    Seconds::round_up(wait).ok_or(ConfigError::Wait { wait })
}

/// Whether `error` is one of a server that went away, and may come back.
fn is_away(error: &Error) -> bool {
    match error {
        Error::Connect { .. }
        | Error::ConnectTimeout { .. }
        | Error::Unresponsive { .. }
        | Error::Disconnected { .. }
        | Error::Draining { .. } => true,
        Error::Tls { fault, .. } => *fault == TlsErrorKind::ConnectionClosed,
        _ => false,
    }
}

/// `asked`, polled inside of the span of `watch`.
fn within<T>(
    watch: &SlotTelemetry,
    mut asked: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = T> {
    poll_fn(move |cx| watch.within(|| asked.as_mut().poll(cx)))
}
