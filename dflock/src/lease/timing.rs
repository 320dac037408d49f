//! The expiry of a lease for its holder, and the time of its renewal.

use std::time::Duration;

use crate::clock::{Clock, Instant};
use crate::wire::Token;

/// The time limits by which a client keeps its leases.
#[derive(Debug)]
pub(crate) struct LeaseTiming {
    pub(crate) clock: Clock,
    /// The time for a reply that the server owes at once.
    pub(crate) socket_timeout: Duration,
    /// The longest silence on a connection that holds a slot.
    pub(crate) heartbeat: Duration,
    /// The longest sleep toward a deadline: timers stand still while the machine is suspended, and
    /// the clock of the leases does not.
    pub(crate) max_sleep: Duration,
    /// After this much silence the server gives the slot away, however long its lease.
    pub(crate) server_read_timeout: Duration,
    /// The largest difference between the rates of two clocks.
    pub(crate) clock_drift: f64,
}

/// The deadlines of one lease for its holder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Deadlines {
    /// The slot is lost from here on.
    pub(crate) expires_at: Instant,
    /// A renewal is due from here on.
    pub(crate) renew_at: Instant,
}

/// The latest renewal, as a part of the time until the expiry: the renewal needs the rest.
pub(crate) const MAX_RENEW_FRACTION: f64 = 0.875;

/// The minimum delay before a renewal, in seconds, whatever the ratio and the heartbeat, so that
/// no client sends renewals without a pause.
const MIN_RENEW_SECS: f64 = 0.01;

/// The largest jitter of the first renewal, as a part of the delay: holds that began together are
/// spread over half of the delay.
const FIRST_JITTER: f64 = 0.5;

/// The largest jitter of later renewals, as a part of the delay: it keeps them apart.
const JITTER: f64 = 0.1;

impl LeaseTiming {
    /// Returns the deadlines of a `lease` that the server began after `sent_at`. The renewal is due
    /// after the part `renew_ratio` of it, less the part `jitter` of that delay.
    pub(crate) fn deadlines(
        &self,
        renew_ratio: f64,
        sent_at: Instant,
        lease: Duration,
        jitter: f64,
    ) -> Deadlines {
        let capped = lease.min(self.server_read_timeout);
        // In seconds: multiplying a `Duration` is slow, and every acquire runs this.
        let safe = capped.as_secs_f64() * (1.0 - self.clock_drift);
        let wanted = (lease.as_secs_f64() * renew_ratio).min(self.heartbeat.as_secs_f64());
        let delay = wanted.max(MIN_RENEW_SECS).min(safe * MAX_RENEW_FRACTION);
        Deadlines {
            expires_at: sent_at.saturating_add_secs_f64(safe),
            renew_at: sent_at.saturating_add_secs_f64(delay * (1.0 - jitter)),
        }
    }
}

/// Returns the part of its delay by which the renewal after `renewals` others is sent early. It
/// differs between tokens and renewals, and is the same when a run is repeated.
pub(crate) fn jitter(token: &Token, renewals: u64) -> f64 {
    // The high bits of a product with this odd number (2^64 divided by the golden ratio) are
    // spread well, also for counters.
    let mixed = token
        .random_bits()
        .wrapping_add(renewals)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let unit = f64::from((mixed >> 32) as u32) / f64::from(u32::MAX);
    unit * if renewals == 0 { FIRST_JITTER } else { JITTER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMING: LeaseTiming = LeaseTiming {
        clock: Clock::Boottime,
        socket_timeout: Duration::from_secs(5),
        heartbeat: Duration::from_secs(8),
        max_sleep: Duration::from_secs(8),
        server_read_timeout: Duration::from_secs(23),
        clock_drift: 0.01,
    };

    fn start() -> Instant {
        TIMING.clock.now()
    }

    fn after(deadlines: Deadlines, start: Instant) -> (Duration, Duration) {
        (
            deadlines.renew_at.duration_since(start),
            deadlines.expires_at.duration_since(start),
        )
    }

    #[test]
    fn a_lease_is_renewed_at_its_ratio_or_the_heartbeat_and_ends_before_the_server_ends_it() {
        let secs = Duration::from_secs_f64;
        for (lease, renewal, ends) in [
            (1, 0.5, 0.99),
            (4, 2.0, 3.96),
            (20, 8.0, 19.8),
            (33, 8.0, 22.77),
            (3600, 8.0, 22.77),
        ] {
            let start = start();
            assert_eq!(
                after(
                    TIMING.deadlines(0.5, start, Duration::from_secs(lease), 0.0),
                    start
                ),
                (secs(renewal), secs(ends)),
                "{lease} s"
            );
        }
    }

    // T02: a ratio close to 1 leaves time for the renewal
    #[test]
    fn a_renewal_is_due_well_before_the_end() {
        let start = start();
        let (renewal, ends) = after(
            TIMING.deadlines(0.999, start, Duration::from_secs(1), 0.0),
            start,
        );
        assert!(renewal < ends.mul_f64(0.9), "{renewal:?} of {ends:?}");
    }

    #[test]
    fn a_server_is_not_asked_without_pause() {
        let start = start();
        let eager = LeaseTiming {
            heartbeat: Duration::from_nanos(1),
            ..TIMING
        };
        for (timing, ratio) in [(&TIMING, 1e-12), (&eager, 0.5)] {
            assert_eq!(
                after(
                    timing.deadlines(ratio, start, Duration::from_secs(33), 0.0),
                    start
                )
                .0,
                Duration::from_millis(10)
            );
        }
    }

    #[test]
    fn renewals_are_spread_from_token_to_token_and_from_one_to_the_next() {
        let token = |n: u64| Token::parse(format!("{:016x}{n:016x}", 7)).unwrap();
        let firsts: Vec<_> = (0..1000).map(|n| jitter(&token(n), 0)).collect();
        let others: Vec<_> = (1..=1000).map(|n| jitter(&token(5), n)).collect();
        for (all, most) in [(firsts, 0.5), (others, 0.1)] {
            assert!(all.iter().all(|jitter| (0.0..=most).contains(jitter)));
            for tenth in 0..10 {
                let (low, high) = (
                    most * f64::from(tenth) / 10.0,
                    most * f64::from(tenth + 1) / 10.0,
                );
                let count = all
                    .iter()
                    .filter(|jitter| (low..high).contains(*jitter))
                    .count();
                assert!(
                    (50..150).contains(&count),
                    "{count} of 1000 from {low} to {high}"
                );
            }
        }
    }

    proptest! {
        // G23, G14: jitter is early only, and no lease is too long to be counted
        #[test]
        fn jitter_is_early_only(lease in 1u64..=9_223_372_036, random: u64, renewals in 0..3u64, ratio in 0.01..0.99f64) {
            let jitter = jitter(&Token::parse(format!("{:016x}{random:016x}", 7)).unwrap(), renewals);
            let start = start();
            let lease = Duration::from_secs(lease);
            let (renewal, ends) = after(TIMING.deadlines(ratio, start, lease, jitter), start);
            let (due, _) = after(TIMING.deadlines(ratio, start, lease, 0.0), start);
            let most = if renewals == 0 { 0.5 } else { 0.1 };
            prop_assert!(renewal <= due && renewal >= due.mul_f64(0.999 - most));
            prop_assert!(due < ends && due <= TIMING.heartbeat);
            prop_assert!(ends <= lease && ends <= TIMING.server_read_timeout);
        }
    }
}
