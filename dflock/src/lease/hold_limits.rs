//! The bounds of a hold that its options set, whatever its lease.

use std::time::Duration;

use super::timing::Deadlines;
use crate::clock::Instant;
use crate::error::ConfigError;
use crate::wire::{LeaseSeconds, Seconds};

/// The validated options `max_hold` and `min_hold`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldLimits {
    max: Option<Duration>,
    min: Option<Duration>,
}

impl HoldLimits {
    /// Validates the options of a semaphore with the lease `lease_ttl`.
    pub(crate) fn new(
        max: Option<Duration>,
        min: Option<Duration>,
        lease_ttl: Option<Duration>,
    ) -> Result<Self, ConfigError> {
        if let Some(max_hold) = max {
            if max_hold.is_zero() {
                return Err(ConfigError::Duration {
                    option: "max_hold",
                    given: max_hold,
                    allowed: "it must be more than 0",
                });
            }
            if let Some(lease_ttl) = lease_ttl.filter(|lease_ttl| max_hold < *lease_ttl) {
                return Err(ConfigError::MaxHold {
                    max_hold,
                    lease_ttl,
                });
            }
            if let Some(min_hold) = min.filter(|min_hold| *min_hold > max_hold) {
                return Err(ConfigError::MinHold { min_hold, max_hold });
            }
        }
        Ok(Self { max, min })
    }

    /// Returns whether a slot is free as soon as its owner gives it up.
    pub(super) fn has_no_min(self) -> bool {
        self.min.is_none()
    }

    /// Returns the bounds of a hold that began with the grant of `lease`. Its request was sent at
    /// `sent_at`, and the grant was received at `received_at`.
    pub(super) fn start(
        self,
        sent_at: Instant,
        received_at: Instant,
        lease: LeaseSeconds,
    ) -> HoldBounds {
        HoldBounds {
            latest_end: self.max.map(|max| (sent_at.saturating_add(max), lease)),
            // From the later of both times, because otherwise two grants of a slot could be closer
            // together than `min` by the time of the request.
            earliest_end: self.min.map(|min| received_at.saturating_add(min)),
        }
    }
}

/// The bounds of one hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HoldBounds {
    /// The slot is lost from here on. The second value is the lease of the first grant.
    latest_end: Option<(Instant, LeaseSeconds)>,
    /// The slot stays taken until here, even if its owner gives it up before.
    pub(super) earliest_end: Option<Instant>,
}

impl HoldBounds {
    /// Returns the time from which on the slot is lost.
    pub(super) fn latest_end(&self) -> Option<Instant> {
        self.latest_end.map(|(end, _)| end)
    }

    /// Returns `deadlines`, none of them later than the latest end of the hold.
    pub(super) fn cap(&self, deadlines: Deadlines) -> Deadlines {
        match self.latest_end {
            Some((end, _)) => Deadlines {
                expires_at: deadlines.expires_at.min(end),
                renew_at: deadlines.renew_at.min(end),
            },
            None => deadlines,
        }
    }

    /// Returns whether a lease that expires at `expires_at` lasts until the latest end of the hold.
    pub(super) fn is_reached(&self, expires_at: Instant) -> bool {
        self.latest_end.is_some_and(|(end, _)| expires_at >= end)
    }

    /// Returns the lease that a renewal `now` requests, where `wanted` is the one of the options.
    ///
    /// It is the time that is left of the hold if that is less. So the server frees the slot about
    /// then as well, even if the network fails and nothing tells the server that the hold is over.
    pub(super) fn lease(
        &self,
        wanted: Option<LeaseSeconds>,
        now: Instant,
        clock_drift: f64,
    ) -> Option<LeaseSeconds> {
        let Some((end, granted)) = self.latest_end else {
            return wanted;
        };
        // More by the drift, because the client counts a lease shorter by it. Otherwise the
        // deadline of a lease of 10 s would be 0.1 s before a hold that ends in 10 s.
        let left = end.duration_since(now).div_f64(1.0 - clock_drift);
        let rounded = Seconds::round_up(left).and_then(LeaseSeconds::from_seconds);
        rounded.filter(|left| *left < granted).or(wanted)
    }
}
