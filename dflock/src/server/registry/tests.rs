use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::server::table::{Outcome, TableConfig, TokenGenerator};
use crate::wire::{Grant, Kind, LeaseSeconds, Primitive, Reply};

const MINUTE: Duration = Duration::from_mins(1);

fn registry() -> Arc<Registry> {
    let config = TableConfig {
        max_keys: 1024,
        max_waiters: 0,
        gc_max_idle: MINUTE,
        auto_release: true,
    };
    Registry::new(Table::new(config, TokenGenerator::seeded(1)), 0)
}

fn register(registry: &Arc<Registry>) -> ConnectionGuard {
    registry.register().unwrap().0
}

fn key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

fn acquire(connection: &ConnectionGuard, text: &str) -> Outcome {
    let lease = LeaseSeconds::new(MINUTE).unwrap();
    connection.with_table(|table, connection, now| {
        table.acquire(connection, key(text), Primitive::Lock, lease, now)
    })
}

fn hold(connection: &ConnectionGuard, text: &str) -> Grant {
    match acquire(connection, text) {
        Outcome::Reply(Reply::Granted(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

fn is_notified(connection: &ConnectionGuard) -> bool {
    pin!(connection.notified())
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

#[test]
fn dropping_a_guard_removes_its_holds_waiters_and_connection() {
    let registry = registry();
    let keys: Vec<_> = (0..64).map(|number| format!("key-{number}")).collect();
    let (leaving, next) = (register(&registry), register(&registry));
    for key in &keys {
        hold(&leaving, key);
        assert!(matches!(acquire(&next, key), Outcome::Queued(_)));
    }
    assert!(leaving.has_slots() && !next.has_slots());
    drop(leaving);
    assert!(next.has_slots());
    let owners: Vec<_> = registry
        .stats()
        .locks
        .into_iter()
        .map(|lock| (lock.owner_conn_id, lock.waiters))
        .collect();
    assert_eq!(owners, [(2, 0); 64]);
    drop(next);
    let stats = registry.stats();
    assert_eq!(
        (stats.connections, stats.locks.len(), stats.idle_locks.len()),
        (0, 0, 64)
    );
}

#[test]
fn a_grant_notifies_the_connection_of_the_waiter_only() {
    let registry = registry();
    let (holder, next, other) = (
        register(&registry),
        register(&registry),
        register(&registry),
    );
    let grant = hold(&holder, "job");
    assert!(matches!(acquire(&next, "job"), Outcome::Queued(_)));
    assert!(matches!(acquire(&other, "job"), Outcome::Queued(_)));
    assert!(!is_notified(&next));
    holder.with_table(|table, _, now| table.release(Kind::Lock, key("job"), grant.token, now));
    assert_eq!(
        [&holder, &next, &other].map(is_notified),
        [false, true, false]
    );
    registry.notify_all();
    assert_eq!([&holder, &next, &other].map(is_notified), [true; 3]);
}

#[test]
fn close_reaches_the_holders_and_waiters_of_a_key() {
    let registry = registry();
    let [
        (holder, mut holder_closed),
        (waiter, mut waiter_closed),
        (other, mut other_closed),
    ] = [(); 3].map(|()| registry.register().unwrap());
    hold(&holder, "job");
    assert!(matches!(acquire(&waiter, "job"), Outcome::Queued(_)));
    hold(&other, "other");
    registry.close(key("job"));
    assert!(holder_closed.try_recv().is_ok() && waiter_closed.try_recv().is_ok());
    assert!(other_closed.try_recv().is_err());
    assert_eq!(registry.stats().connections, 1);
    registry.close_all();
    assert!(other_closed.try_recv().is_ok());
    assert_eq!(registry.stats().connections, 0);
}

#[test]
fn stats_are_sorted_by_key() {
    let registry = registry();
    let connection = register(&registry);
    let mut keys: Vec<_> = (0..64).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        hold(&connection, key);
    }
    keys.sort();
    let sorted: Vec<_> = registry
        .stats()
        .locks
        .into_iter()
        .map(|lock| lock.key)
        .collect();
    assert_eq!(sorted, keys);
}
