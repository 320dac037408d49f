//! Checks of one grant.

use std::time::Duration;

use super::court::{Court, GENTLE, violation};
use super::grant::{Cause, Grant, Had};
use super::spans::Spans;
use crate::sim::history::{Asked, How, Slot};
use crate::sim::link::Link;
use crate::sim::plan::DELAYS;

/// Lateness of a timer. Timers have a resolution of a millisecond, and on a slow clock the last
/// sleep ends early.
const TICK: Duration = Duration::from_millis(3);

/// Longest time in which a client reports the end of a connection that it has received.
const PROMPT: Duration = Duration::from_millis(50);

impl Court<'_> {
    pub(super) fn judge(&mut self) {
        for (slot, grant) in std::mem::take(&mut self.grants) {
            self.judge_one(slot, &grant);
        }
    }

    fn judge_one(&mut self, slot: Slot, grant: &Grant) {
        self.freed_when_left(slot, grant);
        let Some(had) = &grant.had else { return };
        self.told_in_time(slot, grant, had);
        self.told_once(slot, grant, had);
        self.worked_no_longer(slot, grant, had);
        self.lost_for_a_reason(slot, grant, had);
        if let Some((at, How::Drop | How::Close, _)) = grant.gone
            && self.closed(grant).is_some_and(|closed| closed > at)
        {
            self.accuse(
                at,
                &format!("slot {slot} was dropped or closed, but its connection was closed later"),
            );
        }
    }

    /// Checks that no client considers a slot held after the server ended the grant. If the client
    /// cannot know, the limit is the arrival of the news or the end of its own lease.
    fn told_in_time(&mut self, slot: Slot, grant: &Grant, had: &Had) {
        let Some((ended, cause)) = grant.ended else {
            return;
        };
        let latest = match cause {
            Cause::Expired | Cause::Silent | Cause::Released => ended,
            // No client can know that the other end is gone before the end arrives or its own lease
            // is over.
            Cause::Gone => {
                let over = ended + had.lease.min(self.plan.read_timeout);
                self.jumps.after(
                    self.heard(grant)
                        .map_or(over, |heard| over.min(heard + PROMPT)),
                )
            }
        };
        let latest = latest.max(had.at);
        // A slot that is polled at each event reports the loss immediately; otherwise a timer has
        // to fire.
        let latest_belief = match had.asked {
            Asked::Outside if cause != Cause::Gone => latest,
            Asked::Inside if cause != Cause::Gone => self.pauses.after(latest),
            _ => self.jumps.after(latest + TICK),
        };
        let believed = [
            grant.doubted,
            grant.on_lost.first().copied(),
            grant.gone.map(|gone| gone.0),
        ]
        .into_iter()
        .flatten()
        .min();
        if believed.is_none_or(|until| until > latest_belief) {
            let until = believed.unwrap_or(Duration::MAX);
            let what = format!(
                "slot {slot} of {} ended at {ended:?} ({cause:?}), but its client considered it held until {until:?}",
                grant.key
            );
            self.overlaps.push(violation(until, &what));
        }
        // The call of `on_lost` is checked separately from the result of `is_lost`.
        let left = grant.gone.is_some_and(|gone| gone.0 <= latest + TICK);
        if !left
            && grant
                .on_lost
                .first()
                .is_none_or(|told| *told > self.jumps.after(latest + TICK))
        {
            self.accuse(
                latest,
                &format!(
                    "slot {slot} of {} ended at {ended:?} ({cause:?}), but `on_lost` was called at {:?}",
                    grant.key, grant.on_lost
                ),
            );
        }
    }

    /// Checks that `on_lost` is called once for each slot that the user lost and not otherwise, and
    /// that `lost()` completes no later.
    fn told_once(&mut self, slot: Slot, grant: &Grant, had: &Had) {
        let Some((at, _, believed)) = grant.gone else {
            return self.accuse(had.at, &format!("slot {slot} was never given up"));
        };
        let found_out = grant.released == Some(Err("lost"));
        let calls = grant.on_lost.len();
        // The outcome of the release at the end of `with_slot` is not recorded.
        let unknown = had.in_body && believed;
        if calls > 1 || (!unknown && (calls == 1) != (!believed || found_out)) {
            self.accuse(
                at,
                &format!("`on_lost` was called {calls} times for slot {slot}"),
            );
        }
        if let (Some((since, told)), Some(called)) = (grant.told, grant.on_lost.first())
            && self.pauses.after(since.max(*called) + TICK) < told
        {
            self.accuse(
                told,
                &format!("slot {slot} was lost at {called:?}, but `lost()` resolved at {told:?}"),
            );
        }
    }

    /// Checks that the body of a slot stops when the slot is lost.
    fn worked_no_longer(&mut self, slot: Slot, grant: &Grant, had: &Had) {
        let Some(&lost) = grant.on_lost.first() else {
            return;
        };
        let bodies = grant
            .gone
            .filter(|_| had.in_body)
            .map(|gone| gone.0)
            .into_iter()
            .chain(grant.worked.iter().copied());
        if let Some(until) = bodies
            .max()
            .filter(|until| *until > self.pauses.after(lost + TICK))
        {
            self.accuse(
                until,
                &format!("slot {slot} was lost at {lost:?}, but its body ran until {until:?}"),
            );
        }
    }

    /// Checks that a slot is lost only if the server ended the grant or after a recent fault.
    fn lost_for_a_reason(&mut self, slot: Slot, grant: &Grant, had: &Had) {
        let Some(&lost) = grant.on_lost.first() else {
            return;
        };
        if self.plan.longest_latency() > GENTLE
            || grant.ended.is_some_and(|(ended, _)| ended <= lost)
        {
            return;
        }
        let since = lost.saturating_sub(had.lease.min(self.plan.read_timeout) + PROMPT);
        if !self.troubles.meet(since, lost, Duration::ZERO) {
            self.accuse(lost, &format!("slot {slot} was lost without a cause"));
        }
    }

    /// Checks that a slot is free as soon as the server can notice the end of its connection.
    fn freed_when_left(&mut self, slot: Slot, grant: &Grant) {
        let Some(link) = self.link(grant) else { return };
        let Some(left) = link.heard().0 else { return };
        let is_told = self.plan.auto_release || self.hears_of_drop(grant, link, left - self.begun);
        let left = (left - self.begun).max(grant.at);
        if !is_told
            || grant
                .ended
                .is_some_and(|(ended, _)| ended <= self.after_freeze(grant, left) + TICK)
        {
            return;
        }
        self.accuse(
            left,
            &format!(
                "slot {slot} of {} was left by its client, but its end is {:?}",
                grant.key, grant.ended
            ),
        );
    }

    /// Returns whether the server reads the release that a drop sends before the connection ends.
    /// Without auto-release the end of a connection does not free a slot.
    fn hears_of_drop(&self, grant: &Grant, link: &Link, left: Duration) -> bool {
        let Some((dropped, How::Drop, true)) = grant.gone else {
            return false;
        };
        let hung_up = link.hung_up.map(|hung_up| hung_up - self.begun);
        // A server that delays a reply reads nothing before the end of the connection. One that is
        // frozen or disconnects at that moment may close the connection before it reads.
        let longest = Duration::from_millis(*DELAYS.end());
        let shard = self.plan.key(&grant.key).shard;
        let met = |spans: &Spans, trace| spans.meet(dropped, left, trace);
        let is_deaf = met(&self.delays[shard], longest)
            || met(&self.freezes[shard], Duration::ZERO)
            || met(&self.hang_ups[shard], Duration::ZERO);
        !link.up.hindered && !is_deaf && hung_up.is_none_or(|hung_up| hung_up >= left)
    }

    /// Returns the time at which the client could read the end of its connection.
    fn heard(&self, grant: &Grant) -> Option<Duration> {
        Some(self.link(grant)?.heard().1? - self.begun)
    }

    fn closed(&self, grant: &Grant) -> Option<Duration> {
        Some(self.link(grant)?.closed? - self.begun)
    }

    fn link(&self, grant: &Grant) -> Option<&Link> {
        self.links.iter().find(|link| link.peer == Some(grant.link))
    }

    fn after_freeze(&self, grant: &Grant, at: Duration) -> Duration {
        let freezes = &self.freezes[self.plan.key(&grant.key).shard];
        // A jump may end in a freeze, and a freeze in a jump.
        (0..3).fold(at, |at, _| self.jumps.after(freezes.after(at)))
    }
}
