//! What each operation answers, one behaviour a test.

use std::time::Duration;

use super::*;

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

#[test]
fn a_token_is_good_for_one_release() {
    let mut bench = Bench::new();
    let held = bench.hold(A, 30);
    assert_eq!(bench.renew(held, 45), Reply::Renewed(seconds(45).into()));
    assert_eq!(bench.release(held), Reply::Ok);
    assert_eq!(bench.release(held), ERROR);
    assert_eq!(bench.renew(held, 45), ERROR);
}

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

// S09
#[test]
fn bogus_tokens_neither_make_keys_nor_keep_them() {
    let mut bench = Bench::with(|rules| rules.max_keys = 1);
    let bogus = Token::new(1, 1);
    assert_eq!(bench.release(bogus), ERROR);
    assert!(bench.table.keys.is_empty());
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
    assert!(bench.table.keys.is_empty());
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
    assert!(bench.table.keys.is_empty() && bench.table.waiters.is_empty() && bench.table.connections.is_empty());
    assert_eq!(bench.wait(A), refused(Status::NotEnqueued));
}

// S10
#[test]
fn the_longest_lease_does_not_overflow() {
    let mut bench = Bench::new();
    bench.now = Duration::from_secs(u64::MAX - 10);
    let held = bench.hold(A, 9_223_372_036);
    assert_eq!(bench.renew(held, 9_223_372_036), Reply::Renewed(seconds(9_223_372_036).into()));
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

// S18, S19
#[test]
fn stats_tell_all_keys_and_whole_times() {
    let mut bench = Bench::new();
    let empty = serde_json::to_string(&bench.table.stats(0, bench.now)).unwrap();
    assert_eq!(empty, r#"{"connections":0,"locks":[],"semaphores":[],"idle_locks":[],"idle_semaphores":[]}"#);

    token(&bench.table.acquire(A, key("job"), Capacity::Lock, seconds(30), bench.now));
    token(&bench.acquire_at(A, "pool", 3, 30));
    let idle = token(&bench.acquire_at(A, "idle", 4, 30));
    bench.table.release(Kind::Semaphore, key("idle"), idle, bench.now);
    bench.now += Duration::from_millis(250);
    let Answer::InLine(_) = bench.table.acquire(B, key("job"), Capacity::Lock, seconds(30), bench.now) else { panic!() };
    let stats = serde_json::to_string(&bench.table.stats(2, bench.now)).unwrap();
    assert_eq!(
        stats,
        concat!(
            r#"{"connections":2,"#,
            r#""locks":[{"key":"job","owner_conn_id":1,"lease_expires_in_s":29.75,"waiters":1}],"#,
            r#""semaphores":[{"key":"pool","limit":3,"holders":1,"waiters":0}],"#,
            r#""idle_locks":[],"#,
            r#""idle_semaphores":[{"key":"idle","idle_s":0.25}]}"#
        )
    );
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

#[test]
fn a_line_is_as_long_as_allowed() {
    let mut bench = Bench::with(|rules| rules.max_waiters = 1);
    bench.hold(A, 30);
    assert_eq!(bench.enqueue(B, 30), Reply::Queued);
    assert_eq!(bench.acquire(C, 30), refused(Status::MaxWaiters));
    assert_eq!(bench.enqueue(C, 30), Reply::Refused(Status::MaxWaiters));
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

#[test]
fn who_is_at_a_key_holds_it_or_waits_for_it() {
    let mut bench = Bench::new();
    bench.hold(A, 30);
    bench.stand_in_line(B, 30);
    token(&bench.acquire_at(C, "other", 1, 30));
    assert_eq!(bench.table.connections_at(key("pool")), BTreeSet::from([A, B]));
}
