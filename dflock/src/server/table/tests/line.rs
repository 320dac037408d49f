//! Who comes next.

use super::*;

// S08
#[test]
fn the_state_of_an_enqueue_ends_with_its_hold() {
    let mut bench = Bench::new();
    // by a wait
    bench.enqueue(A, 30);
    let held = token(&bench.wait(A));
    assert_eq!(bench.enqueue(A, 30), Reply::Queued);
    assert_eq!(bench.enqueue(A, 30), Reply::Refused(Status::AlreadyEnqueued));
    // the release of another hold leaves it; the promotion, too
    bench.release(held);
    assert_eq!(bench.enqueue(A, 30), Reply::Refused(Status::AlreadyEnqueued));
    let held = token(&bench.wait(A));
    bench.release(held);
    // by a release before the wait
    let Reply::Acquired(grant) = bench.enqueue(A, 30) else { panic!() };
    bench.release(grant.token);
    assert_eq!(bench.wait(A), refused(Status::NotEnqueued));
    // by the end of the lease
    assert!(matches!(bench.enqueue(A, 1), Reply::Acquired(_)));
    bench.pass(1);
    let Reply::Acquired(grant) = bench.enqueue(A, 30) else { panic!() };
    bench.release(grant.token);
    // by a time-out
    let held = bench.hold(B, 30);
    bench.enqueue(A, 30);
    let Answer::InLine(waiter) = bench.wait(A) else { panic!() };
    assert_eq!(bench.give_up(waiter), Reply::Timeout);
    assert_eq!(bench.wait(A), refused(Status::NotEnqueued));
    assert_eq!(bench.enqueue(A, 30), Reply::Queued);
    bench.release(held);
    assert_eq!(bench.promoted().last(), Some(&A));
}

// S20
#[test]
fn nobody_overtakes_the_line() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    let first = bench.stand_in_line(B, 30);
    bench.release(held);
    // the slot is B's, although B has not heard of it
    assert!(matches!(bench.acquire(C, 30), Answer::InLine(_)));
    token(&bench.collect(first));
}

#[test]
fn who_gives_up_leaves_the_line() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    let first = bench.stand_in_line(B, 30);
    bench.stand_in_line(C, 30);
    assert_eq!(bench.give_up(first), Reply::Timeout);
    bench.release(held);
    assert_eq!(bench.promoted(), [C]);
}

#[test]
fn a_line_is_as_long_as_allowed() {
    let mut bench = Bench::with(|rules| rules.max_waiters = 1);
    bench.hold(A, 30);
    assert_eq!(bench.enqueue(B, 30), Reply::Queued);
    assert_eq!(bench.acquire(C, 30), refused(Status::MaxWaiters));
    assert_eq!(bench.enqueue(C, 30), Reply::Refused(Status::MaxWaiters));
}

#[test]
fn a_token_is_good_for_one_release() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    assert_eq!(bench.renew(held, 45), Reply::Renewed(seconds(45).into()));
    assert_eq!(bench.release(held), Reply::Ok);
    assert_eq!(bench.release(held), ERROR);
    assert_eq!(bench.renew(held, 45), ERROR);
}
