use std::sync::Mutex;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

use super::*;
use crate::error::LostReason;

/// A subscriber that is interested in warnings only, and records them.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<&'static str>>>);

impl Warnings {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.metadata().target());
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Returns the number of warnings that `work` emits.
fn warnings(work: impl FnOnce(Labels<'_>, Lost)) -> usize {
    let subscriber = Warnings::default();
    let server: Arc<str> = "lock-1:6388".into();
    let token = Token::parse("00000000000000010123456789abcdef").unwrap();
    let lost = Lost {
        key: "pool".into(),
        token,
        server: server.clone(),
        reason: LostReason::Expired,
    };
    subscriber::with_default(subscriber.clone(), || {
        work(
            Labels {
                key: "pool",
                server: &server,
            },
            lost,
        );
    });
    let targets = subscriber.0.lock().unwrap();
    assert!(targets.iter().all(|target| *target == "dflock"));
    targets.len()
}

#[test]
fn a_loss_is_emitted_to_a_subscriber_of_warnings_only() {
    let lose = |labels: Labels<'_>, lost: Lost| {
        drop(
            SlotTelemetry::start_wait(labels, HoldSpan::FollowsFrom)
                .record_grant(labels, &lost.token)
                .end(Outcome::Lost(lost)),
        );
    };
    assert_eq!(warnings(lose), 1);
    assert_eq!(
        warnings(|labels, lost| drop(
            SlotTelemetry::start_wait(labels, HoldSpan::FollowsFrom)
                .record_grant(labels, &lost.token)
        )),
        0
    );
}

#[cfg(not(feature = "metrics"))]
#[test]
fn without_a_subscriber_telemetry_allocates_nothing() {
    let assert_inactive = |labels: Labels<'_>, _| {
        assert!(
            SlotTelemetry::start_wait(labels, HoldSpan::FollowsFrom)
                .0
                .is_none()
        );
    };
    assert_eq!(warnings(assert_inactive), 0);
}
