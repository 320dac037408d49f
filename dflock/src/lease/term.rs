//! How long a lease can be believed, and when to renew it.

use std::time::Duration;

use crate::transport::{Clock, Instant};
use crate::wire::Token;

/// The limits of time by which a client keeps its leases.
#[derive(Debug)]
pub(crate) struct Timing {
    pub(crate) clock: Clock,
    /// How long a reply may take that the server owes at once.
    pub(crate) socket_timeout: Duration,
    /// The longest silence on a held connection.
    pub(crate) heartbeat: Duration,
    /// After this much silence the server gives the slot away, however long its lease.
    pub(crate) server_read_timeout: Duration,
    /// How far the rates of two clocks may differ.
    pub(crate) clock_drift: f64,
}

/// One lease as the holder may believe it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Term {
    /// From here on nothing may be believed.
    pub(crate) ends: Instant,
    /// From here on a renewal is due.
    pub(crate) renewal: Instant,
}

/// What no lease is renewed later than, as a part of the time that it can be believed: the renewal needs the rest.
pub(crate) const LATEST: f64 = 0.875;

/// What no lease is renewed sooner than, in seconds, however small its ratio or heartbeat: a server is there for others, too.
const SOONEST: f64 = 0.01;

/// How much earlier than due the first renewal may be, as a part of the time to it: holders that began together are spread over half
/// of the time.
const FIRST_JITTER: f64 = 0.5;

/// The same for those after it: they stay apart.
const JITTER: f64 = 0.1;

impl Timing {
    /// The term of a `lease` that the server began after `asked`. It is renewed after the part `renew_ratio` of it, or [`early`] by a
    /// part of the time to that.
    pub(crate) fn term(&self, renew_ratio: f64, asked: Instant, lease: Duration, early: f64) -> Term {
        let certain = if cfg!(dflock_mutant = "no_read_timeout_cap") { lease } else { lease.min(self.server_read_timeout) };
        let drift = if cfg!(dflock_mutant = "no_drift_margin") { 0.0 } else { self.clock_drift };
        // in seconds: a duration is slow to multiply, and every cycle comes by here
        let believed = certain.as_secs_f64() * (1.0 - drift);
        let wanted = (lease.as_secs_f64() * renew_ratio).min(self.heartbeat.as_secs_f64());
        let due = wanted.max(SOONEST).min(believed * LATEST);
        let due = if cfg!(dflock_mutant = "renewal_at_half_lease_only") { lease.as_secs_f64() / 2.0 } else { due };
        Term { ends: asked.plus(believed), renewal: asked.plus(due * (1.0 - early)) }
    }
}

/// By which part of the time to it the renewal after `renewals` others comes early: it differs from token to token and from renewal to
/// renewal, and is the same when a run is repeated.
pub(crate) fn early(token: &Token, renewals: u64) -> f64 {
    // the high bits of a product with this odd number (2^64 over the golden ratio) are spread well, for counters, too
    let mixed = token.random().wrapping_add(renewals).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let luck = f64::from((mixed >> 32) as u32) / f64::from(u32::MAX);
    luck * if renewals == 0 { FIRST_JITTER } else { JITTER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMING: Timing = Timing {
        clock: Clock::Boottime,
        socket_timeout: Duration::from_secs(5),
        heartbeat: Duration::from_secs(8),
        server_read_timeout: Duration::from_secs(23),
        clock_drift: 0.01,
    };

    fn start() -> Instant {
        TIMING.clock.now()
    }

    fn after(term: Term, start: Instant) -> (Duration, Duration) {
        (term.renewal.since(start), term.ends.since(start))
    }

    #[test]
    fn a_lease_is_renewed_at_its_ratio_or_the_heartbeat_and_ends_before_the_server_ends_it() {
        let secs = Duration::from_secs_f64;
        for (lease, renewal, ends) in [(1, 0.5, 0.99), (4, 2.0, 3.96), (20, 8.0, 19.8), (33, 8.0, 22.77), (3600, 8.0, 22.77)] {
            let start = start();
            assert_eq!(after(TIMING.term(0.5, start, Duration::from_secs(lease), 0.0), start), (secs(renewal), secs(ends)), "{lease} s");
        }
    }

    // T02: a ratio close to 1 leaves time for the renewal
    #[test]
    fn a_renewal_is_due_well_before_the_end() {
        let start = start();
        let (renewal, ends) = after(TIMING.term(0.999, start, Duration::from_secs(1), 0.0), start);
        assert!(renewal < ends.mul_f64(0.9), "{renewal:?} of {ends:?}");
    }

    #[test]
    fn a_server_is_not_asked_without_pause() {
        let start = start();
        let eager = Timing { heartbeat: Duration::from_nanos(1), ..TIMING };
        for (timing, ratio) in [(&TIMING, 1e-12), (&eager, 0.5)] {
            assert_eq!(after(timing.term(ratio, start, Duration::from_secs(33), 0.0), start).0, Duration::from_millis(10));
        }
    }

    #[test]
    fn renewals_are_spread_from_token_to_token_and_from_one_to_the_next() {
        let token = |n: u64| Token::parse(format!("{:016x}{n:016x}", 7)).unwrap();
        let firsts: Vec<_> = (0..1000).map(|n| early(&token(n), 0)).collect();
        let others: Vec<_> = (1..=1000).map(|n| early(&token(5), n)).collect();
        for (all, most) in [(firsts, 0.5), (others, 0.1)] {
            assert!(all.iter().all(|early| (0.0..=most).contains(early)));
            for tenth in 0..10 {
                let (low, high) = (most * f64::from(tenth) / 10.0, most * f64::from(tenth + 1) / 10.0);
                let count = all.iter().filter(|early| (low..high).contains(*early)).count();
                assert!((50..150).contains(&count), "{count} of 1000 from {low} to {high}");
            }
        }
    }

    proptest! {
        // G23, G14: jitter is early only, and no lease is too long to be counted
        #[test]
        fn jitter_is_early_only(lease in 1u64..=9_223_372_036, random: u64, renewals in 0..3u64, ratio in 0.01..0.99f64) {
            let early = early(&Token::parse(format!("{:016x}{random:016x}", 7)).unwrap(), renewals);
            let start = start();
            let lease = Duration::from_secs(lease);
            let (renewal, ends) = after(TIMING.term(ratio, start, lease, early), start);
            let (due, _) = after(TIMING.term(ratio, start, lease, 0.0), start);
            let most = if renewals == 0 { 0.5 } else { 0.1 };
            prop_assert!(renewal <= due && renewal >= due.mul_f64(0.999 - most));
            prop_assert!(due < ends && due <= TIMING.heartbeat);
            prop_assert!(ends <= lease && ends <= TIMING.server_read_timeout);
        }
    }
}
