//! The owner's side of a lease.

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::keeper::Keeper;
use super::phase::Phase;
use super::{Lease, Terms};
use crate::error::{Error, Lost, LostReason, Operation};
use crate::transport::{Connection, Instant};
use crate::watch::{Outcome, Watch};
use crate::wire::{Grant, Token};

/// Owns a place in line or a slot. Dropping it gives either up, at once and without a runtime.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Lease>);

impl Hold {
    /// A slot that was granted promptly after `asked`, and is here `now`: so promptly that no lease can have ended since.
    pub(crate) fn granted(
        terms: &Arc<Terms>,
        connection: Box<Connection>,
        grant: Grant,
        (asked, now): (Instant, Instant),
        watch: Watch,
    ) -> Self {
        let term = terms.term(asked, &grant, 0);
        let watch = watch.granted(terms.about(), &grant.token);
        let hold = Self(Lease::new(terms.clone(), connection, Phase::Held { grant, term, asking: false }, watch));
        hold.0.keep(Some(term.renewal), now);
        hold
    }

    /// A slot whose grant took long to come: it is held when the server has renewed it, within `limit`,
    /// and from then on.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it gives the slot back.
    pub(crate) async fn confirmed(
        terms: &Arc<Terms>,
        connection: Box<Connection>,
        grant: Grant,
        limit: Duration,
        watch: Watch,
    ) -> Result<Self, Error> {
        let hold = Self(Lease::new(terms.clone(), connection, Phase::Offered(grant), watch));
        if let Err(error) = hold.0.confirm(grant, limit).await {
            let mut state = hold.0.look();
            let outcome = state.outcome().unwrap_or_else(|| Outcome::of(&error));
            let watch = state.unwatch(outcome);
            drop(state);
            drop(watch);
            return Err(error);
        }
        let renewal = {
            let mut state = hold.0.look();
            state.taken = true;
            state.renewal()
        };
        hold.0.keep(renewal, hold.0.now());
        Ok(hold)
    }

    /// A place in line, with a keeper that waits in it.
    pub(crate) fn queued(terms: &Arc<Terms>, connection: Box<Connection>, watch: Watch) -> Self {
        let hold = Self(Lease::new(terms.clone(), connection, Phase::Queued, watch));
        tokio::spawn(Keeper::new(&hold.0).wait_and_keep());
        hold
    }

    /// Waits for the slot that a place in line becomes.
    pub(crate) async fn wait(&self) -> Result<Grant, Error> {
        self.0
            .until(|state| match &mut state.phase {
                Phase::Queued | Phase::Offered(_) => None,
                Phase::Held { grant, .. } => {
                    state.taken = true;
                    Some(Ok(*grant))
                }
                Phase::Lost(lost) => Some(Err(lost.clone().into())),
                Phase::Refused(error) => Some(Err(error.take().unwrap_or_else(|| self.gone()))),
                Phase::Over => Some(Err(self.gone())),
            })
            .await
    }

    /// The wait is over, for who watches it: its time is.
    pub(crate) fn timed_out(&self) {
        let mut state = self.0.look();
        let waits = matches!(state.phase, Phase::Queued | Phase::Offered(_));
        let watch = waits.then(|| state.unwatch(Outcome::Timeout)).flatten();
        drop(state);
        drop(watch);
    }

    /// The span of the wait or the hold while it lasts.
    pub(crate) fn span(&self) -> Span {
        self.0.span()
    }

    /// Whether a slot is held now.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.0.look().phase, Phase::Held { .. })
    }

    /// The token, and the lease as the server gave it last, while the slot is held.
    pub(crate) fn grant(&self) -> Option<Grant> {
        match self.0.look().phase {
            Phase::Held { grant, .. } => Some(grant),
            _ => None,
        }
    }

    pub(crate) fn terms(&self) -> &Arc<Terms> {
        &self.0.terms
    }

    /// How much longer the slot is held for certain, unless a renewal comes.
    pub(crate) fn remaining(&self) -> Duration {
        let ends = self.0.look().ends();
        ends.map_or(Duration::ZERO, |ends| ends.since(self.0.now()))
    }

    pub(crate) fn check(&self) -> Result<(), Lost> {
        self.0.look().lost().map_or(Ok(()), Err)
    }

    pub(crate) async fn lost(&self) -> Lost {
        self.0.until(|state| state.lost()).await
    }

    /// Renews now, and says when it is done.
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let mine = {
            let mut state = self.0.look();
            state.wanted += 1;
            state.wanted
        };
        self.0.errand.notify_one();
        if let Some(connection) = self.0.line.lock().as_ref() {
            connection.attend_now();
        }
        let done = self.0.until(|state| match &state.phase {
            Phase::Lost(lost) => Some(Err(lost.clone())),
            _ => (state.done >= mine).then_some(Ok(())),
        });
        done.await.map_err(Error::Lost)
    }

    /// Takes the connection of the slot of `token`, to give the slot back on it `now`, and who is to hear how that ends. The keeper ends.
    pub(crate) fn surrender(self, token: &Token, now: Instant) -> Result<(Box<Connection>, Option<Watch>), Lost> {
        let mut line = self.0.line.lock();
        let mut state = self.0.state.lock();
        self.0.expire(&mut state, now);
        let held = matches!(state.phase, Phase::Held { .. });
        let Some(connection) = held.then(|| line.take()).flatten() else {
            let lost = state.lost().unwrap_or_else(|| self.0.terms.lost(*token, LostReason::Disconnected));
            drop((state, line));
            self.0.tell();
            return Err(lost);
        };
        let watch = state.watch.take();
        state.leave();
        drop((state, line));
        if !connection.relieve() {
            self.0.errand.notify_one();
        }
        Ok((connection, watch))
    }

    /// Takes the connection out of its place in line, with the grant still owed on it.
    #[cfg(dflock_mutant = "pool_reuse_with_reply_owed")]
    pub(crate) fn step_out(&self) -> Option<Box<Connection>> {
        self.0.errand.notify_one();
        self.0.line.lock().take()
    }

    /// Closes the connection without a word: the server notices.
    pub(crate) fn close(self) {
        let mut line = self.0.line.lock();
        let connection = line.take();
        let mut state = self.0.state.lock();
        self.0.expire(&mut state, self.0.now());
        let outcome = state.outcome().unwrap_or(Outcome::Closed);
        let watch = state.unwatch(outcome);
        state.leave();
        drop((state, line));
        drop(watch);
        drop(connection);
        self.0.tell();
    }

    fn gone(&self) -> Error {
        Error::Disconnected { at: self.0.terms.attempt(Operation::Wait), source: None }
    }
}

impl Drop for Hold {
    /// Spawns nothing and blocks on nothing.
    fn drop(&mut self) {
        if cfg!(dflock_mutant = "drop_only_signals") {
            self.0.look().leave();
            return self.0.errand.notify_one();
        }
        self.0.part();
    }
}
