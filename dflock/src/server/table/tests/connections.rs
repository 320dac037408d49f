//! Holds and waiters of a connection, disconnects and statistics.

use super::*;

#[test]
fn any_connection_may_release_or_renew_a_hold() {
    let mut fixture = TestTable::new();
    let (first, second) = (
        token(&fixture.acquire_key(A, "pool", 2, 30)),
        token(&fixture.acquire_key(A, "pool", 2, 30)),
    );
    assert_ne!(first, second);
    assert!(matches!(
        fixture.acquire_key(B, "pool", 2, 30),
        Outcome::Queued(_)
    ));
    assert_eq!(fixture.release(first), Reply::Ok);
    assert_eq!(fixture.granted(), [B]);
    // The hold belongs to the connection that acquired it, not to the one that renewed it.
    assert!(matches!(fixture.renew(second, 30), Reply::Renewed(_)));
    fixture.disconnect(B);
    assert!(matches!(fixture.renew(second, 30), Reply::Renewed(_)));
}

// S03, S02
#[test]
fn a_grant_that_was_not_taken_is_not_lost() {
    for auto_release in [true, false] {
        let mut fixture = TestTable::with_config(|config| config.auto_release = auto_release);
        let held = fixture.hold(A, 30);
        let late = fixture.acquire_queued(B, 30);
        fixture.release(held);
        let Reply::Granted(grant) = fixture.cancel_wait(late) else {
            panic!("the grant was lost")
        };

        let gone = fixture.acquire_queued(C, 30);
        fixture.release(grant.token);
        fixture.disconnect(C);
        assert_eq!(fixture.take_grant(gone), refused(ErrorStatus::NotEnqueued));
        // No client received the token, so the slot is free, with and without auto-release.
        fixture.hold(A, 30);
    }
}

// S05
#[test]
fn without_auto_release_a_disconnect_removes_only_waiters() {
    let mut fixture = TestTable::with_config(|config| config.auto_release = false);
    let held = fixture.hold(A, 5);
    fixture.acquire_queued(B, 30);
    assert_eq!(
        fixture
            .table
            .enqueue(B, key("pool"), semaphore(1), seconds(30), fixture.now),
        Reply::Queued
    );
    fixture.disconnect(A);
    fixture.disconnect(B);
    assert!(matches!(fixture.renew(held, 5), Reply::Renewed(_)));
    fixture.advance(5);
    fixture.table.sweep(fixture.now);
    assert_eq!(fixture.granted(), []);
    fixture.hold(C, 30);
}

// S05
#[test]
fn with_auto_release_a_disconnect_removes_holds_and_waiters() {
    let mut fixture = TestTable::new();
    fixture.hold(A, 30);
    // The slot is not granted to a waiter of the same connection.
    fixture.acquire_queued(A, 30);
    fixture.acquire_queued(B, 30);
    fixture.disconnect(A);
    assert_eq!(fixture.granted(), [B]);
    assert!(!fixture.table.has_slots(A) && fixture.table.has_slots(B));
}

#[test]
fn connections_of_a_key_hold_it_or_are_queued() {
    let mut fixture = TestTable::new();
    fixture.hold(A, 30);
    fixture.acquire_queued(B, 30);
    token(&fixture.acquire_key(C, "other", 1, 30));
    assert_eq!(
        fixture.table.connections_of(key("pool")),
        BTreeSet::from([A, B])
    );
}

// S18, S19
#[test]
fn stats_list_all_keys_with_fractional_seconds() {
    let mut fixture = TestTable::new();
    let empty = fixture.stats();
    assert_eq!(
        empty,
        r#"{"connections":0,"locks":[],"semaphores":[],"idle_locks":[],"idle_semaphores":[]}"#
    );

    token(
        &fixture
            .table
            .acquire(A, key("job"), Primitive::Lock, seconds(30), fixture.now),
    );
    token(&fixture.acquire_key(A, "pool", 3, 30));
    let idle = token(&fixture.acquire_key(A, "idle", 4, 30));
    fixture
        .table
        .release(Kind::Semaphore, key("idle"), idle, fixture.now);
    fixture.now += Duration::from_millis(250);
    let Outcome::Queued(_) =
        fixture
            .table
            .acquire(B, key("job"), Primitive::Lock, seconds(30), fixture.now)
    else {
        panic!()
    };
    let stats = fixture.stats();
    assert_eq!(
        stats,
        concat!(
            r#"{"connections":0,"#,
            r#""locks":[{"key":"job","owner_conn_id":1,"lease_expires_in_s":29.75,"waiters":1}],"#,
            r#""semaphores":[{"key":"pool","limit":3,"holders":1,"waiters":0}],"#,
            r#""idle_locks":[],"#,
            r#""idle_semaphores":[{"key":"idle","idle_s":0.25}]}"#
        )
    );
}
