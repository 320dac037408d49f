//! Spans and events for `tracing`, and metrics for `metrics`, which this crate emits.
//!
//! There is nothing to call in this module.
//!
//! # Spans and events
//!
//! The target of all spans and events is `dflock`. A token is shown by its first half, which tells
//! tokens apart and does not suffice to release a slot. Times are in seconds, as `f64`.
//!
//! | span | level | duration | fields |
//! |---|---|---|---|
//! | `acquire` | info | from the request until the slot is held, or the request has failed | `key`, `server`, `token`, `wait`, `outcome` |
//! | `hold` | info | as long as the slot is held; follows from its `acquire` | `key`, `server`, `token`, `wait`, `permits` (above 1), `held`, `outcome` |
//!
//! | slot requested by | parent of `acquire` | parent of `hold` | span of the body |
//! |---|---|---|---|
//! | [`with_slot`](crate::Semaphore::with_slot), annotated functions, the layer for tower | the current span | the current span | `hold` |
//! | [`acquire`](crate::Semaphore::acquire) and its variants, [`enqueue`](crate::Semaphore::enqueue) | the current span | none | the current span |
//!
//! A slot of the second row may outlive the span in which it was requested, so its `hold` follows
//! from that span (`follows_from`). A child would keep the span open: a request would be exported
//! only when its slot is released. [`Held::run`](crate::Held::run) runs its future in the span of
//! its caller.
//!
//! After `enqueue`, the requesting span stays open until the slot is granted or the request leaves
//! the queue, because `acquire` is a child of that span.
//!
//! A slot has no spans if no subscriber was interested in them when it was requested.
//!
//! | event | level | when | fields |
//! |---|---|---|---|
//! | `queued` | debug | all slots are held, and the request is in the queue | `key`, `server` |
//! | `place in the queue lost` | warn | the connection of a wait ended, or its server shuts down, and `acquire` joins the queue again, at the end | `key`, `server`, `error` |
//! | `limit adopted` | warn | the key is in use with another limit, which a semaphore with [`LimitMismatch::Adopt`](crate::LimitMismatch::Adopt) uses; once for each change | `key`, `server`, `ours`, `theirs` |
//! | `the task waits for slots that it holds itself` | warn | a task with an id begins to wait; see [`guide::choosing`](crate::guide::choosing) | `key`, `server`, `limit` |
//! | `slot acquired` | debug | a slot is held | `key`, `server`, `token`, `wait` |
//! | `renewed` | debug | the server confirmed a renewal | `key`, `server`, `token`, `margin` |
//! | `slow renewal` | warn | in place of `renewed`, if less than a quarter of the available time was left | as `renewed` |
//! | `slot lost` | warn | a held slot was lost | `key`, `server`, `token`, `reason` |
//! | `slot dropped` | debug | a handle was dropped without `release`, or the future of `release` was dropped; this closes the connection | none; its span is `hold` |
//! | `connection opened` | debug | a connection was made, because none was idle | `server` |
//! | `value discarded` | warn | an annotated function returned `Ok` after its slot was lost, and its caller gets the loss | as `slot lost` |
//! | `release failed` | warn | a release failed after `with_slot`, an annotated function, or in a layer | `error` |
//! | `the auth token will be sent to another machine in clear text; use TLS` | warn | a client without TLS was built with an auth token | `server` |
//! | `the server's name has several addresses of one family; only the lowest is used` | warn | at the first connection to such a name; see [`guide::sharding`](crate::guide::sharding) | `server`, `used`, `unused` |
//! | `the address of the server's name has changed; both addresses may grant the same key` | warn | a connection is made to another address than the last one to that name and family; see [`guide::sharding`](crate::guide::sharding) | `server`, `from`, `to` |
//! | `changed file not used; the last good one is kept` | warn | once for each invalid change of a file of the auth token or of TLS | `error` |
//! | `file reloaded` | debug | a changed file of the auth token or of TLS was read | `file` |
//! | `a leader of this etcd version that was stopped may revoke live leases; use 3.5.13 or later` | warn | once for each client, at its first request | `version` |
//! | `renewal of an etcd lease failed` | debug | a renewal failed; it is repeated after 100 ms | `error` |
//! | `on_lost panicked` | error | a callback of the program panicked | `key` |
//!
//! # Metrics
//!
//! With the feature `metrics`, the crate reports to the installed recorder of the
//! [`metrics`](https://docs.rs/metrics) crate. The metrics are described when a
//! [`Client`](crate::Client) is built, so install the recorder first.
//!
//! The example `opentelemetry` exports both to OpenTelemetry: the spans with the crate
//! `tracing-opentelemetry`, and the metrics with `metrics-opentelemetry`.
//!
//! | metric | type and meaning | labels |
//! |---|---|---|
//! | `dflock_wait_seconds` | histogram: duration of a wait for a slot | `server`, `outcome`: `granted`, `timeout`, `failed`, `dropped` |
//! | `dflock_hold_seconds` | histogram: duration of a hold | `server`, `outcome`: `released`, `closed`, `dropped`, `lost` |
//! | `dflock_waiting` | gauge: requests that wait for a slot | `server` |
//! | `dflock_holding` | gauge: held slots; each permit of [`acquire_many`](crate::Semaphore::acquire_many) counts | `server` |
//! | `dflock_renewals_total` | counter: renewals that the server confirmed | `server` |
//! | `dflock_renewal_margin_seconds` | histogram: time left of the lease at the confirmation | `server` |
//! | `dflock_lost_total` | counter: lost slots | `server`, `reason`: `expired`, `rejected`, `disconnected`, `unreachable`, `overdue`, `revoked` |
//! | `dflock_connections_opened_total` | counter: opened connections | `server` |
//! | `dflock_connections_reused_total` | counter: requests on an idle connection | `server` |
//!
//! On etcd, the events `renewed` and `slow renewal` and the metrics of renewals are not reported
//! for renewals by the session thread, and its connections are not counted.
//!
//! The key is not a label. Programs may build keys from their input, so the number of keys has no
//! bound, and recorders keep every label value forever. Spans and events name the key.
//!
//! After [`enqueue`](crate::Semaphore::enqueue), the wait ends with the grant, also before
//! [`wait`](crate::Semaphore::wait) is called. From the grant on it counts as a hold.
//!
//! A hold ends when the server answers its [`release`](crate::Semaphore::release). Its outcome is
//! `released` if the server confirms, and `lost` if the slot was lost before. It is `closed` if no
//! answer came, and `dropped` if the program did not wait for it.

#[cfg(feature = "metrics")]
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
use crate::wire::{Limit, Token};
use metrics::Metrics;
pub(crate) use metrics::describe;

/// A renewal is slow if less than one part in `SLOW_DIVISOR` of its available time is left.
const SLOW_DIVISOR: u32 = 4;

/// The key and the server that telemetry is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) key: &'a str,
    pub(crate) server: &'a Arc<str>,
}

/// The phase of a slot that is measured.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    Holding { permits: u32 },
}

/// The outcome of a wait or a hold.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Granted,
    Timeout,
    Failed,
    Released,
    Closed,
    Lost(Lost),
    /// The future or the handle was dropped.
    Dropped,
}

/// The telemetry of a wait for a slot and of the hold that follows.
///
/// Dropping it emits the end of the current phase with [`Outcome::Dropped`].
#[derive(Debug)]
pub(crate) struct SlotTelemetry(Option<Box<ActiveSpan>>);

/// The relation of the span of a hold to the span in which its slot was requested.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HoldSpan {
    /// The hold ends before the future that requested the slot.
    Child,
    /// The hold may outlive that span. A child would keep it open, so that it is exported only when
    /// the slot is released.
    FollowsFrom,
}

/// The span in which a slot was requested.
#[derive(Debug)]
struct RequestSpan {
    /// Not a handle to the span, which would keep it open. The span stays open during the wait,
    /// because the span of the wait is its child.
    id: Option<Id>,
    hold: HoldSpan,
}

/// The state of telemetry that a subscriber or a recorder receives.
#[derive(Debug)]
struct ActiveSpan {
    stage: Stage,
    span: Span,
    /// The span in which the slot was requested. `None` once the slot is held.
    request_span: Option<RequestSpan>,
    started_at: Instant,
    metrics: Metrics,
}

/// The end of a wait or of a hold, which is emitted when this is dropped.
///
/// Subscribers run user code, so it is dropped outside of locks.
#[derive(Debug)]
pub(crate) struct EmitOnDrop {
    telemetry: SlotTelemetry,
    outcome: Outcome,
}

impl SlotTelemetry {
    /// Starts a wait for a slot.
    pub(crate) fn start_wait(Labels { key, server }: Labels<'_>, hold: HoldSpan) -> Self {
        let (wait, token, outcome) = (field::Empty, field::Empty, field::Empty);
        let span =
            info_span!(target: "dflock", "acquire", key, server = &**server, token, wait, outcome);
        // Without a subscriber or a recorder, skip reading the clock and the allocation.
        let is_active = !span.is_none()
            || event_enabled!(target: "dflock", Level::DEBUG)
            || cfg!(feature = "metrics");
        Self(is_active.then(|| {
            let id = if span.is_disabled() {
                None
            } else {
                Span::current().id()
            };
            Box::new(ActiveSpan::new(
                Stage::Waiting,
                span,
                Some(RequestSpan { id, hold }),
                server,
            ))
        }))
    }

    /// Ends the wait and starts the hold, unless the hold has started already.
    pub(crate) fn record_grant(mut self, labels: Labels<'_>, token: &Token, permits: u32) -> Self {
        if let Some(active) = &mut self.0
            && let Stage::Waiting = active.stage
        {
            active.start_hold(labels, token, permits);
        }
        self
    }

    /// Emits that the request is in the queue.
    pub(crate) fn record_enqueue(&self, Labels { key, server }: Labels<'_>) {
        debug!(target: "dflock", parent: &self.span(), key, server = &**server, "queued");
    }

    /// Ends the wait with `error`.
    pub(crate) fn record_failure(self, error: Error) -> Error {
        drop(self.end(Outcome::from_error(&error)));
        error
    }

    /// Ends the wait or the hold with `outcome`, which the returned guard emits on drop.
    pub(crate) fn end(self, outcome: Outcome) -> EmitOnDrop {
        EmitOnDrop {
            telemetry: self,
            outcome,
        }
    }

    /// Returns the span of the wait or of the hold.
    pub(crate) fn span(&self) -> Span {
        self.0
            .as_ref()
            .map_or_else(Span::none, |active| active.span.clone())
    }

    /// Calls `work` in the span.
    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(active) => active.span.in_scope(work),
            None => work(),
        }
    }
}

impl Drop for SlotTelemetry {
    fn drop(&mut self) {
        if let Some(active) = self.0.take() {
            active.emit(&Outcome::Dropped);
        }
    }
}

impl Drop for EmitOnDrop {
    fn drop(&mut self) {
        match (self.telemetry.0.take(), &self.outcome) {
            (Some(active), outcome) => active.emit(outcome),
            // A subscriber may be interested in warnings only.
            (None, Outcome::Lost(lost)) => emit_lost(&Span::none(), lost),
            (None, _) => {}
        }
    }
}

impl ActiveSpan {
    fn new(stage: Stage, span: Span, request_span: Option<RequestSpan>, server: &Arc<str>) -> Self {
        Self {
            stage,
            span,
            request_span,
            started_at: Instant::now(),
            metrics: match stage {
                Stage::Waiting => Metrics::start_wait(server),
                Stage::Holding { permits } => Metrics::start_hold(server, permits),
            },
        }
    }

    /// Emits the end of the wait and starts the hold.
    fn start_hold(&mut self, Labels { key, server }: Labels<'_>, token: &Token, permits: u32) {
        let (token, wait) = (token.prefix(), self.started_at.elapsed().as_secs_f64());
        self.span.record("token", token);
        debug!(
            target: "dflock",
            parent: &self.span,
            key,
            server = &**server,
            token,
            wait,
            "slot acquired"
        );
        let (parent, follows_from) = match self.request_span.take() {
            Some(RequestSpan {
                id,
                hold: HoldSpan::Child,
            }) => (id, None),
            Some(RequestSpan {
                id,
                hold: HoldSpan::FollowsFrom,
            }) => (None, id),
            None => (None, None),
        };
        let (held, outcome) = (field::Empty, field::Empty);
        let permits_field = (permits > 1).then_some(permits);
        let span = info_span!(
            target: "dflock",
            parent: parent,
            "hold",
            key,
            server = &**server,
            token,
            wait,
            permits = permits_field,
            held,
            outcome
        );
        span.follows_from(&self.span);
        span.follows_from(follows_from);
        std::mem::replace(
            self,
            Self::new(Stage::Holding { permits }, span, None, server),
        )
        .emit(&Outcome::Granted);
    }

    /// Emits the end of the wait or of the hold.
    fn emit(self, outcome: &Outcome) {
        let elapsed = self.started_at.elapsed();
        let field = match self.stage {
            Stage::Waiting => "wait",
            Stage::Holding { .. } => "held",
        };
        self.span.record(field, elapsed.as_secs_f64());
        self.span.record("outcome", outcome.as_str());
        match (self.stage, outcome) {
            (Stage::Holding { .. }, Outcome::Dropped) => {
                debug!(target: "dflock", parent: &self.span, "slot dropped");
            }
            (Stage::Holding { .. }, Outcome::Lost(lost)) => emit_lost(&self.span, lost),
            _ => {}
        }
        self.metrics.end(elapsed, outcome.as_str());
    }
}

impl Outcome {
    /// Returns the outcome of a wait that ended with `error`.
    pub(crate) fn from_error(error: &Error) -> Self {
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

/// Emits that the server confirmed a renewal when `margin` of the `available` time was left.
pub(crate) fn record_renewal(
    span: &Span,
    Labels { key, server }: Labels<'_>,
    token: &Token,
    available: Duration,
    margin: Duration,
) {
    metrics::count_renewal(server, margin);
    let (token, seconds, server) = (token.prefix(), margin.as_secs_f64(), &**server);
    if margin < available / SLOW_DIVISOR {
        warn!(target: "dflock", parent: span, key, server, token, margin = seconds, "slow renewal");
    } else {
        debug!(target: "dflock", parent: span, key, server, token, margin = seconds, "renewed");
    }
}

/// Emits that a callback of the program panicked.
pub(crate) fn record_on_lost_panic(lost: &Lost) {
    error!(target: "dflock", key = &*lost.key, "on_lost panicked");
}

/// Warns that a task waits for a slot that only it can release.
pub(crate) fn warn_self_deadlock(Labels { key, server }: Labels<'_>, limit: Limit) {
    let (server, limit) = (&**server, limit.get());
    let message = "the task waits for slots that it holds itself";
    warn!(target: "dflock", key, server, limit, "{message}");
}

/// Warns that a client sends its auth token in clear text.
pub(crate) fn warn_plaintext_token(server: &str) {
    let message = "the auth token will be sent to another machine in clear text; use TLS";
    warn!(target: "dflock", server, "{message}");
}

/// Warns that a stopped leader of this version of etcd may revoke live leases (etcd#15247).
#[cfg(feature = "etcd")]
pub(crate) fn warn_old_etcd(version: &str) {
    let message = "a leader of this etcd version that was stopped may revoke live leases; use \
                   3.5.13 or later";
    warn!(target: "dflock", version, "{message}");
}

/// Emits that a renewal of an etcd lease failed.
#[cfg(feature = "etcd")]
pub(crate) fn session_renewal_failed(error: &impl std::fmt::Display) {
    debug!(target: "dflock", %error, "renewal of an etcd lease failed");
}

/// Warns that a release was refused, so that the slot is free only after its lease.
#[cfg(feature = "etcd")]
pub(crate) fn warn_release_refused(error: &impl std::fmt::Display) {
    let message = "the etcd cluster refused a release; the slot is free when its lease has ended";
    warn!(target: "dflock", %error, "{message}");
}

/// Warns that a name may stand for several servers, of which only the addresses `used` are used.
pub(crate) fn warn_ambiguous_name(server: &str, used: &[SocketAddr], unused: usize) {
    let message = "the server's name has several addresses of one family; only the lowest is used";
    warn!(target: "dflock", server, ?used, unused, "{message}");
}

/// Warns that a name leads to another address than before.
///
/// The new address is another server, unless the server has moved.
pub(crate) fn warn_address_change(server: &str, from: IpAddr, to: IpAddr) {
    let message =
        "the address of the server's name has changed; both addresses may grant the same key";
    warn!(target: "dflock", server, %from, %to, "{message}");
}

/// Warns that a changed file is invalid.
pub(crate) fn warn_reload_failure(error: &ConfigError) {
    warn!(target: "dflock", %error, "changed file not used; the last good one is kept");
}

/// Emits that a changed file was read.
pub(crate) fn record_reload(file: &Path) {
    debug!(target: "dflock", file = %file.display(), "file reloaded");
}

/// Warns that the value of a body is discarded, because its slot was lost.
#[cfg(feature = "macros")]
pub(crate) fn warn_discarded_value(lost: &Lost) {
    let Lost {
        key,
        token,
        server,
        reason,
    } = lost;
    let (key, server, token) = (&**key, &**server, token.prefix());
    warn!(target: "dflock", key, server, token, %reason, "value discarded");
}

/// Warns that a release failed. The server frees the slot nevertheless.
pub(crate) fn warn_release_failure(error: &Error) {
    warn!(target: "dflock", %error, "release failed");
}

/// Warns that a waiter lost its connection and joins the queue again.
pub(crate) fn warn_lost_place(Labels { key, server }: Labels<'_>, error: &Error) {
    warn!(target: "dflock", key, server = &**server, %error, "place in the queue lost");
}

/// Warns that a semaphore uses the limit of the server in place of the given one.
pub(crate) fn warn_adopted_limit(Labels { key, server }: Labels<'_>, ours: Limit, theirs: Limit) {
    let (server, ours, theirs) = (&**server, ours.get(), theirs.get());
    warn!(target: "dflock", key, server, ours, theirs, "limit adopted");
}

/// Emits that a connection was made, because none was idle.
pub(crate) fn record_opened_connection(server: &Arc<str>) {
    debug!(target: "dflock", server = &**server, "connection opened");
    metrics::count_opened_connection(server);
}

/// Counts a request on an idle connection.
pub(crate) fn record_reused_connection(server: &Arc<str>) {
    metrics::count_reused_connection(server);
}

/// Emits the loss of a slot in the span `hold`.
fn emit_lost(hold: &Span, lost: &Lost) {
    let Lost {
        key,
        token,
        server,
        reason,
    } = lost;
    let (key, name, token) = (&**key, &**server, token.prefix());
    warn!(target: "dflock", parent: hold, key, server = name, token, %reason, "slot lost");
    metrics::count_loss(server, *reason);
}

/// Replacement for the metrics in builds without them. It does nothing.
#[cfg(not(feature = "metrics"))]
mod metrics {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::error::LostReason;

    #[derive(Debug)]
    pub(super) struct Metrics;

    impl Metrics {
        pub(super) fn start_wait(_: &Arc<str>) -> Self {
            Self
        }

        pub(super) fn start_hold(_: &Arc<str>, _: u32) -> Self {
            Self
        }

        #[expect(
            clippy::unused_self,
            reason = "the signature is that of the build with metrics"
        )]
        pub(super) fn end(self, _: Duration, _: &'static str) {}
    }

    pub(super) fn count_renewal(_: &Arc<str>, _: Duration) {}

    pub(super) fn count_loss(_: &Arc<str>, _: LostReason) {}

    pub(super) fn count_opened_connection(_: &Arc<str>) {}

    pub(super) fn count_reused_connection(_: &Arc<str>) {}

    pub(crate) fn describe() {}
}
