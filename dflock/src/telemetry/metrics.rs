//! Metrics for the recorder of the `metrics` crate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Gauge, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::error::LostReason;

const WAIT_SECONDS: &str = "dflock_wait_seconds";
const HOLD_SECONDS: &str = "dflock_hold_seconds";
const WAITING: &str = "dflock_waiting";
const HOLDING: &str = "dflock_holding";
const RENEWALS: &str = "dflock_renewals_total";
const RENEWAL_MARGIN_SECONDS: &str = "dflock_renewal_margin_seconds";
const LOST: &str = "dflock_lost_total";
const OPENED: &str = "dflock_connections_opened_total";
const REUSED: &str = "dflock_connections_reused_total";

/// One wait or hold: a part of its gauge until [`end`](Self::end), and then of its histogram.
pub(super) struct Metrics {
    server: SharedString,
    /// Kept, so that `end` decrements the gauge of the same recorder.
    gauge: Gauge,
    histogram: &'static str,
}

impl Metrics {
    /// Increments the gauge of the waits.
    pub(super) fn start_wait(server: &Arc<str>) -> Self {
        Self::start(WAITING, WAIT_SECONDS, server)
    }

    /// Increments the gauge of the holds.
    pub(super) fn start_hold(server: &Arc<str>) -> Self {
        Self::start(HOLDING, HOLD_SECONDS, server)
    }

    fn start(gauge: &'static str, histogram: &'static str, server: &Arc<str>) -> Self {
        let server = label(server);
        let gauge = gauge!(gauge, "server" => server.clone());
        gauge.increment(1.0);
        Self {
            server,
            gauge,
            histogram,
        }
    }

    /// Decrements the gauge and records the duration.
    pub(super) fn end(self, elapsed: Duration, outcome: &'static str) {
        self.gauge.decrement(1.0);
        histogram!(self.histogram, "server" => self.server, "outcome" => outcome).record(elapsed);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

pub(super) fn count_renewal(server: &Arc<str>, margin: Duration) {
    counter!(RENEWALS, "server" => label(server)).increment(1);
    histogram!(RENEWAL_MARGIN_SECONDS, "server" => label(server)).record(margin);
}

pub(super) fn count_loss(server: &Arc<str>, reason: LostReason) {
    let reason = match reason {
        LostReason::Expired => "expired",
        LostReason::Rejected => "rejected",
        LostReason::Disconnected => "disconnected",
        LostReason::Unreachable => "unreachable",
        LostReason::Overdue => "overdue",
        LostReason::Revoked => "revoked",
    };
    counter!(LOST, "server" => label(server), "reason" => reason).increment(1);
}

pub(super) fn count_opened_connection(server: &Arc<str>) {
    counter!(OPENED, "server" => label(server)).increment(1);
}

pub(super) fn count_reused_connection(server: &Arc<str>) {
    counter!(REUSED, "server" => label(server)).increment(1);
}

/// Describes the metrics to the installed recorder.
pub(crate) fn describe() {
    describe_histogram!(WAIT_SECONDS, Unit::Seconds, "duration of a wait for a slot");
    describe_histogram!(HOLD_SECONDS, Unit::Seconds, "duration of a hold");
    describe_gauge!(WAITING, "requests that wait for a slot");
    describe_gauge!(HOLDING, "held slots");
    describe_counter!(RENEWALS, "renewals that the server confirmed");
    describe_histogram!(
        RENEWAL_MARGIN_SECONDS,
        Unit::Seconds,
        "time left of the lease when a renewal was confirmed"
    );
    describe_counter!(LOST, "lost slots");
    describe_counter!(OPENED, "opened connections");
    describe_counter!(REUSED, "requests on an idle connection");
}

fn label(server: &Arc<str>) -> SharedString {
    server.clone().into()
}
