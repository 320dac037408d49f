//! What a program tells those who watch it: spans and events for `tracing`, and numbers for `metrics`. There is nothing to call here.
//!
//! # Spans and events
//!
//! All have the target `dflock`. A token is shown by its first half, which tells tokens apart and proves nothing. Times are in
//! seconds, as `f64`.
//!
//! | span | level | lasts | fields |
//! |---|---|---|---|
//! | `acquire` | info | from the request until a slot is held, or until there will be none | `key`, `server`, `token`, `wait`, `outcome` |
//! | `hold` | info | as long as the slot is held; follows from its `acquire` | `key`, `server`, `token`, `wait`, `held`, `outcome` |
//!
//! | slot requested by | parent of `acquire` | parent of `hold` | the body runs in |
//! |---|---|---|---|
//! | [`with_slot`](crate::Semaphore::with_slot), annotated functions, the layer for tower | the current span | the current span | `hold` |
//! | [`acquire`](crate::Semaphore::acquire) and its siblings, [`enqueue`](crate::Semaphore::enqueue) | the current span | none | the current span |
//!
//! A slot of the second row may outlive the span in which it was requested, so its `hold` follows from
//! that span (`follows_from`). A child would keep the span open: a request would be exported only when its
//! slot is released. [`Held::run`](crate::Held::run) runs its future in the span of its caller.
//!
//! A place in line of `enqueue` keeps the span open in which it was requested, until it is granted or
//! given up: `acquire` is a child of that span.
//!
//! A slot that was requested while no subscriber wanted its spans has none.
//!
//! | event | level | when | fields |
//! |---|---|---|---|
//! | `queued` | debug | all slots are taken, and a place in line is | `key`, `server` |
//! | `place in the queue lost` | warn | the connection of a wait ended, or its server shuts down, and `acquire` joins the queue again, behind all that wait there | `key`, `server`, `error` |
//! | `slot acquired` | debug | a slot is held | `key`, `server`, `token`, `wait` |
//! | `renewed` | debug | a renewal was answered | `key`, `server`, `token`, `margin` |
//! | `slow renewal` | warn | the same, when less than a quarter of the time that it had was left | as `renewed` |
//! | `slot lost` | warn | a slot that was held is gone | `key`, `server`, `token`, `reason` |
//! | `slot dropped` | debug | a handle was dropped without `release`, or the future of that, which costs its connection | none; its span is `hold` |
//! | `connection opened` | debug | there was no idle one | `server` |
//! | `value given up` | warn | an annotated function returned `Ok` after its slot was lost, and its caller gets the loss | as `slot lost` |
//! | `release failed` | warn | after `with_slot`, an annotated function, or in a layer | `error` |
//! | `the secret will be sent to another machine in the clear; use TLS` | warn | a client was built so | `server` |
//! | `the server's name has several addresses of one family; only the lowest is used` | warn | at the first connection to such a name; see [`guide::sharding`](crate::guide::sharding) | `server`, `used`, `unused` |
//! | `the address of the server's name has changed; both addresses may grant the same key` | warn | a connection is made to another address than the last one to that name and family; see [`guide::sharding`](crate::guide::sharding) | `server`, `from`, `to` |
//! | `changed file not used; the last good one is kept` | warn | once for each change of a file of the secret or of TLS | `error` |
//! | `file read again` | debug | a file of the secret or of TLS was changed | `file` |
//! | `on_lost panicked` | error | a callback of the program's own | `key` |
//!
//! # Metrics
//!
//! With the feature `metrics`, for whichever recorder of the [`metrics`](https://docs.rs/metrics) crate is installed. They are described
//! when a [`Client`](crate::Client) is built, so install the recorder before.
//!
//! | metric | what | labels |
//! |---|---|---|
//! | `dflock_wait_seconds` | histogram: how long a slot was waited for | `server`, `outcome`: `granted`, `timeout`, `failed`, `dropped` |
//! | `dflock_hold_seconds` | histogram: how long a slot was held | `server`, `outcome`: `released`, `closed`, `dropped`, `lost` |
//! | `dflock_waiting` | gauge: who waits now | `server` |
//! | `dflock_holding` | gauge: who holds now | `server` |
//! | `dflock_renewals_total` | counter: renewals that were answered | `server` |
//! | `dflock_renewal_margin_seconds` | histogram: how much of the lease was left then | `server` |
//! | `dflock_lost_total` | counter: slots that were held and are gone | `server`, `reason`: `expired`, `rejected`, `disconnected`, `unreachable` |
//! | `dflock_connections_opened_total` | counter: connections that were made | `server` |
//! | `dflock_connections_reused_total` | counter: requests that an idle connection served | `server` |
//!
//! The key is no label: programs make keys of what they are asked for, without end, and every value of a label is kept for good.
//! Spans and events name it.
//!
//! A place in line that [`enqueue`](crate::Semaphore::enqueue) took waits until it is granted a slot, not until
//! [`wait`](crate::Semaphore::wait) takes that over: from the grant on it is a hold, and its end is told as any other's.
//!
//! A hold lasts until the server has answered its [`release`](crate::Semaphore::release): `released` when it confirms, `lost` when the
//! slot was gone before, `closed` when no answer came, and `dropped` when nobody waited for it.

#[cfg_attr(not(feature = "metrics"), path = "telemetry/metrics_noop.rs")]
mod metrics;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::span::Id;
use tracing::{Level, Span, debug, error, event_enabled, field, info_span, warn};

use crate::error::{ConfigError, Error, Lost};
use crate::wire::Token;
use metrics::Metrics;
pub(crate) use metrics::describe;

/// A renewal is slow when less than this part of the time that it had is left.
const SLOW: u32 = 4;

/// What is told of: a key, on a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) key: &'a str,
    pub(crate) server: &'a Arc<str>,
}

/// What lasts: a wait or a hold.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    Holding,
}

/// How a wait or a hold ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Granted,
    Timeout,
    Failed,
    Released,
    Closed,
    Lost(Lost),
    /// Its future or its handle was dropped.
    Dropped,
}

/// A wait for a slot and then the hold of it. However either ends, its drop tells it.
#[derive(Debug)]
pub(crate) struct SlotTelemetry(Option<Box<ActiveSpan>>);

/// How the span of a hold is related to the span in which its slot was requested.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HoldSpan {
    /// The hold ends before the future that requested the slot does.
    Child,
    /// The hold may outlive that span. A child would keep it open, so that it is exported only when
    /// the slot is released.
    FollowsFrom,
}

/// The span in which a slot was requested.
#[derive(Debug)]
struct Context {
    /// Not the span itself: a handle would keep it open. The span of the wait is its child, so it is
    /// open as long as that is.
    id: Option<Id>,
    hold: HoldSpan,
}

/// What somebody sees.
#[derive(Debug)]
struct ActiveSpan {
    stage: Stage,
    span: Span,
    /// The span in which the slot was requested; while the slot is waited for.
    context: Option<Context>,
    began: Instant,
    meter: Metrics,
}

/// The end of a wait or of a hold, which is told when this is dropped.
#[derive(Debug)]
pub(crate) struct EmitOnDrop {
    watch: SlotTelemetry,
    outcome: Outcome,
}

impl SlotTelemetry {
    /// A slot is asked for from now on.
    pub(crate) fn waiting(Labels { key, server }: Labels<'_>, hold: HoldSpan) -> Self {
        let (wait, token, outcome) = (field::Empty, field::Empty, field::Empty);
        let span =
            info_span!(target: "dflock", "acquire", key, server = &**server, token, wait, outcome);
        // where nobody looks, a slot pays for no clocks and no room
        let is_seen = !span.is_none()
            || event_enabled!(target: "dflock", Level::DEBUG)
            || cfg!(feature = "metrics");
        Self(is_seen.then(|| {
            let id = if span.is_disabled() {
                None
            } else {
                Span::current().id()
            };
            Box::new(ActiveSpan::new(
                Stage::Waiting,
                span,
                Some(Context { id, hold }),
                server,
            ))
        }))
    }

    /// The slot is held from now on, if it was not before.
    pub(crate) fn granted(mut self, about: Labels<'_>, token: &Token) -> Self {
        if let Some(seen) = &mut self.0
            && let Stage::Waiting = seen.stage
        {
            seen.granted(about, token);
        }
        self
    }

    /// All slots are taken, and a place in line is.
    pub(crate) fn queued(&self, Labels { key, server }: Labels<'_>) {
        debug!(target: "dflock", parent: &self.span(), key, server = &**server, "queued");
    }

    /// The wait ends with `error`.
    pub(crate) fn failed(self, error: Error) -> Error {
        drop(self.ended(Outcome::of(&error)));
        error
    }

    /// The same, with an outcome to tell.
    pub(crate) fn ended(self, outcome: Outcome) -> EmitOnDrop {
        EmitOnDrop {
            watch: self,
            outcome,
        }
    }

    /// The span of the wait, or of the hold.
    pub(crate) fn span(&self) -> Span {
        self.0
            .as_ref()
            .map_or_else(Span::none, |seen| seen.span.clone())
    }

    /// Does `work` inside of the span.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(seen) => seen.span.in_scope(work),
            None => work(),
        }
    }
}

impl Drop for SlotTelemetry {
    fn drop(&mut self) {
        if let Some(seen) = self.0.take() {
            seen.tell(&Outcome::Dropped);
        }
    }
}

impl Drop for EmitOnDrop {
    fn drop(&mut self) {
        match (self.watch.0.take(), &self.outcome) {
            (Some(seen), outcome) => seen.tell(outcome),
            // a warning may be wanted where nothing else is
            (None, Outcome::Lost(lost)) => tell_of_loss(&Span::none(), lost),
            (None, _) => {}
        }
    }
}

impl ActiveSpan {
    fn new(stage: Stage, span: Span, context: Option<Context>, server: &Arc<str>) -> Self {
        Self {
            stage,
            span,
            context,
            began: Instant::now(),
            meter: Metrics::begin(stage, server),
        }
    }

    /// The wait is over, and the hold begins.
    fn granted(&mut self, Labels { key, server }: Labels<'_>, token: &Token) {
        let (token, wait) = (token.short(), self.began.elapsed().as_secs_f64());
        self.span.record("token", token);
        debug!(target: "dflock", parent: &self.span, key, server = &**server, token, wait, "slot acquired");
        let (parent, followed) = match self.context.take() {
            Some(Context {
                id,
                hold: HoldSpan::Child,
            }) => (id, None),
            Some(Context {
                id,
                hold: HoldSpan::FollowsFrom,
            }) => (None, id),
            None => (None, None),
        };
        let (held, outcome) = (field::Empty, field::Empty);
        let span = info_span!(
            target: "dflock", parent: parent, "hold", key, server = &**server, token, wait, held, outcome
        );
        span.follows_from(&self.span);
        span.follows_from(followed);
        std::mem::replace(self, Self::new(Stage::Holding, span, None, server))
            .tell(&Outcome::Granted);
    }

    /// It is over.
    fn tell(mut self, outcome: &Outcome) {
        let took = self.began.elapsed();
        let field = match self.stage {
            Stage::Waiting => "wait",
            Stage::Holding => "held",
        };
        self.span.record(field, took.as_secs_f64());
        self.span.record("outcome", outcome.as_str());
        match (self.stage, outcome) {
            (Stage::Holding, Outcome::Dropped) => {
                debug!(target: "dflock", parent: &self.span, "slot dropped");
            }
            (Stage::Holding, Outcome::Lost(lost)) => tell_of_loss(&self.span, lost),
            _ => {}
        }
        self.meter.end(self.stage, took, outcome.as_str());
    }
}

impl Outcome {
    /// That of a wait that ended with `error`.
    pub(crate) fn of(error: &Error) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Failed
        }
    }

    fn as_str(&self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Closed => "closed",
            Self::Lost(_) => "lost",
            Self::Dropped => "dropped",
        }
    }
}

/// A renewal that had the time `had` was answered when `margin` of it was left.
pub(crate) fn renewed(
    span: &Span,
    Labels { key, server }: Labels<'_>,
    token: &Token,
    had: Duration,
    margin: Duration,
) {
    metrics::renewed(server, margin);
    let (token, seconds, server) = (token.short(), margin.as_secs_f64(), &**server);
    if margin < had / SLOW {
        warn!(target: "dflock", parent: span, key, server, token, margin = seconds, "slow renewal");
    } else {
        debug!(target: "dflock", parent: span, key, server, token, margin = seconds, "renewed");
    }
}

/// A callback of the user's panicked.
pub(crate) fn on_lost_panicked(lost: &Lost) {
    error!(target: "dflock", key = &*lost.key, "on_lost panicked");
}

/// The secret of a client will go over the network as it is.
pub(crate) fn warn_plaintext_token(server: &str) {
    warn!(target: "dflock", server, "the secret will be sent to another machine in the clear; use TLS");
}

/// Reports a name that may stand for several servers, of which only the addresses `used` are asked.
pub(crate) fn ambiguous_name(server: &str, used: &[SocketAddr], unused: usize) {
    let message = "the server's name has several addresses of one family; only the lowest is used";
    warn!(target: "dflock", server, ?used, unused, "{message}");
}

/// Reports a name that leads to another address than before: to another server, unless it has moved.
pub(crate) fn address_changed(server: &str, from: IpAddr, to: IpAddr) {
    let message =
        "the address of the server's name has changed; both addresses may grant the same key";
    warn!(target: "dflock", server, %from, %to, "{message}");
}

/// A file that was changed cannot be used.
pub(crate) fn reload_failed(error: &ConfigError) {
    warn!(target: "dflock", %error, "changed file not used; the last good one is kept");
}

/// A file that was changed is used.
pub(crate) fn reloaded(file: &Path) {
    debug!(target: "dflock", file = %file.display(), "file read again");
}

/// A body ended with a value after it had lost its slot.
#[cfg(feature = "macros")]
pub(crate) fn value_discarded(lost: &Lost) {
    let Lost {
        key,
        token,
        server,
        reason,
    } = lost;
    warn!(target: "dflock", key = &**key, server = &**server, token = token.short(), %reason, "value given up");
}

/// A slot was not given back in order; the server frees it in any case.
pub(crate) fn release_failed(error: &Error) {
    warn!(target: "dflock", %error, "release failed");
}

/// The connection of a waiter ended, and the waiter joins the queue again.
pub(crate) fn place_lost(Labels { key, server }: Labels<'_>, error: &Error) {
    warn!(target: "dflock", key, server = &**server, %error, "place in the queue lost");
}

/// There was no idle connection, and one was made.
pub(crate) fn opened(server: &Arc<str>) {
    debug!(target: "dflock", server = &**server, "connection opened");
    metrics::opened(server);
}

/// An idle connection has served a request.
pub(crate) fn reused(server: &Arc<str>) {
    metrics::reused(server);
}

fn tell_of_loss(hold: &Span, lost: &Lost) {
    let Lost {
        key,
        token,
        server,
        reason,
    } = lost;
    warn!(target: "dflock", parent: hold, key = &**key, server = &**server, token = token.short(), %reason, "slot lost");
    metrics::lost(server, *reason);
}
