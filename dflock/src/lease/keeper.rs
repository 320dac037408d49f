//! The keeper: the task that waits in line, renews the lease, and listens for the end of the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::timeout;

use super::Lease;
use super::phase::{Phase, State};
use crate::error::{Error, LostReason, Operation};
use crate::transport::{Connection, Duty, Fault, Instant};
use crate::watch;
use crate::wire::{Grant, LeaseSeconds, Reply, Request, Seconds, Status};

/// A renewal that the server answered with no time at all is tried again after this part of the time that is left.
const AGAIN: u32 = 4;

/// The keeper of a lease. However it ends, even before its first poll and with its runtime, the connection does not outlive it, and
/// who still hopes is told.
pub(super) struct Keeper(Arc<Lease>);

impl Keeper {
    pub(super) fn new(lease: &Arc<Lease>) -> Self {
        Self(lease.clone())
    }

    /// Waits in line, confirms the grant, and keeps the slot for as long as its owner wants.
    pub(super) async fn wait_and_keep(self) {
        let outcome = match self.0.wait_in_line().await {
            Ok(grant) => self.0.confirm(grant, self.0.terms.timing.socket_timeout).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => self.0.keep_on().await,
            Err(error) => self.0.refuse(error),
        }
    }

    async fn keep(self) {
        self.0.keep_on().await;
    }
}

/// The duty to keep a slot for as long as its owner wants.
impl Duty for Lease {
    fn attend(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Keeper(self).keep())
    }

    fn abandon(self: Arc<Self>) {
        drop(Keeper(self));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let lease = &self.0;
        // before anything is given back: who looks on another thread may not believe any longer
        lease.lose(LostReason::Disconnected);
        lease.refuse(Error::Disconnected { at: lease.terms.attempt(Operation::Wait), source: None });
        let state = lease.look();
        if let Some(lost) = state.lost().filter(|_| state.taken) {
            drop(state);
            lease.terms.announce(&lost);
        }
    }
}

impl Lease {
    /// Has the slot kept from `now` on, with a renewal that is due then, if it is held. Whoever gives it back at once pays for no task.
    pub(super) fn keep(self: &Arc<Self>, renewal: Option<Instant>, now: Instant) {
        let entrusted = renewal.is_some_and(|due| {
            let (duty, nap) = (self.clone(), self.longest_nap(due, now));
            self.line.lock().as_mut().is_some_and(|connection| connection.entrust(duty, nap).is_ok())
        });
        if !entrusted {
            self.clone().abandon();
        }
    }

    /// Asks the server to renew the slot that it says it granted, and believes in it from then on. The
    /// reply may take `limit`.
    pub(super) async fn confirm(&self, grant: Grant, limit: Duration) -> Result<(), Error> {
        let at = || self.terms.attempt(Operation::Renew);
        let asked = self.now();
        if cfg!(dflock_mutant = "no_verified_grant") {
            self.accept(asked, grant);
            self.news.notify_waiters();
            return Ok(());
        }
        self.send(&self.terms.renew(grant.token));
        let reply = match timeout(limit, self.stay_on_line(Connection::poll_reply)).await {
            Ok(Some(Ok(reply))) => reply,
            Ok(Some(Err(fault))) => return Err(fault.into_error(at())),
            // the owner has left: nobody hears this
            Ok(None) => return Err(Error::Disconnected { at: at(), source: None }),
            Err(_) => return Err(Error::Unresponsive { at: at(), limit }),
        };
        match reply {
            Reply::Renewed(renewal) if !renewal.is_of(&grant) => return Err(Error::unexpected(at(), &reply)),
            Reply::Ok | Reply::Renewed(_) => match self.renewed(&reply, grant.lease) {
                Some(lease) => self.accept(asked, Grant { lease, ..grant }),
                None => return Err(Error::LeaseExpired { at: at() }),
            },
            Reply::Refused(Status::Error | Status::LeaseExpired) => return Err(Error::LeaseExpired { at: at() }),
            other => return Err(Error::unexpected(at(), &other)),
        }
        self.news.notify_waiters();
        if self.look().ends().is_some() { Ok(()) } else { Err(Error::LeaseExpired { at: at() }) }
    }

    /// Waits for the grant, for as long as the wire can carry. It is not believed yet.
    async fn wait_in_line(&self) -> Result<Grant, Error> {
        let at = || self.terms.attempt(Operation::Wait);
        self.send(&Request::Wait { key: self.terms.key.as_key(), kind: self.terms.kind, wait: Seconds::MAX });
        let reply = self.stay_on_line(|connection, cx| {
            let reply = ready!(connection.poll_reply(cx));
            if let Ok(Reply::Granted(grant)) = &reply {
                // under the lock of the line, so that an owner who leaves now gives this slot back
                self.state.lock().phase = Phase::Offered(*grant);
            }
            Poll::Ready(reply)
        });
        match reply.await {
            Some(Ok(Reply::Granted(grant))) => Ok(grant),
            Some(Ok(other)) => Err(Error::unexpected(at(), &other)),
            Some(Err(fault)) => Err(fault.into_error(at())),
            None => Err(Error::Disconnected { at: at(), source: None }),
        }
    }

    async fn keep_on(&self) {
        loop {
            let Some(due) = self.look().renewal() else { return self.part() };
            // one that was wanted while another was under way is due at once
            if !self.is_due() {
                tokio::select! {
                    biased;
                    fault = self.on_line(Connection::poll_fault) => {
                        if fault.is_some() {
                            self.lose(LostReason::Disconnected);
                        }
                        return;
                    }
                    () = self.errand.notified() => {}
                    () = self.nap(due) => {}
                }
            }
            if self.is_due() && !self.renew().await {
                return;
            }
        }
    }

    /// Sends one renewal and waits for its reply until the lease ends. Whether the slot is still held.
    async fn renew(&self) -> bool {
        let asked = self.now();
        let Some((grant, ends)) = self.begin() else {
            self.part();
            return false;
        };
        self.send(&self.terms.renew(grant.token));
        let reply = loop {
            tokio::select! {
                biased;
                reply = self.on_line(Connection::poll_reply) => match reply {
                    Some(reply) => break reply,
                    None => return false,
                },
                () = self.errand.notified() => {}
                () = self.nap(ends), if !cfg!(dflock_mutant = "late_renew_unloses") => {}
            }
            if self.look().ends().is_none() && !cfg!(dflock_mutant = "late_renew_unloses") {
                self.close_idle_if_unreachable(asked);
                self.part();
                return false;
            }
        };
        let lost = match reply {
            // not a renewal of this slot
            Ok(Reply::Renewed(renewal)) if !renewal.is_of(&grant) => LostReason::Rejected,
            Ok(reply @ (Reply::Ok | Reply::Renewed(_))) => {
                match self.renewed(&reply, grant.lease) {
                    Some(lease) => {
                        watch::renewed(&self.span(), self.terms.about(), &grant.token, ends.since(asked), ends.since(self.now()));
                        self.believe(&mut self.look(), asked, Grant { lease, ..grant });
                    }
                    None => self.again(),
                }
                self.news.notify_waiters();
                return true;
            }
            Ok(_) | Err(Fault::Garbage(_) | Fault::StatsTooLarge(_)) => LostReason::Rejected,
            Err(Fault::Closed | Fault::Io(_) | Fault::Silence(_)) => LostReason::Disconnected,
        };
        self.lose(lost);
        false
    }

    /// Closes the client's idle connections to the server that are older than the renewal of `asked`,
    /// if that got no reply until the lease ended: they may be dead as well.
    fn close_idle_if_unreachable(&self, asked: Instant) {
        let lost = self.look().lost();
        if lost.is_some_and(|lost| lost.reason == LostReason::Unreachable) {
            self.terms.idle.close_unused_since(asked);
        }
    }

    /// Whether a renewal is due, or wanted now.
    fn is_due(&self) -> bool {
        let state = self.look();
        match state.phase {
            Phase::Held { term, .. } => state.wanted > state.begun || self.now() >= term.renewal,
            _ => true,
        }
    }

    /// Notes that a renewal is under way.
    fn begin(&self) -> Option<(Grant, Instant)> {
        let mut state = self.look();
        state.begun = state.wanted;
        state.renewals += 1;
        match &mut state.phase {
            Phase::Held { grant, term, asking } => {
                *asking = true;
                Some((*grant, term.ends))
            }
            _ => None,
        }
    }

    /// The lease that a renewal was answered with; `None` when nothing is left of it.
    fn renewed(&self, reply: &Reply, last: LeaseSeconds) -> Option<LeaseSeconds> {
        match reply {
            Reply::Renewed(renewal) => LeaseSeconds::from_seconds(renewal.remaining),
            // a bare `ok` means what was asked for
            _ => Some(self.terms.lease.unwrap_or(last)),
        }
    }

    /// Believes in the slot that was offered, and tells who watches. They run code of the program's, so it is done without the lock,
    /// and before there is a hold that its owner could end.
    fn accept(&self, asked: Instant, grant: Grant) {
        // the renewal itself may have taken longer than the lease: then there never was a hold
        if self.now() >= self.terms.term(asked, &grant, 0).ends {
            return;
        }
        let watch = self.state.lock().watch.take();
        let watch = watch.map(|watch| watch.granted(self.terms.about(), &grant.token));
        let mut state = self.look();
        self.believe(&mut state, asked, grant);
        // the owner may have left meanwhile
        let ended = watch.and_then(|watch| state.watch_on(watch));
        drop(state);
        drop(ended);
    }

    /// Begins the term that was asked for at `asked`, unless the last one has ended meanwhile: a late reply un-loses nothing.
    fn believe(&self, state: &mut State, asked: Instant, grant: Grant) {
        let unloses = cfg!(dflock_mutant = "late_renew_unloses") && matches!(state.phase, Phase::Lost(_));
        if unloses || matches!(state.phase, Phase::Offered(_) | Phase::Held { .. }) {
            let term = self.terms.term(asked, &grant, state.renewals);
            state.phase = Phase::Held { grant, term, asking: false };
            state.done = state.begun;
        }
    }

    /// The server gave no more time: asks again soon, and believes no longer than before. Whoever wanted a renewal waits on.
    fn again(&self) {
        let now = self.now();
        let mut state = self.look();
        if let Phase::Held { term, asking, .. } = &mut state.phase {
            term.renewal = now.plus((term.ends.since(now) / AGAIN).max(Duration::from_millis(1)).as_secs_f64());
            *asking = false;
        }
    }

    /// Writes down that the line ended without a slot.
    fn refuse(&self, error: Error) {
        self.end(|state| {
            if matches!(state.phase, Phase::Queued | Phase::Offered(_)) {
                state.phase = Phase::Refused(Some(error));
            }
        });
    }
}
