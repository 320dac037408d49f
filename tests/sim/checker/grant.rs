//! Record of one grant.

use std::sync::Arc;
use std::time::Duration;

use crate::sim::history::{Probe, ReleaseKind};

pub(super) struct Grant {
    pub(super) key: Arc<str>,
    pub(super) at: Duration,
    /// Number of the server, and its number of the connection.
    pub(super) link: (usize, u64),
    pub(super) ended: Option<(Duration, Cause)>,
    pub(super) acquired: Option<Acquired>,
    pub(super) reported_lost: Option<Duration>,
    pub(super) on_lost: Vec<Duration>,
    /// True if the slot was lost at the end of its longest hold.
    pub(super) is_overdue: bool,
    /// Time at which a task started to wait for the loss, and time at which it was notified.
    pub(super) notified: Option<(Duration, Duration)>,
    /// Times at which bodies of `run` ended.
    pub(super) run_ends: Vec<Duration>,
    pub(super) given_up: Option<(Duration, ReleaseKind, bool)>,
    pub(super) released: Option<Result<(), &'static str>>,
}

/// Data of a slot that a user received.
pub(super) struct Acquired {
    pub(super) client: usize,
    pub(super) at: Duration,
    pub(super) lease: Duration,
    pub(super) probe: Probe,
    /// True if only the body of a `with_slot` had access to it.
    pub(super) in_body: bool,
}

/// Reason for which the server ended the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Released,
    /// The lease expired.
    Expired,
    /// The connection was silent for the read timeout.
    Silent,
    /// The connection or the server ended, or a fault ended the lease.
    Gone,
}

impl Grant {
    /// Returns whether it is attributed to the connection, and has not ended.
    pub(super) fn is_on(&self, link: (usize, u64)) -> bool {
        self.link == link && self.ended.is_none()
    }

    pub(super) fn is_released(&self) -> bool {
        matches!(self.ended, Some((_, Cause::Released)))
    }

    /// Returns the time until which the client considered the slot held.
    pub(super) fn held_until(&self) -> Option<Duration> {
        let given_up = self.given_up.map(|given_up| given_up.0);
        [self.reported_lost, self.on_lost.first().copied(), given_up]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn new(key: &Arc<str>, at: Duration, link: (usize, u64)) -> Self {
        let (ended, acquired, reported_lost, on_lost, notified, run_ends, given_up, released) =
            (None, None, None, Vec::new(), None, Vec::new(), None, None);
        Self {
            key: Arc::clone(key),
            at,
            link,
            ended,
            acquired,
            reported_lost,
            on_lost,
            is_overdue: false,
            notified,
            run_ends,
            given_up,
            released,
        }
    }
}
