//! Lifetime of keys, their maximum number, and their limits.

use super::*;

// S06
#[test]
fn max_keys_is_never_exceeded() {
    let mut fixture = TestTable::with_config(|config| config.max_keys = 2);
    token(&fixture.acquire_key(A, "k1", 1, 30));
    token(&fixture.acquire_key(A, "k2", 1, 30));
    assert_eq!(
        fixture.acquire_key(A, "k3", 1, 30),
        refused(ErrorStatus::MaxLocks)
    );
    let lock = fixture
        .table
        .enqueue(A, key("k1"), Primitive::Lock, seconds(30), fixture.now);
    assert_eq!(lock, Reply::Error(ErrorStatus::MaxLocks));
    // An existing key is not refused.
    assert!(matches!(
        fixture.acquire_key(B, "k1", 1, 30),
        Outcome::Queued(_)
    ));
}

// S09
#[test]
fn invalid_tokens_neither_create_nor_keep_keys() {
    let mut fixture = TestTable::with_config(|config| config.max_keys = 1);
    let bogus = Token::new(1, 1);
    assert_eq!(fixture.release(bogus), ERROR);
    assert_eq!(fixture.table.keys.len(), 0);
    let held = fixture.hold(A, 30);
    fixture.release(held);
    for _ in 0..60 {
        fixture.advance(1);
        assert_eq!(fixture.renew(bogus, 30), ERROR);
        assert_eq!(fixture.release(bogus), ERROR);
        assert_eq!(fixture.wait(A), refused(ErrorStatus::NotEnqueued));
        assert_eq!(
            fixture.acquire_key(A, "pool", 2, 30),
            refused(ErrorStatus::LimitMismatch)
        );
    }
    fixture.table.gc(fixture.now);
    assert_eq!(fixture.table.keys.len(), 0);
}

// S09
#[test]
fn a_full_table_removes_idle_keys_before_it_refuses() {
    let mut fixture = TestTable::with_config(|config| config.max_keys = 1);
    let held = fixture.hold(A, 30);
    fixture.release(held);
    fixture.advance(59);
    assert_eq!(
        fixture.acquire_key(A, "other", 1, 30),
        refused(ErrorStatus::MaxLocks)
    );
    fixture.advance(1);
    let held = token(&fixture.acquire_key(A, "other", 1, 30));
    fixture
        .table
        .release(Kind::Semaphore, key("other"), held, fixture.now);
    fixture.advance(60);
    assert!(matches!(fixture.enqueue(A, 30), Reply::Acquired(_)));
}

// S08, S09
#[test]
fn gc_removes_an_expired_enqueue_with_its_key() {
    let mut fixture = TestTable::new();
    assert!(matches!(fixture.enqueue(A, 1), Reply::Acquired(_)));
    fixture.advance(1);
    fixture.table.sweep(fixture.now);
    fixture.advance(60);
    fixture.table.gc(fixture.now);
    assert!(
        fixture.table.keys.len() == 0
            && fixture.table.waiters.is_empty()
            && fixture.table.connections.is_empty()
    );
    assert_eq!(fixture.wait(A), refused(ErrorStatus::NotEnqueued));
}

// S17
#[test]
fn locks_and_semaphores_have_separate_names() {
    let mut fixture = TestTable::new();
    let held = fixture.hold(A, 30);
    let lock = fixture
        .table
        .acquire(B, key("pool"), Primitive::Lock, seconds(30), fixture.now);
    let lock = token(&lock);
    assert_eq!(
        fixture
            .table
            .release(Kind::Lock, key("pool"), held, fixture.now),
        ERROR
    );
    assert_eq!(fixture.release(lock), ERROR);
    assert_eq!(
        fixture
            .table
            .release(Kind::Lock, key("pool"), lock, fixture.now),
        Reply::Ok
    );
}

#[test]
fn the_limit_cannot_change_until_the_key_is_removed() {
    let mut fixture = TestTable::new();
    let held = fixture.hold(A, 30);
    assert_eq!(
        fixture.acquire_key(B, "pool", 3, 30),
        refused(ErrorStatus::LimitMismatch)
    );
    fixture.release(held);
    fixture.advance(59);
    fixture.table.gc(fixture.now);
    assert_eq!(
        fixture.acquire_key(B, "pool", 3, 30),
        refused(ErrorStatus::LimitMismatch)
    );
    fixture.advance(1);
    fixture.table.gc(fixture.now);
    token(&fixture.acquire_key(B, "pool", 3, 30));
}
