//! What the tables of a server count together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::WaiterId;

/// How many keys there are and how many waiters there were, in all tables of a server.
///
/// Nothing is read because of these numbers, so each needs to be right by itself only.
#[derive(Debug, Default)]
pub(super) struct Census {
    keys: AtomicUsize,
    waiters: AtomicU64,
}

impl Census {
    /// Counts one key more, unless there are `most`. It is counted before it is made, so there are never more.
    pub(super) fn add_key(&self, most: usize) -> bool {
        let more = |keys| (keys < most).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts a key that is forgotten.
    pub(super) fn remove_key(&self) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of the next waiter. It is asked for behind the lock of its key, so that the numbers of a line grow.
    pub(super) fn next_waiter(&self) -> WaiterId {
        WaiterId(self.waiters.fetch_add(1, Ordering::Relaxed) + 1)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn keys_are_counted_up_to_the_most_whoever_adds_them() {
        let census = Census::default();
        let added = || (0..1000).filter(|_| census.add_key(1500)).count();
        let counts = thread::scope(|scope| [scope.spawn(added), scope.spawn(added)].map(|thread| thread.join().unwrap()));
        assert_eq!((counts.iter().sum(), census.keys()), (1500, 1500));
        census.remove_key();
        assert_eq!([census.add_key(1500), census.add_key(1500)], [true, false]);
    }
}
