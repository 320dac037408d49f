//! Checks of one grant.

use std::time::Duration;

use super::grant::{Acquired, Cause, Grant};
use super::state::{Checker, RENEWAL_SLACK, format_violation};
use crate::sim::history::{GrantId, Probe, ReleaseKind};
use crate::sim::intervals::Intervals;
use crate::sim::link::Link;
use crate::sim::plan::{DELAYS, fast_clock, slow_clock};

/// Lateness of a timer. Timers have a resolution of a millisecond, and on a slow clock the last
/// sleep ends early.
const TIMER_SLACK: Duration = Duration::from_millis(3);

/// Longest time in which a client reports the end of a connection that it has received.
const NOTICE_DELAY: Duration = Duration::from_millis(50);

impl Checker<'_> {
    pub(super) fn check_grants(&mut self) {
        for (slot, grant) in std::mem::take(&mut self.grants) {
            self.check_grant(slot, &grant);
        }
    }

    fn check_grant(&mut self, slot: GrantId, grant: &Grant) {
        self.check_freed(slot, grant);
        let Some(acquired) = &grant.acquired else {
            return;
        };
        self.check_loss_in_time(slot, grant, acquired);
        self.check_max_hold(slot, grant, acquired);
        self.check_min_hold(slot, grant, acquired);
        self.check_on_lost_once(slot, grant, acquired);
        self.check_body_stopped(slot, grant, acquired);
        self.check_loss_has_cause(slot, grant, acquired);
        self.check_close(slot, grant, acquired);
        if let Some((at, ReleaseKind::Drop | ReleaseKind::Close, _)) = grant.given_up
            && !self.lingers(grant)
            && self.closed(grant).is_some_and(|closed| closed > at)
        {
            self.report_violation(
                at,
                &format!("slot {slot} was dropped or closed, but its connection was closed later"),
            );
        }
    }

    /// Checks that no client considers a slot held after the server ended the grant. If the client
    /// cannot know, the limit is the arrival of the connection's end, or the end of its lease.
    fn check_loss_in_time(&mut self, slot: GrantId, grant: &Grant, acquired: &Acquired) {
        let Some((ended, cause)) = grant.ended else {
            return;
        };
        let latest = match cause {
            Cause::Expired | Cause::Silent | Cause::Released => ended,
            // No client can know that the other end is gone before the end arrives or its own lease
            // is over.
            Cause::Gone => {
                let over = ended + acquired.lease.min(self.plan.read_timeout);
                self.jumps.first_after(
                    self.end_received(grant)
                        .map_or(over, |received| over.min(received + NOTICE_DELAY)),
                )
            }
        };
        let latest = latest.max(acquired.at);
        // A slot that is polled at each event reports the loss immediately; otherwise a timer has
        // to fire.
        let held_deadline = match acquired.probe {
            Probe::History if cause != Cause::Gone => latest,
            Probe::Body if cause != Cause::Gone => self.pauses.first_after(latest),
            _ => self.jumps.first_after(latest + TIMER_SLACK),
        };
        let held_until = grant.held_until();
        if held_until.is_none_or(|until| until > held_deadline) {
            let until = held_until.unwrap_or(Duration::MAX);
            let what = format!(
                "slot {slot} of {} ended at {ended:?} ({cause:?}), \
                 but its client considered it held until {until:?}",
                grant.key
            );
            self.overlaps.push(format_violation(until, &what));
        }
        // The call of `on_lost` is checked separately from the result of `is_lost`.
        let given_up_before = grant
            .given_up
            .is_some_and(|given_up| given_up.0 <= latest + TIMER_SLACK);
        if !given_up_before
            && grant
                .on_lost
                .first()
                .is_none_or(|notified| *notified > self.jumps.first_after(latest + TIMER_SLACK))
        {
            self.report_violation(
                latest,
                &format!(
                    "slot {slot} of {} ended at {ended:?} ({cause:?}), \
                     but `on_lost` was called at {:?}",
                    grant.key, grant.on_lost
                ),
            );
        }
    }

    /// Checks that no client considers a slot held for longer than its longest hold, which counts
    /// from the grant or from before it.
    fn check_max_hold(&mut self, slot: GrantId, grant: &Grant, acquired: &Acquired) {
        let Some(max_hold) = self.plan.max_hold(acquired.client, &grant.key) else {
            return;
        };
        let latest = acquired.at + slow_clock(max_hold);
        // A timer ends the hold: nothing else happens at that moment.
        let held_deadline = match acquired.probe {
            Probe::Body => self.pauses.first_after(latest + TIMER_SLACK),
            Probe::History | Probe::Disabled => self.jumps.first_after(latest + TIMER_SLACK),
        };
        let held_until = grant.held_until().unwrap_or(Duration::MAX);
        if held_until > held_deadline {
            self.report_violation(
                held_until,
                &format!(
                    "slot {slot} of {} was held until {held_until:?}, past its longest hold until \
                     {latest:?}",
                    grant.key
                ),
            );
        }
    }

    /// Checks that a slot that was given up before its shortest hold was over stays taken until
    /// then, unless it was lost.
    fn check_min_hold(&mut self, slot: GrantId, grant: &Grant, acquired: &Acquired) {
        let (true, Some(min_hold)) = (self.lingers(grant), self.plan.key(&grant.key).min_hold)
        else {
            return;
        };
        self.count("slots kept after their end");
        let earliest = grant.at + fast_clock(min_hold);
        // A client that loses its slot sends a release and closes the connection.
        let closed = self.closed(grant).filter(|closed| *closed < earliest);
        let released = grant
            .ended
            .filter(|(_, cause)| *cause == Cause::Released)
            .map(|(at, _)| at)
            .filter(|at| *at < earliest);
        let Some(ended) = closed.or(released) else {
            return;
        };
        let since = ended.saturating_sub(acquired.lease.min(self.plan.read_timeout) + NOTICE_DELAY);
        let is_lost = closed.is_some()
            && (self.plan.longest_latency() > RENEWAL_SLACK
                || self.fault_windows.overlaps(since, ended, NOTICE_DELAY));
        if !is_lost {
            self.report_violation(
                ended,
                &format!(
                    "slot {slot} of {} ended before its shortest hold, until {earliest:?}",
                    grant.key
                ),
            );
        }
    }

    /// Checks that `on_lost` is called once for each slot that the user lost and not otherwise, and
    /// that `lost()` completes no later.
    fn check_on_lost_once(&mut self, slot: GrantId, grant: &Grant, acquired: &Acquired) {
        let Some((at, _, was_held)) = grant.given_up else {
            return self.report_violation(acquired.at, &format!("slot {slot} was never given up"));
        };
        let found_out = matches!(grant.released, Some(Err("lost" | "overdue")));
        let calls = grant.on_lost.len();
        // The outcome of the release at the end of `with_slot` is not recorded.
        let unknown = acquired.in_body && was_held;
        if calls > 1 || (!unknown && (calls == 1) != (!was_held || found_out)) {
            self.report_violation(
                at,
                &format!("`on_lost` was called {calls} times for slot {slot}"),
            );
        }
        if let (Some((since, notified)), Some(called)) = (grant.notified, grant.on_lost.first())
            && self.pauses.first_after(since.max(*called) + TIMER_SLACK) < notified
        {
            self.report_violation(
                notified,
                &format!(
                    "slot {slot} was lost at {called:?}, but `lost()` resolved at {notified:?}"
                ),
            );
        }
    }

    /// Checks that the body of a slot stops when the slot is lost.
    fn check_body_stopped(&mut self, slot: GrantId, grant: &Grant, acquired: &Acquired) {
        let Some(&lost) = grant.on_lost.first() else {
            return;
        };
        let bodies = grant
            .given_up
            .filter(|_| acquired.in_body)
            .map(|given_up| given_up.0)
            .into_iter()
            .chain(grant.run_ends.iter().copied());
        if let Some(until) = bodies
            .max()
            .filter(|until| *until > self.pauses.first_after(lost + TIMER_SLACK))
        {
            self.report_violation(
                until,
                &format!("slot {slot} was lost at {lost:?}, but its body ran until {until:?}"),
            );
        }
    }

    /// Checks that a slot is lost only if the server ended the grant or after a recent fault.
    fn check_loss_has_cause(&mut self, slot: GrantId, grant: &Grant, acquired: &Acquired) {
        let Some(&lost) = grant.on_lost.first() else {
            return;
        };
        if grant.is_overdue {
            if self.plan.max_hold(acquired.client, &grant.key).is_none() {
                self.report_violation(lost, &format!("slot {slot} was overdue without a limit"));
            }
            return;
        }
        if self.plan.longest_latency() > RENEWAL_SLACK
            || grant.ended.is_some_and(|(ended, _)| ended <= lost)
        {
            return;
        }
        let since = lost.saturating_sub(acquired.lease.min(self.plan.read_timeout) + NOTICE_DELAY);
        if !self.fault_windows.overlaps(since, lost, Duration::ZERO) {
            self.report_violation(lost, &format!("slot {slot} was lost without a cause"));
        }
    }

    /// Checks that the close of a client completes only when it has released or left the slot.
    fn check_close(&mut self, slot: GrantId, grant: &Grant, acquired: &Acquired) {
        let Some(&closed) = self.closes.get(&acquired.client) else {
            return;
        };
        let is_ended = grant.ended.is_some_and(|(ended, _)| ended <= closed);
        let is_left = self.closed(grant).is_some_and(|left| left <= closed);
        if !is_ended && !is_left {
            self.report_violation(
                closed,
                &format!("the close of a client completed while it held slot {slot}"),
            );
        }
    }

    /// Checks that a slot is free as soon as the server can notice the end of its connection.
    fn check_freed(&mut self, slot: GrantId, grant: &Grant) {
        let Some(link) = self.link(grant.link) else {
            return;
        };
        let Some(left) = link.end_arrivals().0 else {
            return;
        };
        let is_notified =
            self.plan.auto_release || self.reads_release_of_drop(grant, link, left - self.start);
        let left = (left - self.start).max(grant.at);
        if !is_notified
            || grant
                .ended
                .is_some_and(|(ended, _)| ended <= self.after_freeze(grant, left) + TIMER_SLACK)
        {
            return;
        }
        self.report_violation(
            left,
            &format!(
                "slot {slot} of {} was left by its client, but its end is {:?}",
                grant.key, grant.ended
            ),
        );
    }

    /// Returns whether the server reads the release that a drop sends before the connection ends.
    /// Without auto-release the end of a connection does not free a slot.
    fn reads_release_of_drop(&self, grant: &Grant, link: &Link, left: Duration) -> bool {
        let Some((dropped, ReleaseKind::Drop, true)) = grant.given_up else {
            return false;
        };
        // A slot that stays taken is released later, or lost.
        if self.lingers(grant) {
            return false;
        }
        let closed_by_server = link
            .closed_by_server
            .map(|closed_by_server| closed_by_server - self.start);
        // A server that delays a reply reads nothing before the end of the connection. One that is
        // frozen or disconnects at that moment may close the connection before it reads.
        let longest = Duration::from_millis(*DELAYS.end());
        let shard = self.plan.key(&grant.key).shard;
        let overlaps = |intervals: &Intervals, after| intervals.overlaps(dropped, left, after);
        let is_blocked = overlaps(&self.delays[shard], longest)
            || overlaps(&self.freezes[shard], Duration::ZERO)
            || overlaps(&self.disconnects[shard], Duration::ZERO);
        !link.up.disturbed
            && !is_blocked
            && closed_by_server.is_none_or(|closed_by_server| closed_by_server >= left)
    }

    /// Returns whether the user gave the slot up before its shortest hold was certainly over, so
    /// that it may stay taken.
    pub(super) fn lingers(&self, grant: &Grant) -> bool {
        let min_hold = self.plan.key(&grant.key).min_hold;
        let (Some(min_hold), Some(acquired)) = (min_hold, &grant.acquired) else {
            return false;
        };
        matches!(
            grant.given_up,
            Some((at, ReleaseKind::Release | ReleaseKind::Drop, true))
                if at < acquired.at + slow_clock(min_hold)
        )
    }

    /// Returns the time at which the client could read the end of its connection.
    fn end_received(&self, grant: &Grant) -> Option<Duration> {
        Some(self.link(grant.link)?.end_arrivals().1? - self.start)
    }

    fn closed(&self, grant: &Grant) -> Option<Duration> {
        Some(self.link(grant.link)?.closed_by_client? - self.start)
    }

    fn after_freeze(&self, grant: &Grant, at: Duration) -> Duration {
        let freezes = &self.freezes[self.plan.key(&grant.key).shard];
        // A jump may end in a freeze, and a freeze in a jump.
        (0..3).fold(at, |at, _| self.jumps.first_after(freezes.first_after(at)))
    }
}
