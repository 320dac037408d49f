//! What a connection has, and what becomes of it.

use super::*;

#[test]
fn a_connection_may_hold_several_slots_and_another_may_release_them() {
    let mut bench = Bench::new();
    let (first, second) = (token(&bench.acquire_at(A, "pool", 2, 30)), token(&bench.acquire_at(A, "pool", 2, 30)));
    assert_ne!(first, second);
    assert!(matches!(bench.acquire_at(B, "pool", 2, 30), Answer::InLine(_)));
    assert_eq!(bench.release(first), Reply::Ok);
    assert_eq!(bench.promoted(), [B]);
    // the hold belongs to who acquired it, not to who renewed it
    assert!(matches!(bench.renew(second, 30), Reply::Renewed(_)));
    bench.disconnect(B);
    assert!(matches!(bench.renew(second, 30), Reply::Renewed(_)));
}

// S03, S02
#[test]
fn who_gives_up_at_the_grant_gets_it_and_who_goes_gives_it_on() {
    for auto_release in [true, false] {
        let mut bench = Bench::with(|rules| rules.auto_release = auto_release);
        let held = bench.hold(A, 30);
        let late = bench.stand_in_line(B, 30);
        bench.release(held);
        let Reply::Granted(grant) = bench.give_up(late) else { panic!("the grant was lost") };

        let gone = bench.stand_in_line(C, 30);
        bench.release(grant.token);
        bench.disconnect(C);
        assert_eq!(bench.collect(gone), refused(Status::NotEnqueued));
        // nobody was told the token, so the slot is free, with auto-release and without
        bench.hold(A, 30);
    }
}

// S05
#[test]
fn without_auto_release_slots_stay_and_waiters_go() {
    let mut bench = Bench::with(|rules| rules.auto_release = false);
    let held = bench.hold(A, 5);
    bench.stand_in_line(B, 30);
    assert_eq!(bench.table.enqueue(B, key("pool"), semaphore(1), seconds(30), bench.now), Reply::Queued);
    bench.disconnect(A);
    bench.disconnect(B);
    assert!(matches!(bench.renew(held, 5), Reply::Renewed(_)));
    bench.pass(5);
    bench.table.sweep(bench.now);
    assert_eq!(bench.promoted(), []);
    bench.hold(C, 30);
}

// S05
#[test]
fn with_auto_release_everything_goes() {
    let mut bench = Bench::new();
    bench.hold(A, 30);
    // who goes does not hand its slot to itself
    bench.stand_in_line(A, 30);
    bench.stand_in_line(B, 30);
    bench.disconnect(A);
    assert_eq!(bench.promoted(), [B]);
    assert!(!bench.table.holds(A) && bench.table.holds(B));
}

#[test]
fn who_is_at_a_key_holds_it_or_waits_for_it() {
    let mut bench = Bench::new();
    bench.hold(A, 30);
    bench.stand_in_line(B, 30);
    token(&bench.acquire_at(C, "other", 1, 30));
    assert_eq!(bench.table.connections_at(key("pool")), BTreeSet::from([A, B]));
}

// S18, S19
#[test]
fn stats_tell_all_keys_and_whole_times() {
    let mut bench = Bench::new();
    let empty = bench.stats();
    assert_eq!(empty, r#"{"connections":0,"locks":[],"semaphores":[],"idle_locks":[],"idle_semaphores":[]}"#);

    token(&bench.table.acquire(A, key("job"), Capacity::Lock, seconds(30), bench.now));
    token(&bench.acquire_at(A, "pool", 3, 30));
    let idle = token(&bench.acquire_at(A, "idle", 4, 30));
    bench.table.release(Kind::Semaphore, key("idle"), idle, bench.now);
    bench.now += Duration::from_millis(250);
    let Answer::InLine(_) = bench.table.acquire(B, key("job"), Capacity::Lock, seconds(30), bench.now) else { panic!() };
    let stats = bench.stats();
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
