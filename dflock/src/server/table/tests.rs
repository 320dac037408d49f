//! Unit tests of the table, one behaviour a test.

mod connections;
mod keys;
mod leases;
mod queue;

use std::time::Duration;

use super::*;
use crate::wire::Limit;

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const C: ConnectionId = ConnectionId(3);
const ERROR: Reply = Reply::Error(ErrorStatus::Unspecified);

/// Test fixture: a table, and a clock that the test advances.
struct TestTable {
    table: Table,
    now: Duration,
}

impl TestTable {
    fn new() -> Self {
        Self::with_config(|_| {})
    }

    fn with_config(change: impl FnOnce(&mut TableConfig)) -> Self {
        let mut config = TableConfig {
            max_keys: 1024,
            max_waiters: 0,
            gc_max_idle: Duration::from_mins(1),
            auto_release: true,
        };
        change(&mut config);
        Self {
            table: Table::new(config, TokenGenerator::seeded(1)),
            now: Duration::ZERO,
        }
    }

    fn advance(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn acquire_key(
        &mut self,
        connection: ConnectionId,
        text: &str,
        limit: u32,
        lease: u64,
    ) -> Outcome {
        self.table.acquire(
            connection,
            key(text),
            semaphore(limit),
            seconds(lease),
            self.now,
        )
    }

    fn acquire(&mut self, connection: ConnectionId, lease: u64) -> Outcome {
        self.acquire_key(connection, "pool", 1, lease)
    }

    fn hold(&mut self, connection: ConnectionId, lease: u64) -> Token {
        token(&self.acquire(connection, lease))
    }

    fn acquire_queued(&mut self, connection: ConnectionId, lease: u64) -> WaiterId {
        match self.acquire(connection, lease) {
            Outcome::Queued(waiter) => waiter,
            outcome @ Outcome::Reply(_) => panic!("{outcome:?}"),
        }
    }

    fn enqueue(&mut self, connection: ConnectionId, lease: u64) -> Reply {
        self.table.enqueue(
            connection,
            key("pool"),
            semaphore(1),
            seconds(lease),
            self.now,
        )
    }

    fn wait(&mut self, connection: ConnectionId) -> Outcome {
        self.table
            .wait(connection, Kind::Semaphore, key("pool"), self.now)
    }

    fn take_grant(&mut self, waiter: WaiterId) -> Outcome {
        self.table.take_grant(waiter, self.now)
    }

    fn cancel_wait(&mut self, waiter: WaiterId) -> Reply {
        self.table.cancel_wait(waiter, Reply::Timeout, self.now)
    }

    fn release(&mut self, token: Token) -> Reply {
        self.table
            .release(Kind::Semaphore, key("pool"), token, self.now)
    }

    fn renew(&mut self, token: Token, lease: u64) -> Reply {
        self.table.renew(
            Kind::Semaphore,
            key("pool"),
            token,
            seconds(lease),
            self.now,
        )
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        self.table.disconnect(connection, self.now);
    }

    fn stats(&mut self) -> String {
        serde_json::to_string(&self.table.stats(self.now)).unwrap()
    }

    fn granted(&mut self) -> Vec<ConnectionId> {
        self.table
            .take_granted()
            .map(|granted| granted.connection)
            .collect()
    }
}

fn key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

fn seconds(lease: u64) -> LeaseSeconds {
    LeaseSeconds::new(Duration::from_secs(lease)).unwrap()
}

fn semaphore(limit: u32) -> Primitive {
    Primitive::Semaphore(Limit::new(limit).unwrap())
}

fn token(outcome: &Outcome) -> Token {
    match outcome {
        Outcome::Reply(Reply::Granted(grant)) => grant.token,
        other => panic!("{other:?}"),
    }
}

fn refused(status: ErrorStatus) -> Outcome {
    Outcome::Reply(Reply::Error(status))
}
