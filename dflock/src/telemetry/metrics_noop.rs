//! No-op metrics for builds without the feature `metrics`.

use std::sync::Arc;
use std::time::Duration;

use super::Stage;
use crate::error::LostReason;

#[derive(Debug)]
pub(super) struct Metrics;

impl Metrics {
    pub(super) fn begin(_: Stage, _: &Arc<str>) -> Self {
        Self
    }

    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "same signature as with the feature `metrics`"
    )]
    pub(super) fn end(&mut self, _: Stage, _: Duration, _: &'static str) {}
}

pub(super) fn renewed(_: &Arc<str>, _: Duration) {}

pub(super) fn lost(_: &Arc<str>, _: LostReason) {}

pub(super) fn opened(_: &Arc<str>) {}

pub(super) fn reused(_: &Arc<str>) {}

pub(crate) fn describe() {}
