//! Counter of renewals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dflock_tests::harness::HarnessResult;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Counts the events of confirmed renewals, and enables no other event and no span.
#[derive(Clone, Default)]
pub(crate) struct RenewalCounter(Arc<AtomicU64>);

impl RenewalCounter {
    /// Makes a new counter the subscriber of this process.
    pub(crate) fn install() -> HarnessResult<Self> {
        let counter = Self::default();
        tracing::subscriber::set_global_default(counter.clone())?;
        Ok(counter)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for RenewalCounter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.fields().field("margin").is_some()
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // No span is enabled.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
