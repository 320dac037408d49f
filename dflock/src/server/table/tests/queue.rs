//! Order of the queue, two-phase acquires, and waiters that leave.

use super::*;

// S08
#[test]
fn an_enqueue_ends_with_its_hold() {
    let mut fixture = TestTable::new();
    // By a wait.
    fixture.enqueue(A, 30);
    let held = token(&fixture.wait(A));
    assert_eq!(fixture.enqueue(A, 30), Reply::Queued);
    assert_eq!(
        fixture.enqueue(A, 30),
        Reply::Error(ErrorStatus::AlreadyEnqueued)
    );
    // The release of another hold does not end it, and neither does the grant.
    fixture.release(held);
    assert_eq!(
        fixture.enqueue(A, 30),
        Reply::Error(ErrorStatus::AlreadyEnqueued)
    );
    let held = token(&fixture.wait(A));
    fixture.release(held);
    // By a release before the wait.
    let Reply::Acquired(grant) = fixture.enqueue(A, 30) else {
        panic!()
    };
    fixture.release(grant.token);
    assert_eq!(fixture.wait(A), refused(ErrorStatus::NotEnqueued));
    // By the expiry of the lease.
    assert!(matches!(fixture.enqueue(A, 1), Reply::Acquired(_)));
    fixture.advance(1);
    let Reply::Acquired(grant) = fixture.enqueue(A, 30) else {
        panic!()
    };
    fixture.release(grant.token);
    // By a wait that timed out.
    let held = fixture.hold(B, 30);
    fixture.enqueue(A, 30);
    let Outcome::Queued(waiter) = fixture.wait(A) else {
        panic!()
    };
    assert_eq!(fixture.cancel_wait(waiter), Reply::Timeout);
    assert_eq!(fixture.wait(A), refused(ErrorStatus::NotEnqueued));
    assert_eq!(fixture.enqueue(A, 30), Reply::Queued);
    fixture.release(held);
    assert_eq!(fixture.granted().last(), Some(&A));
}

// S20
#[test]
fn an_acquire_does_not_overtake_the_queue() {
    let mut fixture = TestTable::new();
    let held = fixture.hold(A, 30);
    let first = fixture.acquire_queued(B, 30);
    fixture.release(held);
    // The slot belongs to B, which has not taken its grant yet.
    assert!(matches!(fixture.acquire(C, 30), Outcome::Queued(_)));
    token(&fixture.take_grant(first));
}

#[test]
fn a_cancelled_wait_leaves_the_queue() {
    let mut fixture = TestTable::new();
    let held = fixture.hold(A, 30);
    let first = fixture.acquire_queued(B, 30);
    fixture.acquire_queued(C, 30);
    assert_eq!(fixture.cancel_wait(first), Reply::Timeout);
    fixture.release(held);
    assert_eq!(fixture.granted(), [C]);
}

#[test]
fn the_queue_is_limited_by_max_waiters() {
    let mut fixture = TestTable::with_config(|config| config.max_waiters = 1);
    fixture.hold(A, 30);
    assert_eq!(fixture.enqueue(B, 30), Reply::Queued);
    assert_eq!(fixture.acquire(C, 30), refused(ErrorStatus::MaxWaiters));
    assert_eq!(
        fixture.enqueue(C, 30),
        Reply::Error(ErrorStatus::MaxWaiters)
    );
}

#[test]
fn a_token_can_be_released_once() {
    let mut fixture = TestTable::new();
    let held = fixture.hold(A, 30);
    assert_eq!(fixture.renew(held, 45), Reply::Renewed(seconds(45).into()));
    assert_eq!(fixture.release(held), Reply::Ok);
    assert_eq!(fixture.release(held), ERROR);
    assert_eq!(fixture.renew(held, 45), ERROR);
}
