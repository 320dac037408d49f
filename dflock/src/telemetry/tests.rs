use std::sync::Mutex;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

use super::*;
use crate::error::LostReason;

/// Counts the warnings, and wants to know of nothing else.
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

fn told(work: impl FnOnce(Labels<'_>, Lost)) -> usize {
    let warnings = Warnings::default();
    let server: Arc<str> = "lock-1:6388".into();
    let token = Token::parse("00000000000000010123456789abcdef").unwrap();
    let lost = Lost {
        key: "pool".into(),
        token,
        server: server.clone(),
        reason: LostReason::Expired,
    };
    subscriber::with_default(warnings.clone(), || {
        work(
            Labels {
                key: "pool",
                server: &server,
            },
            lost,
        );
    });
    let told = warnings.0.lock().unwrap();
    assert!(told.iter().all(|target| *target == "dflock"));
    told.len()
}

#[test]
fn a_loss_is_told_where_only_warnings_are_wanted() {
    let lose = |about: Labels<'_>, lost: Lost| {
        drop(
            SlotTelemetry::waiting(about, HoldSpan::FollowsFrom)
                .granted(about, &lost.token)
                .ended(Outcome::Lost(lost)),
        );
    };
    assert_eq!(told(lose), 1);
    assert_eq!(
        told(|about, lost| drop(
            SlotTelemetry::waiting(about, HoldSpan::FollowsFrom).granted(about, &lost.token)
        )),
        0
    );
}

#[cfg(not(feature = "metrics"))]
#[test]
fn where_nobody_looks_nothing_is_kept() {
    let unseen = |about: Labels<'_>, _| {
        assert!(
            SlotTelemetry::waiting(about, HoldSpan::FollowsFrom)
                .0
                .is_none()
        );
    };
    assert_eq!(told(unseen), 0);
}
