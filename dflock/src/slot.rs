//! What a semaphore or a lock asks of its server: the way of one acquire.

mod wish;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::error::{Attempt, ConfigError, Error, Operation};
use crate::lease::{Hold, Terms};
use crate::transport::{Answer, Ask, Connection, Instant, Pool};
use crate::watch::{HoldSpan, Outcome, Watch};
use crate::wire::{Capacity, Grant, KeyBuf, LeaseSeconds, Reply, Request, Seconds, Status, Token};

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
    terms: Arc<Terms>,
}

/// Where an enqueue led.
#[derive(Debug)]
pub(crate) enum Joined {
    Held(Hold, Grant),
    Queued(Hold),
}

/// A slot that the server says is ours.
struct Offer {
    connection: Box<Connection>,
    grant: Grant,
    /// A point before it was asked for.
    asked: Instant,
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
        let lease = wish.lease_ttl.map(|lease| LeaseSeconds::new(lease).ok_or(ConfigError::Lease { lease })).transpose()?;
        let renew_ratio = wish.renew_ratio;
        // written so that NaN is refused
        if !(renew_ratio > 0.0 && renew_ratio < 1.0) {
            return Err(ConfigError::RenewRatio { ratio: renew_ratio });
        }
        let client = wish.client.map_or_else(Client::current, Ok)?;
        let shard = client.shard(key.as_str())?;
        let terms = Arc::new(Terms {
            key,
            kind: wish.capacity.kind(),
            server: client.pool(shard).server().clone(),
            timing: client.timing().clone(),
            renew_ratio,
            lease,
            fencing: client.fencing(),
            on_lost: wish.on_lost,
        });
        Ok(Self { client, shard, capacity: wish.capacity, acquire_timeout: wish.acquire_timeout, terms })
    }

    pub(crate) fn key(&self) -> &str {
        self.terms.key.as_str()
    }

    pub(crate) fn limit(&self) -> u32 {
        self.capacity.limit().get()
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// Waits in line for a slot for at most `wait`.
    pub(crate) async fn acquire(&self, wait: Duration, span: HoldSpan) -> Result<(Hold, Grant), Error> {
        seconds(wait)?;
        let watch = Watch::waiting(self.terms.about(), span);
        let offer = match within(&watch, pin!(self.stand_in_line(&wait))).await {
            Ok(offer) => offer,
            Err(error) => return Err(watch.failed(error)),
        };
        self.believe(offer, watch).await
    }

    /// Joins the line, or gets a slot at once.
    pub(crate) async fn enqueue(&self) -> Result<Joined, Error> {
        let watch = Watch::waiting(self.terms.about(), HoldSpan::FollowsFrom);
        let place = match within(&watch, pin!(self.join())).await {
            Ok(place) => place,
            Err(error) => return Err(watch.failed(error)),
        };
        match place {
            Place::Free(offer) => self.believe(offer, watch).await.map(|(hold, grant)| Joined::Held(hold, grant)),
            Place::InLine(connection) => {
                watch.queued(self.terms.about());
                Ok(Joined::Queued(Hold::queued(&self.terms, connection, watch)))
            }
        }
    }

    /// Waits for at most `wait` for the slot that the place in line `hold` becomes.
    pub(crate) async fn wait(&self, hold: &Hold, wait: Duration) -> Result<Grant, Error> {
        Pool::runtime()?;
        let granted = tokio::time::timeout(wait, hold.wait()).await;
        #[cfg(dflock_mutant = "pool_reuse_with_reply_owed")]
        if granted.is_err() {
            hold.step_out().into_iter().for_each(|connection| self.pool().give(connection, self.pool().now()));
        }
        granted.unwrap_or_else(|_| {
            hold.timed_out();
            Err(Error::Timeout { at: self.terms.attempt(Operation::Wait), waited: wait })
        })
    }

    /// Gives the slot of `token` back, and its connection to the pool.
    pub(crate) async fn release(&self, hold: Hold, token: &Token) -> Result<(), Error> {
        let runtime = Pool::runtime()?;
        let asked = self.pool().now();
        let (mut connection, watch) = hold.surrender(token, asked)?;
        connection.set_alarm_on(runtime);
        let at = || self.terms.attempt(Operation::Release);
        let call = connection.call(&self.terms.release(*token), self.terms.timing.socket_timeout);
        let reply = call.await.map(|(connection, reply)| {
            // whatever else is said: the slot may still be ours there, until the connection closes
            if matches!(reply, Reply::Ok | Reply::Refused(Status::Error | Status::LeaseExpired)) {
                self.pool().give(connection, asked);
            }
            reply
        });
        let (outcome, released) = match reply {
            Ok(Reply::Ok) => (Outcome::Released, Ok(())),
            Ok(Reply::Refused(Status::Error | Status::LeaseExpired)) => {
                let lost = self.terms.was_lost(*token);
                (Outcome::Lost(lost.clone()), Err(lost.into()))
            }
            Ok(reply) => (Outcome::Closed, Err(Error::unexpected(at(), &reply))),
            Err(fault) => (Outcome::Closed, Err(fault.into_error(at()))),
        };
        drop(watch.map(|watch| watch.ended(outcome)));
        released
    }

    /// The grant that a blocking acquire was answered with.
    async fn stand_in_line(&self, wait: &Duration) -> Result<Offer, Error> {
        let at = || self.terms.attempt(Operation::Acquire);
        // whole seconds leave the server the time to say `timeout` itself
        let is_whole = || wait.subsec_nanos() == 0;
        let ask = |spent| {
            let left = wait.saturating_sub(spent);
            // no more than `wait`, which the wire can carry
            let wait = Seconds::round_up(left).unwrap_or(Seconds::MAX);
            let limit = if is_whole() { wait.as_duration() + self.terms.timing.socket_timeout } else { left };
            Ask {
                request: Request::Acquire { key: self.terms.key.as_key(), capacity: self.capacity, wait, lease: self.terms.lease },
                limit,
            }
        };
        let Some(answer) = self.pool().call(&at, &ask).await? else {
            let (at, limit) = (at(), *wait + self.terms.timing.socket_timeout);
            return Err(if is_whole() { Error::Unresponsive { at, limit } } else { Error::Timeout { at, waited: *wait } });
        };
        match answer {
            Answer { connection, reply: Reply::Granted(grant), asked } => Ok(Offer { connection, grant, asked }),
            Answer { connection, reply: Reply::Timeout, .. } => {
                // the answer is news of the server, and the question may be old
                self.pool().give(connection, self.pool().now());
                Err(Error::Timeout { at: at(), waited: *wait })
            }
            answer => Err(Box::pin(self.refusal(answer, at())).await),
        }
    }

    /// The grant or the place in line that an enqueue was answered with.
    async fn join(&self) -> Result<Place, Error> {
        let at = || self.terms.attempt(Operation::Enqueue);
        let limit = self.terms.timing.socket_timeout;
        let request = Request::Enqueue { key: self.terms.key.as_key(), capacity: self.capacity, lease: self.terms.lease };
        let Some(answer) = self.pool().call(&at, &|_| Ask { request, limit }).await? else {
            return Err(Error::Unresponsive { at: at(), limit });
        };
        match answer {
            Answer { connection, reply: Reply::Acquired(grant), asked } => Ok(Place::Free(Offer { connection, grant, asked })),
            Answer { connection, reply: Reply::Queued, .. } => Ok(Place::InLine(connection)),
            answer => Err(Box::pin(self.refusal(answer, at())).await),
        }
    }

    /// A prompt grant is believed, any other is confirmed first.
    async fn believe(&self, Offer { connection, grant, asked }: Offer, watch: Watch) -> Result<(Hold, Grant), Error> {
        let now = self.pool().now();
        if now.since(asked) < PROMPT {
            return Ok((Hold::granted(&self.terms, connection, grant, (asked, now), watch), grant));
        }
        // boxed: it is large, and rare
        let hold = Box::pin(Hold::confirmed(&self.terms, connection, grant, watch)).await?;
        Ok((hold, grant))
    }

    /// Why the server said no.
    #[cfg_attr(not(feature = "stats"), expect(clippy::unused_async, reason = "without stats there is nothing to ask for"))]
    async fn refusal(&self, answer: Answer, at: Attempt) -> Error {
        let Answer { connection, reply, asked } = answer;
        if reply == Reply::Refused(Status::LimitMismatch) {
            #[cfg(feature = "stats")]
            let theirs = self.their_limit(connection).await;
            #[cfg(not(feature = "stats"))]
            let theirs = {
                self.pool().give(connection, asked);
                None
            };
            return Error::LimitMismatch { at, ours: self.limit(), theirs };
        }
        // any other reply is to another question, and what this connection says next cannot be trusted
        if matches!(reply, Reply::Refused(_)) {
            self.pool().give(connection, asked);
        }
        Error::unexpected(at, &reply)
    }

    /// The limit that the key has, if the server tells.
    #[cfg(feature = "stats")]
    async fn their_limit(&self, connection: Box<Connection>) -> Option<u32> {
        let asked = self.pool().now();
        let (connection, reply) = connection.call(&Request::Stats, self.terms.timing.socket_timeout).await.ok()?;
        let Reply::Stats(stats) = reply else { return None };
        self.pool().give(connection, asked);
        stats.limit_besides(self.limit(), self.key())
    }

    fn pool(&self) -> &Pool {
        self.client.pool(self.shard)
    }
}

fn seconds(wait: Duration) -> Result<Seconds, ConfigError> {
    Seconds::round_up(wait).ok_or(ConfigError::Wait { wait })
}

/// `asked`, polled inside of the span of `watch`.
fn within<T>(watch: &Watch, mut asked: Pin<&mut impl Future<Output = T>>) -> impl Future<Output = T> {
    poll_fn(move |cx| watch.within(|| asked.as_mut().poll(cx)))
}
