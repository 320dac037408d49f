//! Start and expiry of leases.

use super::*;

// S01, N1
#[test]
fn wait_reports_a_lease_that_expired_before_it() {
    let mut fixture = TestTable::new();
    let held = fixture.hold(A, 30);
    assert_eq!(fixture.enqueue(B, 1), Reply::Queued);
    fixture.release(held);
    fixture.advance(2);
    let next = fixture.hold(C, 30);
    assert_eq!(fixture.wait(B), refused(ErrorStatus::LeaseExpired));
    assert_eq!(fixture.wait(B), refused(ErrorStatus::NotEnqueued));
    assert_eq!(fixture.enqueue(B, 1), Reply::Queued);
    assert!(matches!(fixture.renew(next, 30), Reply::Renewed(_)));
}

// S01
#[test]
fn a_blocked_acquire_never_receives_an_expired_token() {
    let mut fixture = TestTable::new();
    fixture.hold(A, 1);
    let waiter = fixture.acquire_queued(B, 1);
    fixture.advance(1);
    fixture.table.sweep(fixture.now);
    assert_eq!(fixture.granted(), [B]);
    fixture.advance(1);
    assert_eq!(
        fixture.take_grant(waiter),
        refused(ErrorStatus::LeaseExpired)
    );
}

#[test]
fn wait_restarts_the_lease() {
    let mut fixture = TestTable::new();
    let Reply::Acquired(grant) = fixture.enqueue(A, 10) else {
        panic!()
    };
    fixture.advance(9);
    assert_eq!(token(&fixture.wait(A)), grant.token);
    fixture.advance(9);
    assert!(matches!(fixture.renew(grant.token, 10), Reply::Renewed(_)));
    fixture.advance(10);
    assert_eq!(fixture.renew(grant.token, 10), ERROR);
}

// S10
#[test]
fn the_longest_lease_does_not_overflow() {
    let mut fixture = TestTable::new();
    fixture.now = Duration::from_secs(u64::MAX - 10);
    let held = fixture.hold(A, 9_223_372_036);
    assert_eq!(
        fixture.renew(held, 9_223_372_036),
        Reply::Renewed(seconds(9_223_372_036).into())
    );
}

#[test]
fn a_lease_expires_at_its_exact_end() {
    let mut fixture = TestTable::new();
    fixture.hold(A, 2);
    let waiter = fixture.acquire_queued(B, 30);
    fixture.now += Duration::from_millis(1999);
    assert!(matches!(fixture.take_grant(waiter), Outcome::Queued(_)));
    fixture.now += Duration::from_millis(1);
    token(&fixture.take_grant(waiter));
}

#[test]
fn expire_ends_the_leases_of_the_lock_and_the_semaphore() {
    let mut fixture = TestTable::new();
    let held = fixture.hold(A, 30);
    let lock =
        token(
            &fixture
                .table
                .acquire(A, key("pool"), Primitive::Lock, seconds(30), fixture.now),
        );
    fixture.acquire_queued(B, 30);
    assert!(!fixture.table.expire(key("other"), fixture.now));
    assert!(fixture.table.expire(key("pool"), fixture.now));
    assert_eq!(fixture.granted(), [B]);
    assert_eq!(fixture.renew(held, 30), ERROR);
    assert_eq!(
        fixture
            .table
            .renew(Kind::Lock, key("pool"), lock, seconds(30), fixture.now),
        ERROR
    );
    // The slot of the semaphore was granted to the waiter, so there is one lease to expire again.
    assert!(fixture.table.expire(key("pool"), fixture.now));
    assert!(!fixture.table.expire(key("pool"), fixture.now));
}
