//! Which keys there are, and for how long.

use super::*;

// S06
#[test]
fn there_are_never_more_keys_than_allowed() {
    let mut bench = Bench::with(|rules| rules.max_keys = 2);
    token(&bench.acquire_at(A, "k1", 1, 30));
    token(&bench.acquire_at(A, "k2", 1, 30));
    assert_eq!(bench.acquire_at(A, "k3", 1, 30), refused(Status::MaxLocks));
    let lock = bench.table.enqueue(A, key("k1"), Capacity::Lock, seconds(30), bench.now);
    assert_eq!(lock, Reply::Refused(Status::MaxLocks));
    // keys that are there are not refused
    assert!(matches!(bench.acquire_at(B, "k1", 1, 30), Answer::InLine(_)));
}

// S09
#[test]
fn bogus_tokens_neither_make_keys_nor_keep_them() {
    let mut bench = Bench::with(|rules| rules.max_keys = 1);
    let bogus = Token::new(1, 1);
    assert_eq!(bench.release(bogus), ERROR);
    assert_eq!(bench.table.keys.len(), 0);
    let held = bench.hold(A, 30);
    bench.release(held);
    for _ in 0..60 {
        bench.pass(1);
        assert_eq!(bench.renew(bogus, 30), ERROR);
        assert_eq!(bench.release(bogus), ERROR);
        assert_eq!(bench.wait(A), refused(Status::NotEnqueued));
        assert_eq!(bench.acquire_at(A, "pool", 2, 30), refused(Status::LimitMismatch));
    }
    bench.table.gc(bench.now);
    assert_eq!(bench.table.keys.len(), 0);
}

// S09
#[test]
fn a_full_table_forgets_old_keys_before_it_refuses() {
    let mut bench = Bench::with(|rules| rules.max_keys = 1);
    let held = bench.hold(A, 30);
    bench.release(held);
    bench.pass(59);
    assert_eq!(bench.acquire_at(A, "other", 1, 30), refused(Status::MaxLocks));
    bench.pass(1);
    token(&bench.acquire_at(A, "other", 1, 30));
}

// S08, S09
#[test]
fn an_enqueue_that_nobody_came_back_for_is_forgotten_with_its_key() {
    let mut bench = Bench::new();
    assert!(matches!(bench.enqueue(A, 1), Reply::Acquired(_)));
    bench.pass(1);
    bench.table.sweep(bench.now);
    bench.pass(60);
    bench.table.gc(bench.now);
    assert!(bench.table.keys.len() == 0 && bench.table.waiters.is_empty() && bench.table.connections.is_empty());
    assert_eq!(bench.wait(A), refused(Status::NotEnqueued));
}

// S17
#[test]
fn a_lock_and_a_semaphore_have_separate_names() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    let lock = bench.table.acquire(B, key("pool"), Capacity::Lock, seconds(30), bench.now);
    let lock = token(&lock);
    assert_eq!(bench.table.release(Kind::Lock, key("pool"), held, bench.now), ERROR);
    assert_eq!(bench.release(lock), ERROR);
    assert_eq!(bench.table.release(Kind::Lock, key("pool"), lock, bench.now), Reply::Ok);
}

#[test]
fn the_limit_is_remembered_until_the_key_has_been_idle_for_long() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    assert_eq!(bench.acquire_at(B, "pool", 3, 30), refused(Status::LimitMismatch));
    bench.release(held);
    bench.pass(59);
    bench.table.gc(bench.now);
    assert_eq!(bench.acquire_at(B, "pool", 3, 30), refused(Status::LimitMismatch));
    bench.pass(1);
    bench.table.gc(bench.now);
    token(&bench.acquire_at(B, "pool", 3, 30));
}
