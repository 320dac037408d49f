//! The entries of this client that wait in one queue.
//!
//! An entry is held once the number of permits before it, by create revision, leaves room for its
//! own. The number only falls. Watch events lower it as a hint; a slot is granted only by a
//! linearizable read of the queue, so that a duplicated or a foreign event grants nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::entry::EntrySession;
use super::keys::{EntryId, QueueName};
use super::messages::{Event, KeyValue};

/// One queue, as long as an entry of this client waits in it.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    waiters: RefCell<BTreeMap<EntryId, Waiter>>,
    /// The revision of the last event that was applied.
    seen: Cell<i64>,
    /// Events may have been missed, so that the queue must be read.
    stale: Cell<bool>,
    /// Notified when the task of the queue has something to do.
    changed: Notify,
}

/// An entry that waits.
#[derive(Debug)]
struct Waiter {
    owner: Rc<EntrySession>,
    spec: WaiterSpec,
    /// The number of permits before this entry, at the revision `as_of`.
    ahead: u64,
    as_of: i64,
    /// A read at an older revision does not count: an event may have shown the end of the entry.
    read_from: i64,
    position: Position,
}

/// Constants of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaiterSpec {
    pub(super) revision: i64,
    pub(super) permits: u64,
    pub(super) limit: u64,
}

/// The position of an entry, as the last read of the queue has shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The queue has not been read since the entry was added.
    Unknown,
    /// So many slots must be released before the entry holds.
    Behind(u64),
    Granted,
    /// The entry does not exist any more.
    Gone,
}

impl WaiterSpec {
    /// Returns how many slots must be released before an entry behind `ahead` permits holds.
    pub(super) fn missing(&self, ahead: u64) -> u64 {
        (ahead + self.permits).saturating_sub(self.limit)
    }
}

impl Queue {
    pub(super) fn new(name: QueueName) -> Rc<Self> {
        Rc::new(Self {
            name,
            waiters: RefCell::default(),
            seen: Cell::new(0),
            stale: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Adds an entry that had `ahead` permits before it at `as_of`. With `None` the queue is read
    /// first.
    pub(super) fn insert(
        &self,
        id: EntryId,
        owner: Rc<EntrySession>,
        spec: WaiterSpec,
        ahead: Option<u64>,
    ) {
        let as_of = spec.revision;
        // Events up to `seen` were applied before this entry was here.
        if ahead.is_none() || self.seen.get() > as_of {
            self.stale.set(true);
        }
        let waiter = Waiter {
            owner,
            spec,
            ahead: ahead.unwrap_or_default(),
            as_of,
            read_from: as_of,
            position: ahead.map_or(Position::Unknown, |ahead| {
                Position::Behind(spec.missing(ahead))
            }),
        };
        self.waiters.borrow_mut().insert(id, waiter);
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, id: EntryId) {
        self.waiters.borrow_mut().remove(&id);
        self.changed.notify_one();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.borrow().is_empty()
    }

    /// Returns the position of an entry. One that was removed is gone.
    pub(super) fn position(&self, id: EntryId) -> Position {
        let waiters = self.waiters.borrow();
        waiters
            .get(&id)
            .map_or(Position::Gone, |waiter| waiter.position)
    }

    /// Completes after the next change.
    pub(super) async fn wait_for_change(&self) {
        self.changed.notified().await;
    }

    /// Marks the queue as to be read: events may have been missed.
    pub(super) fn mark_stale(&self) {
        self.stale.set(true);
        self.changed.notify_one();
    }

    /// Returns the first revision whose events a new watch must deliver.
    pub(super) fn watch_from(&self) -> i64 {
        let waiters = self.waiters.borrow();
        waiters.values().map(|w| w.as_of + 1).min().unwrap_or(0)
    }

    /// Returns the largest create revision of the entries for which the queue must be read.
    pub(super) fn read_up_to(&self) -> Option<i64> {
        let stale = self.stale.get();
        let waiters = self.waiters.borrow();
        let candidates = waiters.values().filter(|w| {
            w.position != Position::Gone
                && w.position != Position::Granted
                && (stale || w.position == Position::Unknown || w.spec.missing(w.ahead) == 0)
        });
        candidates.map(|waiter| waiter.spec.revision).max()
    }

    /// Marks the queue as read: the read that follows sees all events before it.
    pub(super) fn start_read(&self) -> bool {
        self.stale.replace(false)
    }

    /// Applies the deletions of whole revisions. Events that an entry has seen are
    /// skipped.
    pub(super) fn apply_events(&self, events: &[Event]) {
        let mut last = self.seen.get();
        for event in events {
            let Some(kv) = &event.kv else {
                continue;
            };
            let revision = kv.mod_revision;
            last = last.max(revision);
            for waiter in self.waiters.borrow_mut().values_mut() {
                if revision <= waiter.as_of {
                    continue;
                }
                match event.prev_kv.as_ref().map(|kv| kv.create_revision) {
                    Some(created) if created < waiter.spec.revision => {
                        waiter.ahead = waiter.ahead.saturating_sub(1);
                    }
                    Some(created) if created > waiter.spec.revision => {}
                    // The entry itself, or an unknown one.
                    _ => {
                        waiter.read_from = revision;
                        self.stale.set(true);
                    }
                }
            }
        }
        self.seen.set(last);
        for waiter in self.waiters.borrow_mut().values_mut() {
            waiter.as_of = waiter.as_of.max(last);
            if let Position::Behind(_) = waiter.position {
                waiter.set_position(Position::Behind(waiter.spec.missing(waiter.ahead)));
            }
        }
        self.changed.notify_one();
    }

    /// Applies a linearizable read of the entries up to the create revision `up_to`, at `revision`.
    /// Returns whether all of them had use for it: events may have overtaken it.
    ///
    /// A read that is older than the last event counts as well: the number of permits before an
    /// entry only falls.
    pub(super) fn apply_read(&self, entries: &[KeyValue], up_to: i64, revision: i64) -> bool {
        let mut is_applied = true;
        for waiter in self.waiters.borrow_mut().values_mut() {
            let created = waiter.spec.revision;
            if created > up_to || waiter.position == Position::Granted {
                continue;
            }
            if revision < waiter.read_from {
                is_applied = false;
                continue;
            }
            let count = |is: fn(&i64, &i64) -> bool| {
                let entries = entries.iter().map(|entry| &entry.create_revision);
                entries.filter(|entry| is(entry, &created)).count() as u64
            };
            let ahead = count(i64::lt);
            waiter.ahead = if revision < waiter.as_of && waiter.position != Position::Unknown {
                waiter.ahead.min(ahead)
            } else {
                ahead
            };
            waiter.as_of = waiter.as_of.max(revision);
            // Permits of one entry are all that were created in its transaction.
            let position = if count(i64::eq) < waiter.spec.permits {
                Position::Gone
            } else if waiter.spec.missing(ahead) == 0 {
                // By the read alone: events are hints.
                Position::Granted
            } else {
                Position::Behind(waiter.spec.missing(waiter.ahead))
            };
            waiter.set_position(position);
        }
        is_applied
    }
}

impl Waiter {
    fn set_position(&mut self, position: Position) {
        if self.position != position {
            self.position = position;
            self.owner.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::etcd::entry::{EntryHandle, entry};
    use crate::engine::etcd::keys::Layout;
    use crate::wire::Kind;

    const ID: EntryId = EntryId(1);

    /// The create revision of the entry that waits.
    const OWN: i64 = 10;

    fn queue(ahead: Option<u64>) -> (Rc<Queue>, EntryHandle) {
        let queue = Queue::new(Layout::new("").queue(Kind::Lock, "key"));
        let (handle, session) = entry();
        let spec = WaiterSpec {
            revision: OWN,
            permits: 1,
            limit: 1,
        };
        queue.insert(ID, Rc::new(session), spec, ahead);
        (queue, handle)
    }

    fn created(create_revision: i64) -> KeyValue {
        KeyValue {
            create_revision,
            ..KeyValue::default()
        }
    }

    fn deletion(create_revision: i64, mod_revision: i64) -> Event {
        Event {
            kv: Some(KeyValue {
                mod_revision,
                ..KeyValue::default()
            }),
            prev_kv: Some(created(create_revision)),
        }
    }

    #[test]
    fn a_read_that_an_event_has_overtaken_grants() {
        let (queue, _handle) = queue(Some(1));
        // An entry behind this one has left.
        queue.apply_events(&[deletion(12, 20)]);
        assert!(queue.apply_read(&[created(OWN)], OWN, 15));
        assert_eq!(queue.position(ID), Position::Granted);
    }

    #[test]
    fn a_read_from_before_the_end_of_the_entry_grants_nothing() {
        let (queue, _handle) = queue(Some(1));
        queue.apply_events(&[deletion(OWN, 20)]);
        assert!(!queue.apply_read(&[created(OWN)], OWN, 15));
        assert_eq!(queue.position(ID), Position::Behind(1));
        assert!(queue.apply_read(&[], OWN, 20));
        assert_eq!(queue.position(ID), Position::Gone);
    }

    #[test]
    fn an_older_read_does_not_raise_the_position() {
        let (queue, _handle) = queue(Some(3));
        queue.apply_events(&[deletion(1, 20)]);
        let entries = [created(1), created(2), created(3), created(OWN)];
        assert!(queue.apply_read(&entries, OWN, 15));
        assert_eq!(queue.position(ID), Position::Behind(2));
    }

    #[test]
    fn the_position_is_unknown_before_the_first_read() {
        let (queue, _handle) = queue(None);
        queue.apply_events(&[deletion(1, 20)]);
        assert_eq!(queue.position(ID), Position::Unknown);
        assert_eq!(queue.read_up_to(), Some(OWN));
        assert!(queue.apply_read(&[created(2), created(OWN)], OWN, 21));
        assert_eq!(queue.position(ID), Position::Behind(1));
    }
}
