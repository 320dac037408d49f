//! What each operation answers, one behaviour a test.

mod connections;
mod keys;
mod leases;
mod line;

use std::time::Duration;

use super::*;
use crate::stats::Stats;
use crate::wire::Limit;

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const C: ConnectionId = ConnectionId(3);
const ERROR: Reply = Reply::Refused(Status::Error);

/// A table with a clock that the test turns, and one key.
struct Bench {
    table: Table,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules { max_keys: 1024, max_waiters: 0, gc_max_idle: Duration::from_mins(1), auto_release: true };
        change(&mut rules);
        Self { table: Table::new(rules, Mint::seeded(1)), now: Duration::ZERO }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn acquire_at(&mut self, by: ConnectionId, text: &str, limit: u32, lease: u64) -> Answer {
        self.table.acquire(by, key(text), semaphore(limit), seconds(lease), self.now)
    }

    fn acquire(&mut self, by: ConnectionId, lease: u64) -> Answer {
        self.acquire_at(by, "pool", 1, lease)
    }

    fn hold(&mut self, by: ConnectionId, lease: u64) -> Token {
        token(&self.acquire(by, lease))
    }

    fn stand_in_line(&mut self, by: ConnectionId, lease: u64) -> WaiterId {
        match self.acquire(by, lease) {
            Answer::InLine(waiter) => waiter,
            answer @ Answer::Now(_) => panic!("{answer:?}"),
        }
    }

    fn enqueue(&mut self, by: ConnectionId, lease: u64) -> Reply {
        self.table.enqueue(by, key("pool"), semaphore(1), seconds(lease), self.now)
    }

    fn wait(&mut self, by: ConnectionId) -> Answer {
        self.table.wait(by, Kind::Semaphore, key("pool"), self.now)
    }

    fn collect(&mut self, waiter: WaiterId) -> Answer {
        self.table.collect(waiter, self.now)
    }

    fn give_up(&mut self, waiter: WaiterId) -> Reply {
        self.table.give_up(waiter, Reply::Timeout, self.now)
    }

    fn release(&mut self, token: Token) -> Reply {
        self.table.release(Kind::Semaphore, key("pool"), token, self.now)
    }

    fn renew(&mut self, token: Token, lease: u64) -> Reply {
        self.table.renew(Kind::Semaphore, key("pool"), token, seconds(lease), self.now)
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        self.table.disconnect(connection, self.now);
    }

    fn stats(&mut self) -> String {
        let mut stats = Stats::default();
        self.table.report(&mut stats, self.now);
        serde_json::to_string(&stats).unwrap()
    }

    fn promoted(&mut self) -> Vec<ConnectionId> {
        self.table.promotions().map(|promotion| promotion.connection).collect()
    }
}

fn key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

fn seconds(lease: u64) -> LeaseSeconds {
    LeaseSeconds::new(Duration::from_secs(lease)).unwrap()
}

fn semaphore(limit: u32) -> Capacity {
    Capacity::Semaphore(Limit::new(limit).unwrap())
}

fn token(answer: &Answer) -> Token {
    match answer {
        Answer::Now(Reply::Granted(grant)) => grant.token,
        other => panic!("{other:?}"),
    }
}

fn refused(status: Status) -> Answer {
    Answer::Now(Reply::Refused(status))
}
