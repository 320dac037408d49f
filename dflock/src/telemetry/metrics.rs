//! Metrics for the recorder of the `metrics` crate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Gauge, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use super::Stage;
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

/// One wait or hold in a gauge, from [`begin`](Self::begin) to [`end`](Self::end).
pub(super) struct Metrics {
    server: SharedString,
    /// Kept, so that `end` decrements the gauge of the recorder that `begin` has used.
    gauge: Gauge,
}

impl Metrics {
    /// Increments the gauge of `stage`.
    pub(super) fn begin(stage: Stage, server: &Arc<str>) -> Self {
        let name = match stage {
            Stage::Waiting => WAITING,
            Stage::Holding => HOLDING,
        };
        let server = label(server);
        let gauge = gauge!(name, "server" => server.clone());
        gauge.increment(1.0);
        Self { server, gauge }
    }

    /// Decrements the gauge of `stage` and records its duration.
    pub(super) fn end(&mut self, stage: Stage, elapsed: Duration, outcome: &'static str) {
        self.gauge.decrement(1.0);
        let name = match stage {
            Stage::Waiting => WAIT_SECONDS,
            Stage::Holding => HOLD_SECONDS,
        };
        histogram!(name, "server" => self.server.clone(), "outcome" => outcome).record(elapsed);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

pub(super) fn renewed(server: &Arc<str>, margin: Duration) {
    counter!(RENEWALS, "server" => label(server)).increment(1);
    histogram!(RENEWAL_MARGIN_SECONDS, "server" => label(server)).record(margin);
}

pub(super) fn lost(server: &Arc<str>, reason: LostReason) {
    let reason = match reason {
        LostReason::Expired => "expired",
        LostReason::Rejected => "rejected",
        LostReason::Disconnected => "disconnected",
        LostReason::Unreachable => "unreachable",
        LostReason::Revoked => "revoked",
    };
    counter!(LOST, "server" => label(server), "reason" => reason).increment(1);
}

pub(super) fn opened(server: &Arc<str>) {
    counter!(OPENED, "server" => label(server)).increment(1);
}

pub(super) fn reused(server: &Arc<str>) {
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
