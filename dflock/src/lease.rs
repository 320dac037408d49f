//! A place in line and the slot that comes of it, with the connection that both hang on.
//!
//! A [`Lease`] is shared by two: its owner, a [`Hold`] in the user's hands, and a keeper, the task that waits in line, renews, and
//! listens for the end of the connection. Whoever is first to see an end writes it down, and it is final.
//!
//! The connection lies in a mutex that is locked only inside a `poll`, so that the owner can take it away at any time, on an
//! executor that does not run, too. It is there exactly as long as the phase is `Queued`, `Offered` or `Held`. Of the two
//! mutexes `line` is locked first.

mod hold;
mod keeper;
mod line;
mod phase;
mod term;

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use tracing::Span;

use crate::error::{Attempt, Lost, LostReason, Operation};
use crate::mutex::Mutex;
use crate::transport::{Connection, Idle, Instant, driver};
use crate::watch::{self, About, Watch};
use crate::wire::{Grant, KeyBuf, Kind, LeaseSeconds, Reply, Request, Token};

pub(crate) use hold::Hold;
use phase::{Phase, State};
pub(crate) use term::{LATEST, Timing};
use term::{Term, early};

/// Called once for each hold that is lost.
pub(crate) type OnLost = Arc<dyn Fn(&Lost) + Send + Sync>;

/// What the leases of one semaphore have in common.
pub(crate) struct Terms {
    pub(crate) key: KeyBuf,
    pub(crate) kind: Kind,
    pub(crate) server: Arc<str>,
    /// The idle connections to that server.
    pub(crate) idle: Arc<Idle>,
    pub(crate) timing: Arc<Timing>,
    /// The part of a lease after which it is renewed.
    pub(crate) renew_ratio: f64,
    /// What to ask for; `None` is the server's default.
    pub(crate) lease: Option<LeaseSeconds>,
    /// Whether tokens carry a fence.
    pub(crate) fencing: bool,
    pub(crate) on_lost: Option<OnLost>,
}

impl Terms {
    pub(crate) fn attempt(&self, operation: Operation) -> Attempt {
        Attempt { operation, key: Some(self.key.as_shared().clone()), server: self.server.clone() }
    }

    pub(crate) fn release(&self, token: Token) -> Request<'_> {
        Request::Release { key: self.key.as_key(), kind: self.kind, token }
    }

    fn renew(&self, token: Token) -> Request<'_> {
        let kind = if cfg!(dflock_mutant = "lock_renewed_as_semaphore") { Kind::Semaphore } else { self.kind };
        Request::Renew { key: self.key.as_key(), kind, token, lease: self.lease }
    }

    pub(crate) fn about(&self) -> About<'_> {
        About { key: self.key.as_str(), server: &self.server }
    }

    /// The term of `grant`, or of the last of its `renewals`, which was asked for at `asked`.
    fn term(&self, asked: Instant, grant: &Grant, renewals: u64) -> Term {
        let asked = if cfg!(dflock_mutant = "deadline_from_reply") { self.timing.clock.now() } else { asked };
        self.timing.term(self.renew_ratio, asked, grant.lease.as_duration(), early(&grant.token, renewals))
    }

    /// The server says that the slot of `token`, which was given back, had been gone: tells the program.
    pub(crate) fn was_lost(&self, token: Token) -> Lost {
        let lost = self.lost(token, LostReason::Rejected);
        self.announce(&lost);
        lost
    }

    fn lost(&self, token: Token, reason: LostReason) -> Lost {
        Lost { key: self.key.as_shared().clone(), token, server: self.server.clone(), reason }
    }

    /// Calls `on_lost`.
    fn announce(&self, lost: &Lost) {
        if let Some(on_lost) = &self.on_lost
            && catch_unwind(AssertUnwindSafe(|| on_lost(lost))).is_err()
        {
            watch::on_lost_panicked(lost);
        }
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms").field("key", &self.key).field("server", &self.server).field("timing", &self.timing).finish_non_exhaustive()
    }
}

/// What the owner of a hold and its keeper share.
struct Lease {
    terms: Arc<Terms>,
    line: Mutex<Option<Box<Connection>>>,
    state: Mutex<State>,
    /// The phase has changed, or a renewal is done: for those who wait on the owner's side.
    news: Notify,
    /// The keeper has something to do, or nothing any more.
    errand: Notify,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.terms.key).field("phase", &self.look().phase).finish_non_exhaustive()
    }
}

impl Lease {
    fn new(terms: Arc<Terms>, connection: Box<Connection>, phase: Phase, watch: Watch) -> Arc<Self> {
        Arc::new(Self {
            terms,
            line: Mutex::new(Some(connection)),
            state: Mutex::new(State::new(phase, watch)),
            news: Notify::new(),
            errand: Notify::new(),
        })
    }

    fn now(&self) -> Instant {
        self.terms.timing.clock.now()
    }

    /// The state as of now: a lease whose time is over is lost, whoever looks first.
    fn look(&self) -> MutexGuard<'_, State> {
        self.look_at(self.now())
    }

    /// The same for whoever knows what time it is.
    fn look_at(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if self.expire(&mut state, now) {
            drop(state);
            self.tell();
            // a loss is final
            state = self.state.lock();
        }
        state
    }

    /// Writes down that the time of the lease is over at `now`, if it is; then who waits is to be told.
    fn expire(&self, state: &mut State, now: Instant) -> bool {
        let overdue = state.overdue(now);
        overdue.map(|(token, reason)| state.phase = Phase::Lost(self.terms.lost(token, reason))).is_some()
    }

    /// Wakes all who wait for news. Not behind a lock: nobody knows what an executor does then.
    fn tell(&self) {
        self.errand.notify_one();
        self.news.notify_waiters();
    }

    /// Waits until `seen` finds what it looks for. The end of the lease is news, too.
    ///
    /// On a runtime without timers, and outside of tokio, it is woken by the keeper alone, which has a
    /// timer on the runtime of the lease.
    async fn until<T>(&self, mut seen: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut has_timers = true;
        loop {
            let mut news = pin!(self.news.notified());
            // whatever happens after the look must wake us
            news.as_mut().enable();
            let ends = {
                let mut state = self.look();
                if let Some(found) = seen(&mut state) {
                    return found;
                }
                state.ends()
            };
            let ends = ends.filter(|_| has_timers);
            // pinned where it is made: a timer is most of this future, and moved it would be there twice
            let mut nap = pin!(ends.and_then(|ends| driver::sleep(self.longest_nap(ends, self.now())).ok()));
            // not asked for again: each time the panic hook would print a panic
            has_timers &= nap.is_some() == ends.is_some();
            poll_fn(|cx| match (news.as_mut().poll(cx), nap.as_mut().as_pin_mut()) {
                (Poll::Pending, Some(nap)) => nap.poll(cx),
                (told, _) => told,
            })
            .await;
        }
    }

    /// Sleeps until `end`, but no longer than a heartbeat: timers stand still while the machine is suspended, and `end` does not.
    fn nap(&self, end: Instant) -> Sleep {
        sleep(self.longest_nap(end, self.now()))
    }

    /// How long after `now` to look whether it is `end`.
    fn longest_nap(&self, end: Instant, now: Instant) -> Duration {
        end.since(now).min(self.terms.timing.heartbeat)
    }

    /// Writes down that the slot is lost, and gives it up.
    fn lose(&self, reason: LostReason) {
        self.end(|state| {
            if let Phase::Held { grant, .. } = state.phase {
                state.phase = Phase::Lost(self.terms.lost(grant.token, reason));
            }
        });
    }

    /// Ends it on the owner's wish. A loss stays a loss.
    fn part(&self) {
        // after a release there is nothing left to end
        if matches!(self.state.lock().phase, Phase::Over) {
            return;
        }
        self.end(State::leave);
    }

    /// Closes the connection if it is still here, and gives back what the server may still count as ours.
    fn end(&self, change: impl FnOnce(&mut State)) {
        let mut line = self.line.lock();
        let connection = line.take();
        let mut state = self.state.lock();
        self.expire(&mut state, self.now());
        let queued = matches!(state.phase, Phase::Queued);
        let mut token = state.token();
        change(&mut state);
        let watch = state.outcome().and_then(|outcome| state.unwatch(outcome));
        drop((state, line));
        if let Some(mut connection) = connection {
            if queued && let Some(Reply::Granted(grant)) = connection.hear_last() {
                token = Some(grant.token);
            }
            if let Some(token) = token.filter(|_| !cfg!(dflock_mutant = "drop_without_release")) {
                connection.send(&self.terms.release(token));
            }
        }
        self.tell();
        drop(watch);
    }

    /// The span of the wait or the hold while it lasts.
    fn span(&self) -> Span {
        self.state.lock().watch.as_ref().map_or_else(Span::none, Watch::span)
    }
}
