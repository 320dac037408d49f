//! The holds of one client. `Client::close` waits for them, and they show that a task waits for
//! itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::task;

use crate::engine::SlotSpec;
use crate::mutex::Mutex;

/// The holds of one client, its places in queues, and whether the client is closed.
#[derive(Debug, Default)]
pub(crate) struct HoldRegistry {
    /// Stored under the lock of `holds`: no hold is registered after it.
    is_closed: AtomicBool,
    holds: Mutex<Holds>,
    hasher: RandomState,
    /// Notified when the client is closed.
    closed: Notify,
    /// Notified when the last hold of a closed client has ended.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Holds {
    count: usize,
    /// The number of slots that each task has acquired and not given up.
    by_task: HashMap<(task::Id, KeyHash), u32, BuildHasherDefault<TaskKeyHasher>>,
}

/// Mixes the id of a task with the hash of a key, which is random.
///
/// An acquire and its release look up three times. The default hasher takes 210 instructions each
/// time.
#[derive(Default)]
struct TaskKeyHasher(u64);

impl Hasher for TaskKeyHasher {
    fn write_u64(&mut self, part: u64) {
        // An odd number with about as many ones as zeros: 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The hash of the kind and the key of a slot.
///
/// Two keys with one hash cost a warning without a reason. A shared name would cost every acquire
/// an access to its reference count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash(u64);

/// A hold in the registry, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<HoldRegistry>,
    key: KeyHash,
    /// The task that acquired the slot. `None` for a place in the queue, and outside of a task.
    task: Option<task::Id>,
    /// The number of slots that the hold has.
    slots: u32,
}

impl HoldRegistry {
    pub(crate) fn hash(&self, slot: &SlotSpec) -> KeyHash {
        KeyHash(self.hasher.hash_one((slot.kind(), slot.key.as_str())))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Closes the client: no hold is registered any more.
    pub(crate) fn close(&self) {
        let holds = self.holds.lock();
        self.is_closed.store(true, Ordering::Release);
        drop(holds);
        self.closed.notify_waiters();
    }

    /// Completes when the client is closed.
    pub(crate) async fn closed(&self) {
        // Created before the check: it is woken by a close from here on.
        let closed = self.closed.notified();
        if !self.is_closed() {
            closed.await;
        }
    }

    /// Completes when no hold is left. The client is closed.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.holds.lock().count == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Returns whether the current task holds so many of the `limit` slots of the key that fewer
    /// than `wanted` are left.
    pub(crate) fn current_task_blocks(&self, key: KeyHash, limit: u32, wanted: u32) -> bool {
        task::try_id().is_some_and(|task| {
            let holds = self.holds.lock();
            let held = holds.by_task.get(&(task, key));
            held.is_some_and(|held| limit.saturating_sub(*held) < wanted)
        })
    }

    /// Adds a hold of `task` with so many `slots`, or a place in the queue. Returns `None` if the
    /// client is closed.
    pub(super) fn register(
        self: &Arc<Self>,
        key: KeyHash,
        task: Option<task::Id>,
        slots: u32,
    ) -> Option<Registration> {
        let mut holds = self.holds.lock();
        if self.is_closed() {
            return None;
        }
        holds.count += 1;
        holds.add_slots(key, task, slots);
        drop(holds);
        Some(Registration {
            registry: self.clone(),
            key,
            task,
            slots,
        })
    }
}

impl Holds {
    fn add_slots(&mut self, key: KeyHash, task: Option<task::Id>, slots: u32) {
        if let Some(task) = task {
            *self.by_task.entry((task, key)).or_default() += slots;
        }
    }

    fn remove_slots(&mut self, key: KeyHash, task: Option<task::Id>, slots: u32) {
        if let Some(task) = task
            && let Entry::Occupied(mut held) = self.by_task.entry((task, key))
        {
            *held.get_mut() -= slots;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Registration {
    /// Notes that the current task has the slot that the place in the queue was for.
    pub(super) fn set_task(&mut self) {
        self.task = task::try_id();
        let mut holds = self.registry.holds.lock();
        holds.add_slots(self.key, self.task, self.slots);
    }

    /// Notes that the task has given up the slot, which is not free yet.
    pub(super) fn clear_task(&mut self) {
        let task = self.task.take();
        let mut holds = self.registry.holds.lock();
        holds.remove_slots(self.key, task, self.slots);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let registry = &*self.registry;
        let mut holds = registry.holds.lock();
        holds.count -= 1;
        holds.remove_slots(self.key, self.task, self.slots);
        let is_last = holds.count == 0 && registry.is_closed();
        drop(holds);
        if is_last {
            registry.emptied.notify_waiters();
        }
    }
}
