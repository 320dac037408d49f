//! One acquire and one release, for the microbenchmarks.

use std::time::Duration;

use super::{Answer, ConnectionId, Mint, Rules, Table};
use crate::wire::{Capacity, Key, Kind, LeaseSeconds, Limit, Reply};

/// A table, and what is asked of it.
#[derive(Debug)]
pub struct Cycle {
    table: Table,
    capacity: Capacity,
    lease: LeaseSeconds,
    now: Duration,
}

impl Cycle {
    /// A table in which `held` other keys are held.
    pub fn new(held: u64) -> Self {
        let rules = Rules { max_keys: usize::MAX, max_waiters: 0, gc_max_idle: Duration::from_mins(1), auto_release: true };
        let capacity = Capacity::Semaphore(Limit::new(5).expect("it is not zero"));
        let lease = LeaseSeconds::new(Duration::from_secs(33)).expect("it is whole seconds");
        let mut cycle = Self { table: Table::new(rules, Mint::seeded(1)), capacity, lease, now: Duration::ZERO };
        for index in 0..held {
            let reply = cycle.acquire(&format!("key-{index}"), ConnectionId(index));
            assert!(matches!(reply, Answer::Now(Reply::Granted(_))), "{reply:?}");
        }
        cycle
    }

    /// A slot of a key that is free is acquired and released.
    pub fn run(&mut self) {
        let key = "worker-pool";
        let reply = self.acquire(key, ConnectionId(u64::MAX));
        let Answer::Now(Reply::Granted(grant)) = reply else { panic!("{reply:?}") };
        let key = Key::new(key).expect("it is one word");
        assert_eq!(self.table.release(Kind::Semaphore, key, grant.token, self.now), Reply::Ok);
    }

    fn acquire(&mut self, key: &str, by: ConnectionId) -> Answer {
        self.table.acquire(by, Key::new(key).expect("it is one word"), self.capacity, self.lease, self.now)
    }
}
