//! The queues of waiters in this process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use tokio::sync::Semaphore;

use crate::engine::SlotSpec;
use crate::mutex::Mutex;
use crate::wire::Kind;

/// The waiters of one key in this process. A permit is a place in the queue of the server.
pub(crate) type LocalQueue = Semaphore;

/// The local queues of one client. A queue lives as long as a semaphore that uses it.
#[derive(Debug, Default)]
pub(crate) struct LocalQueues(Mutex<HashMap<Key, Weak<LocalQueue>>>);

type Key = (Kind, Arc<str>);

impl LocalQueues {
    /// Returns the queue of the kind and key of `slot`. A new queue has so many `places`.
    pub(crate) fn get(&self, slot: &SlotSpec, places: NonZeroU32) -> Arc<LocalQueue> {
        let key = (slot.kind(), slot.key.as_shared().clone());
        let mut queues = self.0.lock();
        if let Some(queue) = queues.get(&key).and_then(Weak::upgrade) {
            return queue;
        }
        if queues.len() == queues.capacity() {
            // Before the map would grow: programs may build keys from their input.
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let places = usize::try_from(places.get()).unwrap_or(usize::MAX);
        let queue = Arc::new(LocalQueue::new(places.min(LocalQueue::MAX_PERMITS)));
        queues.insert(key, Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ServerId;
    use crate::wire::{KeyBuf, Primitive};

    fn slot(key: &str) -> SlotSpec {
        SlotSpec {
            key: KeyBuf::new(key).unwrap(),
            primitive: Primitive::Lock,
            lease: None,
            server: ServerId {
                index: 0,
                name: "server".into(),
            },
        }
    }

    #[test]
    fn queues_without_a_user_are_forgotten() {
        let queues = LocalQueues::default();
        let places = NonZeroU32::new(2).unwrap();
        let used = queues.get(&slot("used"), places);
        for n in 0..10_000 {
            queues.get(&slot(&n.to_string()), places);
        }
        assert!(queues.0.lock().capacity() < 100);
        assert!(Arc::ptr_eq(&used, &queues.get(&slot("used"), places)));
    }
}
