//! One acquire and one release, for the microbenchmarks.

use std::time::Duration;

use super::{ConnectionId, Outcome, Table, TableConfig, TokenGenerator};
use crate::wire::{Key, Kind, LeaseSeconds, Limit, Primitive, Reply};

/// Benchmark fixture: a table and the parameters of its requests.
#[derive(Debug)]
pub struct AcquireRelease {
    table: Table,
    primitive: Primitive,
    lease: LeaseSeconds,
    now: Duration,
}

impl AcquireRelease {
    /// Creates a table in which `held` other keys are held.
    pub fn new(held: u64) -> Self {
        let config = TableConfig {
            max_keys: usize::MAX,
            max_waiters: 0,
            gc_max_idle: Duration::from_mins(1),
            auto_release: true,
        };
        let primitive = Primitive::Semaphore(Limit::new(5).expect("the limit is not zero"));
        let lease = LeaseSeconds::new(Duration::from_secs(33)).expect("the lease is whole seconds");
        let table = Table::new(config, TokenGenerator::seeded(1));
        let mut fixture = Self {
            table,
            primitive,
            lease,
            now: Duration::ZERO,
        };
        for index in 0..held {
            let outcome = fixture.acquire(&format!("key-{index}"), ConnectionId(index));
            assert!(
                matches!(outcome, Outcome::Reply(Reply::Granted(_))),
                "{outcome:?}"
            );
        }
        fixture
    }

    /// Acquires and releases a slot of a free key.
    pub fn run(&mut self) {
        let key = "worker-pool";
        let outcome = self.acquire(key, ConnectionId(u64::MAX));
        let Outcome::Reply(Reply::Granted(grant)) = outcome else {
            panic!("{outcome:?}")
        };
        let key = Key::new(key).expect("the key is one word");
        assert_eq!(
            self.table
                .release(Kind::Semaphore, key, grant.token, self.now),
            Reply::Ok
        );
    }

    fn acquire(&mut self, key: &str, connection: ConnectionId) -> Outcome {
        self.table.acquire(
            connection,
            Key::new(key).expect("the key is one word"),
            self.primitive,
            self.lease,
            self.now,
        )
    }
}
