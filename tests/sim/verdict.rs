//! Whether what happened may have happened.

mod grant;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dflock::server::Ending;

use super::history::{Entry, How, Slot, What};
use super::net::Link;
use super::plan::{DELAYS, Plan};
use grant::{Cause, Grant, Had};

/// How late timers are: they go by whole milliseconds, and a slow clock makes the last nap end a little early.
const TICK: Duration = Duration::from_millis(3);

/// How long a client may take to tell of an end that it can hear of.
const PROMPT: Duration = Duration::from_millis(50);

/// What a renewal can take where nothing is wrong: more, and a lease of 1 s may be lost without a fault.
const GENTLE: Duration = Duration::from_millis(20);

pub(super) struct Verdict {
    /// First those in which a slot had one holder too many.
    pub(super) violations: Vec<String>,
    pub(super) events: BTreeMap<&'static str, u64>,
}

/// What the server does for one key.
#[derive(Default)]
struct Queue {
    line: VecDeque<u64>,
    live: BTreeSet<Slot>,
}

struct Court<'a> {
    plan: &'a Plan,
    begun: tokio::time::Instant,
    links: &'a [Link],
    grants: BTreeMap<Slot, Grant>,
    queues: BTreeMap<Arc<str>, Queue>,
    silent: BTreeSet<u64>,
    jumps: Vec<(Duration, Duration)>,
    /// When something was wrong.
    troubles: Vec<(Duration, Duration)>,
    freezes: Vec<(Duration, Duration)>,
    /// When replies were held back.
    delays: Vec<(Duration, Duration)>,
    /// When a client, or nobody, ran.
    pauses: Vec<(Duration, Duration)>,
    /// The violations in which a slot had one holder too many.
    overlaps: Vec<String>,
    verdict: Verdict,
}

impl Verdict {
    pub(super) fn of(plan: &Plan, begun: tokio::time::Instant, entries: &[Entry], links: &[Link]) -> Self {
        let mut court = Court {
            plan,
            begun,
            links,
            grants: BTreeMap::new(),
            queues: BTreeMap::new(),
            silent: BTreeSet::new(),
            jumps: Vec::new(),
            troubles: Vec::new(),
            freezes: Vec::new(),
            delays: Vec::new(),
            pauses: Vec::new(),
            overlaps: Vec::new(),
            verdict: Self { violations: Vec::new(), events: BTreeMap::new() },
        };
        for entry in entries {
            court.hear(entry);
        }
        for (slot, grant) in std::mem::take(&mut court.grants) {
            court.judge(slot, &grant);
        }
        let Court { overlaps, mut verdict, .. } = court;
        verdict.violations.splice(0..0, overlaps);
        verdict
    }
}

impl Court<'_> {
    fn hear(&mut self, Entry { at, what }: &Entry) {
        let at = *at;
        match what {
            What::Started => {}
            What::Stopped => self.end_all(at),
            What::Joined { key, waiter } => {
                self.count("waits in line");
                self.queue(key).line.push_back(*waiter);
            }
            What::Left { key, waiter } => self.queue(key).line.retain(|w| w != waiter),
            What::Granted { key, slot, server, connection, waiter } => {
                self.count("grants");
                self.grant(at, *slot, key, *waiter);
                self.grants.insert(*slot, Grant::new(key, at, (*server, *connection)));
            }
            What::Renewed { .. } => self.count("renewals"),
            What::Ended { slot, why } => self.end(at, *slot, *why),
            What::Silent { connection } => {
                self.count("read timeouts");
                self.silent.insert(*connection);
            }
            What::Had { key, slot, lease, sampled, .. } => {
                self.count("holds");
                if self.at(*slot).key != *key {
                    self.accuse(at, &format!("slot {slot} was had as one of {key}"));
                }
                let had = Had { at, lease: *lease, sampled: *sampled };
                if self.at(*slot).had.replace(had).is_some() {
                    self.accuse(at, &format!("slot {slot} was had twice"));
                }
            }
            What::Doubted { slot } => {
                self.at(*slot).doubted.get_or_insert(at);
            }
            What::Unlost { slot } => self.accuse(at, &format!("slot {slot} was lost, and is not any more")),
            What::OnLost { slot, .. } => {
                self.count("losses told");
                self.at(*slot).on_lost.push(at);
            }
            What::Told { slot, since } => {
                self.at(*slot).told.get_or_insert((*since, at));
            }
            What::Gone { slot, how, believed } => self.at(*slot).gone = Some((at, *how, *believed)),
            What::Released { slot, outcome } => {
                self.at(*slot).released = Some(*outcome);
                if outcome.is_ok() && self.at(*slot).ended.is_none_or(|(_, cause)| cause != Cause::Released) {
                    self.accuse(at, &format!("slot {slot} was released, says its client, and the server says no"));
                }
            }
            What::Failed { what, why, .. } => self.failed(at, what, why),
            What::Slow { what, took, allowed, .. } => self.accuse(at, &format!("{what} took {took:?}, and {allowed:?} is the most")),
            What::Cut { .. } => self.count("futures cut short"),
            What::Fault(fault) => {
                self.troubles.push((at, Duration::MAX));
                if let Some(spans) = self.spans(fault) {
                    spans.push((at, Duration::MAX));
                }
            }
            What::Healed(fault) => {
                // one of those that are open; which of them makes no difference to when there was trouble
                close(&mut self.troubles, at);
                if let Some(spans) = self.spans(fault) {
                    close(spans, at);
                }
            }
            What::Jumped { from } => {
                self.jumps.push((*from, at));
                self.pauses.push((*from, at));
                self.troubles.push((*from, at));
            }
            What::Wrong(what) => self.accuse(at, what),
        }
    }

    /// Order of grant is order of arrival, and there are no more than the limit.
    fn grant(&mut self, at: Duration, slot: Slot, key: &Arc<str>, waiter: Option<u64>) {
        let limit = self.plan.keys.iter().find(|(name, _)| **name == **key).map_or(0, |(_, limit)| *limit as usize);
        let queue = self.queue(key);
        let first = queue.line.front().copied();
        if waiter.is_some() {
            queue.line.pop_front();
        }
        queue.live.insert(slot);
        let live = queue.live.len();
        if first != waiter {
            self.accuse(at, &format!("slot {slot} of {key} was granted to waiter {waiter:?}, and {first:?} was first in line"));
        }
        if live > limit {
            self.overlaps.push(violation(at, &format!("the server granted slot {slot} of {key} above the limit")));
        }
    }

    fn end(&mut self, at: Duration, slot: Slot, why: Ending) {
        let Some(grant) = self.grants.get_mut(&slot) else { return };
        let cause = match why {
            Ending::Released => Cause::Released,
            Ending::Expired => Cause::Expired,
            Ending::Disconnected if self.silent.contains(&grant.link.1) => Cause::Silent,
            Ending::Forced | Ending::Disconnected => Cause::Gone,
        };
        grant.ended = Some((at, cause));
        let key = Arc::clone(&grant.key);
        self.queue(&key).live.remove(&slot);
        if cause == Cause::Expired {
            self.count("leases ended");
        }
    }

    /// The server has gone, and all that it knew.
    fn end_all(&mut self, at: Duration) {
        for grant in self.grants.values_mut().filter(|grant| grant.ended.is_none()) {
            grant.ended = Some((at, Cause::Gone));
        }
        self.queues.clear();
        self.silent.clear();
    }

    fn failed(&mut self, at: Duration, what: &str, why: &'static str) {
        self.count(why);
        if matches!(why, "protocol" | "config" | "limit mismatch" | "other") {
            self.accuse(at, &format!("{what} failed: {why}"));
        } else if self.is_calm() && why != "timeout" {
            self.accuse(at, &format!("{what} failed where nothing is wrong: {why}"));
        }
    }

    fn judge(&mut self, slot: Slot, grant: &Grant) {
        self.freed_when_left(slot, grant);
        let Some(had) = &grant.had else { return };
        self.told_in_time(slot, grant, had);
        self.told_once(slot, grant, had);
        self.lost_for_a_reason(slot, grant, had);
        if let Some((at, How::Drop | How::Close, _)) = grant.gone
            && self.closed(grant).is_some_and(|closed| closed > at)
        {
            self.accuse(at, &format!("slot {slot} was let go of, and its connection closed later"));
        }
    }

    /// Nobody believes in a slot that the server gave up: not for a moment where the client could know, and else until it hears.
    fn told_in_time(&mut self, slot: Slot, grant: &Grant, had: &Had) {
        let Some((ended, cause)) = grant.ended else { return };
        let latest = match cause {
            Cause::Expired | Cause::Silent | Cause::Released => ended,
            // no client can know that the other end is gone before it hears of it, or its own lease is over
            Cause::Gone => {
                let over = ended + had.lease.min(self.plan.read_timeout);
                self.after_jump(self.heard(grant).map_or(over, |heard| over.min(heard + PROMPT)))
            }
        };
        let latest = latest.max(had.at);
        // whoever is asked at each event knows at once; else it takes a timer to tell
        let latest_belief = if had.sampled && cause != Cause::Gone { latest } else { self.after_jump(latest + TICK) };
        let believed = [grant.doubted, grant.on_lost.first().copied(), grant.gone.map(|gone| gone.0)].into_iter().flatten().min();
        if believed.is_none_or(|until| until > latest_belief) {
            let until = believed.unwrap_or(Duration::MAX);
            let what = format!("slot {slot} of {} ended at {ended:?} ({cause:?}), and was believed in until {until:?}", grant.key);
            self.overlaps.push(violation(until, &what));
        }
        // to know when asked is one thing, to tell is another
        let left = grant.gone.is_some_and(|gone| gone.0 <= latest + TICK);
        if !left && grant.on_lost.first().is_none_or(|told| *told > self.after_jump(latest + TICK)) {
            self.accuse(
                latest,
                &format!("slot {slot} of {} ended at {ended:?} ({cause:?}), and was told to be at {:?}", grant.key, grant.on_lost),
            );
        }
    }

    /// `on_lost` is called once for each slot that was lost in the user's hands, and never else; `lost()` is no later.
    fn told_once(&mut self, slot: Slot, grant: &Grant, had: &Had) {
        let Some((at, _, believed)) = grant.gone else { return self.accuse(had.at, &format!("slot {slot} was never let go of")) };
        let found_out = grant.released == Some(Err("lost"));
        let calls = grant.on_lost.len();
        // what becomes of the release at the end of `with_slot` is not told
        let unknown = !had.sampled && believed;
        if calls > 1 || (!unknown && (calls == 1) != (!believed || found_out)) {
            self.accuse(at, &format!("`on_lost` was called {calls} times for slot {slot}"));
        }
        if let (Some((since, told)), Some(called)) = (grant.told, grant.on_lost.first())
            && after(&self.pauses, since.max(*called) + TICK) < told
        {
            self.accuse(told, &format!("slot {slot} was lost at {called:?}, and `lost()` resolved at {told:?}"));
        }
    }

    /// A slot is lost when the server gave it up, or when something was wrong lately.
    fn lost_for_a_reason(&mut self, slot: Slot, grant: &Grant, had: &Had) {
        let Some(&lost) = grant.on_lost.first() else { return };
        if self.plan.longest_latency() > GENTLE || grant.ended.is_some_and(|(ended, _)| ended <= lost) {
            return;
        }
        let since = lost.saturating_sub(had.lease.min(self.plan.read_timeout) + PROMPT);
        if !self.troubles.iter().any(|(from, to)| *from <= lost && *to >= since) {
            self.accuse(lost, &format!("slot {slot} was lost for no reason"));
        }
    }

    /// A slot is free as soon as the server can know that its connection is closed.
    fn freed_when_left(&mut self, slot: Slot, grant: &Grant) {
        let Some(link) = self.link(grant) else { return };
        let Some(left) = link.heard().0 else { return };
        let is_told = self.plan.auto_release || self.hears_of_drop(grant, link, left - self.begun);
        let left = (left - self.begun).max(grant.at);
        if !is_told || grant.ended.is_some_and(|(ended, _)| ended <= self.after_freeze(left) + TICK) {
            return;
        }
        self.accuse(left, &format!("slot {slot} of {} was left, and ended {:?}", grant.key, grant.ended));
    }

    /// Whether a server for which the end of a connection ends no slot hears the release that a drop sends before it.
    fn hears_of_drop(&self, grant: &Grant, link: &Link, left: Duration) -> bool {
        let Some((dropped, How::Drop, true)) = grant.gone else { return false };
        let hung_up = link.hung_up.map(|hung_up| hung_up - self.begun);
        // one that holds a reply back reads nothing more before the end, and one that is frozen may end the connection before it reads
        let longest = Duration::from_millis(*DELAYS.end());
        let delays = self.delays.iter().map(|(from, to)| (*from, to.saturating_add(longest)));
        let is_deaf = delays.chain(self.freezes.iter().copied()).any(|(from, to)| from <= left && to >= dropped);
        !link.up.hindered && !is_deaf && hung_up.is_none_or(|hung_up| hung_up >= left)
    }

    /// When the client could read that its connection had ended.
    fn heard(&self, grant: &Grant) -> Option<Duration> {
        Some(self.link(grant)?.heard().1? - self.begun)
    }

    fn closed(&self, grant: &Grant) -> Option<Duration> {
        Some(self.link(grant)?.closed? - self.begun)
    }

    fn link(&self, grant: &Grant) -> Option<&Link> {
        self.links.iter().find(|link| link.peer == Some(grant.link))
    }

    fn after_jump(&self, at: Duration) -> Duration {
        after(&self.jumps, at)
    }

    fn after_freeze(&self, at: Duration) -> Duration {
        // a jump may end in a freeze, and a freeze in a jump
        (0..3).fold(at, |at, _| self.after_jump(after(&self.freezes, at)))
    }

    fn is_calm(&self) -> bool {
        self.plan.longest_latency() <= GENTLE && self.troubles.is_empty()
    }

    /// Where it is kept when this fault was.
    fn spans(&mut self, fault: &str) -> Option<&mut Vec<(Duration, Duration)>> {
        match fault {
            _ if fault.starts_with("Freeze") => Some(&mut self.freezes),
            _ if fault.starts_with("DelayReplies") => Some(&mut self.delays),
            _ if fault.starts_with("Busy") => Some(&mut self.pauses),
            _ => None,
        }
    }

    fn queue(&mut self, key: &Arc<str>) -> &mut Queue {
        self.queues.entry(Arc::clone(key)).or_default()
    }

    fn at(&mut self, slot: Slot) -> &mut Grant {
        self.grants.get_mut(&slot).expect("the server granted it first")
    }

    fn count(&mut self, what: &'static str) {
        *self.verdict.events.entry(what).or_default() += 1;
    }

    fn accuse(&mut self, at: Duration, what: &str) {
        self.verdict.violations.push(violation(at, what));
    }
}

fn violation(at: Duration, what: &str) -> String {
    format!("at {:.3} s: {what}", at.as_secs_f64())
}

/// The end of the longest of `spans` that `at` lies in, or `at`.
fn after(spans: &[(Duration, Duration)], at: Duration) -> Duration {
    let next = spans.iter().filter(|(from, to)| *from <= at && at < *to).map(|(_, to)| *to).max();
    // one may begin where another ends
    next.map_or(at, |next| after(spans, next))
}

fn close(spans: &mut [(Duration, Duration)], at: Duration) {
    if let Some((_, to)) = spans.iter_mut().find(|(_, to)| *to == Duration::MAX) {
        *to = at;
    }
}
