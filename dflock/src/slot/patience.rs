//! The limits of time of one acquire.

use std::time::Duration;

use crate::wire::Seconds;

/// Longest time that the server gets, after the wait, to answer `timeout` itself. With the answer the
/// connection can be used again.
const GRACE: Duration = Duration::from_secs(1);

/// The limits of time of one acquire, all counted from its call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The wait as it was given.
    pub(super) wait: Duration,
    /// A new connection is ready by then.
    connect: Duration,
    /// The reply is here by then.
    reply: Duration,
    /// Everything is over by then, with the confirmation of a late grant.
    end: Duration,
    /// For a reply that the server owes at once.
    socket_timeout: Duration,
}

impl Patience {
    /// `timeouts` are those to connect, and for one reply.
    pub(super) fn new(wait: Duration, timeouts: (Duration, Duration)) -> Self {
        let (connect_timeout, socket_timeout) = timeouts;
        if wait.is_zero() {
            // nothing to wait for in a queue: only the server can be late
            let end = connect_timeout + socket_timeout;
            return Self {
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
            wait,
            connect: wait,
            reply,
            end,
            socket_timeout,
        }
    }

    /// Whether the server is left the time to answer `timeout` itself.
    pub(super) fn awaits_timeout(&self) -> bool {
        self.wait.is_zero() || self.reply > self.wait
    }

    /// Returns the wait to ask the server for, after `spent`.
    pub(super) fn seconds(&self, spent: Duration) -> Seconds {
        // no more than the whole wait, which the wire can carry
        Seconds::round_up(self.left(spent)).unwrap_or(Seconds::MAX)
    }

    /// Returns what is left of the wait after `spent`.
    pub(super) fn left(&self, spent: Duration) -> Duration {
        self.wait.saturating_sub(spent)
    }

    /// Returns how long a new connection may take after `spent`.
    pub(super) fn connect(&self, spent: Duration) -> Duration {
        self.connect.saturating_sub(spent)
    }

    /// Returns how long the reply may take after `spent`.
    pub(super) fn reply(&self, spent: Duration) -> Duration {
        let left = self.reply.saturating_sub(spent);
        if self.wait.is_zero() {
            left.min(self.socket_timeout)
        } else {
            left
        }
    }

    /// Returns how long another reply may take after `spent`, which the server owes at once.
    pub(super) fn prompt(&self, spent: Duration) -> Duration {
        self.end.saturating_sub(spent).min(self.socket_timeout)
    }

    /// Returns the limit of the whole, as an error tells it.
    pub(super) fn whole(&self) -> Duration {
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

    const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(4));

    #[test]
    fn a_wait_is_the_whole_call() {
        let seconds = Duration::from_secs_f64;
        for (wait, reply, end) in [
            (10.0, 11.0, 11.0),
            (1.0, 2.0, 2.0),
            (0.1, 0.1, 1.1),
            (2.5, 2.5, 3.5),
            (0.0, 4.0, 9.0),
        ] {
            let patience = Patience::new(seconds(wait), TIMEOUTS);
            assert_eq!(
                (patience.reply(Duration::ZERO), patience.end),
                (seconds(reply), seconds(end))
            );
        }
        let patience = Patience::new(seconds(3.0), TIMEOUTS);
        let spent = seconds(1.5);
        assert_eq!(
            (patience.connect(spent), patience.reply(spent)),
            (spent, seconds(2.5))
        );
        assert_eq!(
            (patience.seconds(spent).get(), patience.prompt(spent)),
            (2, seconds(2.5))
        );
        // a short socket timeout is all the grace that there is
        let patience = Patience::new(seconds(3.0), (seconds(5.0), seconds(0.2)));
        assert_eq!(patience.end, seconds(3.2));
    }
}
