//! The numbers, for the recorder of the `metrics` crate.

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

/// Counts one who waits or holds in a gauge, from [`begin`](Self::begin) to [`end`](Self::end).
pub(super) struct Metrics {
    server: SharedString,
    /// Kept, so that what was added to one recorder is taken from the same.
    gauge: Gauge,
}

impl Metrics {
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

    pub(super) fn end(&mut self, stage: Stage, took: Duration, outcome: &'static str) {
        self.gauge.decrement(1.0);
        let name = match stage {
            Stage::Waiting => WAIT_SECONDS,
            Stage::Holding => HOLD_SECONDS,
        };
        histogram!(name, "server" => self.server.clone(), "outcome" => outcome).record(took);
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
    };
    counter!(LOST, "server" => label(server), "reason" => reason).increment(1);
}

pub(super) fn opened(server: &Arc<str>) {
    counter!(OPENED, "server" => label(server)).increment(1);
}

pub(super) fn reused(server: &Arc<str>) {
    counter!(REUSED, "server" => label(server)).increment(1);
}

/// Says what each of them means.
pub(crate) fn describe() {
    describe_histogram!(
        WAIT_SECONDS,
        Unit::Seconds,
        "how long a slot was waited for"
    );
    describe_histogram!(HOLD_SECONDS, Unit::Seconds, "how long a slot was held");
    describe_gauge!(WAITING, "who waits for a slot now");
    describe_gauge!(HOLDING, "who holds a slot now");
    describe_counter!(RENEWALS, "renewals that were answered");
    describe_histogram!(
        RENEWAL_MARGIN_SECONDS,
        Unit::Seconds,
        "how much of the lease was left when a renewal was answered"
    );
    describe_counter!(LOST, "slots that were held and are gone");
    describe_counter!(OPENED, "connections that were made");
    describe_counter!(REUSED, "requests that an idle connection served");
}

fn label(server: &Arc<str>) -> SharedString {
    server.clone().into()
}
