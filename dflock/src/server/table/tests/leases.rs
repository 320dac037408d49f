//! When leases begin and end.

use super::*;

// S01, N1
#[test]
fn a_lease_that_ended_before_the_wait_is_told_as_such() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    assert_eq!(bench.enqueue(B, 1), Reply::Queued);
    bench.release(held);
    bench.pass(2);
    let next = bench.hold(C, 30);
    assert_eq!(bench.wait(B), refused(Status::LeaseExpired));
    assert_eq!(bench.wait(B), refused(Status::NotEnqueued));
    assert_eq!(bench.enqueue(B, 1), Reply::Queued);
    assert!(matches!(bench.renew(next, 30), Reply::Renewed(_)));
}

// S01
#[test]
fn a_blocked_acquire_is_never_told_a_dead_token() {
    let mut bench = Bench::new();
    bench.hold(A, 1);
    let waiter = bench.stand_in_line(B, 1);
    bench.pass(1);
    bench.table.sweep(bench.now);
    assert_eq!(bench.promoted(), [B]);
    bench.pass(1);
    assert_eq!(bench.collect(waiter), refused(Status::LeaseExpired));
}

#[test]
fn a_wait_restarts_the_lease() {
    let mut bench = Bench::new();
    let Reply::Acquired(grant) = bench.enqueue(A, 10) else { panic!() };
    bench.pass(9);
    assert_eq!(token(&bench.wait(A)), grant.token);
    bench.pass(9);
    assert!(matches!(bench.renew(grant.token, 10), Reply::Renewed(_)));
    bench.pass(10);
    assert_eq!(bench.renew(grant.token, 10), ERROR);
}

// S10
#[test]
fn the_longest_lease_does_not_overflow() {
    let mut bench = Bench::new();
    bench.now = Duration::from_secs(u64::MAX - 10);
    let held = bench.hold(A, 9_223_372_036);
    assert_eq!(bench.renew(held, 9_223_372_036), Reply::Renewed(seconds(9_223_372_036).into()));
}

#[test]
fn leases_end_at_their_second_and_in_their_order() {
    let mut bench = Bench::new();
    bench.hold(A, 2);
    let waiter = bench.stand_in_line(B, 30);
    bench.now += Duration::from_millis(1999);
    assert!(matches!(bench.collect(waiter), Answer::InLine(_)));
    bench.now += Duration::from_millis(1);
    token(&bench.collect(waiter));
}

#[test]
fn expire_ends_the_lock_and_the_semaphore() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    let lock = token(&bench.table.acquire(A, key("pool"), Capacity::Lock, seconds(30), bench.now));
    bench.stand_in_line(B, 30);
    bench.table.expire(key("pool"), bench.now);
    assert_eq!(bench.promoted(), [B]);
    assert_eq!(bench.renew(held, 30), ERROR);
    assert_eq!(bench.table.renew(Kind::Lock, key("pool"), lock, seconds(30), bench.now), ERROR);
}
