//! The time limits of a call.

use std::time::Duration;

use crate::clock::Instant;
use crate::wire::{Request, Seconds};

/// The longest time after the wait in which the server may answer `timeout` itself. With that
/// answer the connection can be reused.
const GRACE: Duration = Duration::from_secs(1);

/// The time limits of one request and its reply, as times on the clock of the pool, so that a second
/// attempt has what is left of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallLimits {
    /// The time at which a new connection must be ready.
    connect_by: Instant,
    /// The time at which the reply must have been received.
    reply_by: Instant,
    /// The longest time from the request to its reply.
    reply_timeout: Duration,
    /// The end of the wait, if the request waits in a queue.
    wait_until: Option<Instant>,
}

impl CallLimits {
    /// Returns the limits of a request that the server answers at once, within `reply_timeout`. The
    /// client's own timeouts apply to a new connection.
    pub(super) fn immediate(reply_timeout: Duration) -> Self {
        let (connect_by, reply_by) = (Instant::MAX, Instant::MAX);
        Self {
            connect_by,
            reply_by,
            reply_timeout,
            wait_until: None,
        }
    }

    /// Returns these limits with at most `grace` from the end of the wait to the reply.
    pub(super) fn with_grace(self, grace: Duration) -> Self {
        let latest = self.wait_until.map(|end| end.saturating_add(grace));
        Self {
            reply_by: latest.map_or(self.reply_by, |latest| self.reply_by.min(latest)),
            ..self
        }
    }

    /// Returns how long a new connection may take from `now` on.
    pub(super) fn connect(&self, now: Instant) -> Duration {
        self.connect_by.duration_since(now)
    }

    /// Returns how long the reply may take if the request is sent `now`.
    pub(super) fn reply(&self, now: Instant) -> Duration {
        self.reply_by.duration_since(now).min(self.reply_timeout)
    }

    /// Sets the wait of `request` to what is left of it `now`.
    pub(super) fn apply<'a>(&self, request: Request<'a>, now: Instant) -> Request<'a> {
        match (request, self.wait_until) {
            (
                Request::Acquire {
                    key,
                    primitive,
                    lease,
                    ..
                },
                Some(wait_until),
            ) => {
                // No more than the whole wait, which the wire can express.
                let wait =
                    Seconds::round_up(wait_until.duration_since(now)).unwrap_or(Seconds::MAX);
                Request::Acquire {
                    key,
                    primitive,
                    wait,
                    lease,
                }
            }
            (request, _) => request,
        }
    }
}

/// The time limits of one acquire, which all count from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct AcquireLimits {
    started_at: Instant,
    wait: Duration,
    /// The time within which a new connection is ready.
    connect: Duration,
    /// The time within which the reply is received.
    reply: Duration,
    /// The time within which everything is over, with the verification of a late grant.
    end: Duration,
    /// The time for a reply that the server owes at once.
    socket_timeout: Duration,
}

impl AcquireLimits {
    pub(super) fn new(
        started_at: Instant,
        wait: Duration,
        connect_timeout: Duration,
        socket_timeout: Duration,
    ) -> Self {
        if wait.is_zero() {
            // There is no wait in a queue: only the server can be late.
            let end = connect_timeout + socket_timeout;
            return Self {
                started_at,
                wait,
                connect: end,
                reply: end,
                end,
                socket_timeout,
            };
        }
        let end = wait + GRACE.min(socket_timeout);
        let reply = if wait.subsec_nanos() == 0 { end } else { wait };
        Self {
            started_at,
            wait,
            connect: wait,
            reply,
            end,
            socket_timeout,
        }
    }

    /// Returns the limits of one attempt.
    pub(super) fn call(&self) -> CallLimits {
        let after = |limit| self.started_at.saturating_add(limit);
        let is_immediate = self.wait.is_zero();
        CallLimits {
            connect_by: after(self.connect),
            reply_by: after(self.reply),
            reply_timeout: if is_immediate {
                self.socket_timeout
            } else {
                Duration::MAX
            },
            wait_until: Some(after(self.wait)),
        }
    }

    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Returns whether the server has the time to answer `timeout` itself.
    pub(super) fn awaits_timeout(&self) -> bool {
        self.wait.is_zero() || self.reply > self.wait
    }

    /// Returns what is left of the wait.
    pub(super) fn remaining_wait(&self, now: Instant) -> Duration {
        self.wait
            .saturating_sub(now.duration_since(self.started_at))
    }

    /// Returns how long another reply may take from `now` on, which the server owes at once.
    pub(super) fn immediate(&self, now: Instant) -> Duration {
        self.end
            .saturating_sub(now.duration_since(self.started_at))
            .min(self.socket_timeout)
    }

    /// Returns the limit of the whole acquire, for its error.
    pub(super) fn total(&self) -> Duration {
        if self.wait.is_zero() {
            self.socket_timeout
        } else {
            self.reply
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn the_wait_limits_the_whole_call() {
        let seconds = Duration::from_secs_f64;
        let start = Clock::Boottime.now();
        let limits = |wait| AcquireLimits::new(start, seconds(wait), seconds(5.0), seconds(4.0));
        for (wait, reply, end) in [
            (10.0, 11.0, 11.0),
            (1.0, 2.0, 2.0),
            (0.1, 0.1, 1.1),
            (2.5, 2.5, 3.5),
            (0.0, 4.0, 9.0),
        ] {
            let limits = limits(wait);
            assert_eq!(
                (limits.call().reply(start), limits.end),
                (seconds(reply), seconds(end))
            );
        }
        let limits = limits(3.0);
        let later = start.saturating_add(seconds(1.5));
        let call = limits.call();
        assert_eq!(
            (call.connect(later), call.reply(later)),
            (seconds(1.5), seconds(2.5))
        );
        assert_eq!(limits.immediate(later), seconds(2.5));
        // The grace is no longer than the socket timeout.
        let limits = AcquireLimits::new(start, seconds(3.0), seconds(5.0), seconds(0.2));
        assert_eq!(limits.end, seconds(3.2));
    }
}
