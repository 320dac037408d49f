//! Several permits of one key.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use dflock::{
    Client, ConfigError, Connector, Error, Held, LimitMismatch, Lost, LostReason, Semaphore,
    SemaphoreBuilder,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::bad_input::reads_well;
use crate::fixture::{Fixture, server};
use crate::scripted_server::{ScriptedServer, checkpoint, expect, expect_eof, send, wait_for_test};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

const GATE: &str = "dflock.gate:pool";

/// Returns a builder of the semaphore `pool`, whose waits last for a day.
fn builder(client: &Client, limit: u32) -> SemaphoreBuilder<dflock::Counting, String, u32> {
    Semaphore::builder()
        .key("pool")
        .limit(limit)
        .acquire_timeout(DAY)
        .client(client.clone())
}

impl Fixture {
    fn pool(&self, limit: u32) -> Semaphore {
        builder(&self.client, limit).build().unwrap()
    }

    /// Releases one of the permits on another connection, so that its holder loses it.
    async fn release_elsewhere(&self, held: &Held, permit: usize) {
        let token = held.tokens().nth(permit).unwrap();
        let mut socket = self.server.connector().connect("server").await.unwrap();
        let request = format!("sr\npool\n{}\n", token.as_str());
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut reply = [0; 3];
        socket.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"ok\n");
    }

    /// Returns the numbers of holders and waiters of the key, and of holders of its gate.
    fn counts(&self) -> (u64, u64, u64) {
        (
            self.holders("pool"),
            self.waiters("pool"),
            self.holders(GATE),
        )
    }
}

/// Spawns an acquire, and waits until it is in a queue.
async fn spawn_many(pool: &Semaphore, permits: u32) -> JoinHandle<Result<Semaphore<Held>, Error>> {
    let waiter = tokio::spawn(pool.clone().acquire_many(permits));
    sleep(MILLISECOND).await;
    waiter
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_several_permits_is_kept_and_released_as_one() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(4);
    for _ in 0..2 {
        let held = pool.clone().acquire_many(3).await.unwrap();
        assert_eq!(held.permits(), 3);
        let tokens: Vec<_> = held.tokens().copied().collect();
        assert_eq!((tokens.len(), tokens[0]), (3, *held.token()));
        assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != tokens[2]);
        assert_eq!(fixture.counts(), (3, 0, 0));
        // Longer than the default lease and the read timeout: all permits are renewed.
        held.run(sleep(100 * SECOND)).await.unwrap();
        assert_eq!(fixture.counts(), (3, 0, 0));
        held.renew().await.unwrap();
        held.release().await.unwrap();
        assert_eq!(fixture.counts(), (0, 0, 0));
    }
    // That of the permits. During the hold that of the gate was idle for too long.
    assert_eq!(fixture.server.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn the_connections_of_the_gate_and_of_the_permits_return_to_the_pool() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(4);
    for _ in 0..3 {
        let held = pool.clone().acquire_many(3).await.unwrap();
        let waiter = pool.clone().acquire_many_within(2, SECOND);
        assert!(waiter.await.unwrap_err().is_timeout());
        assert_eq!(fixture.counts(), (3, 0, 0));
        held.release().await.unwrap();
        // That of the hold, and two of the call that timed out.
        assert_eq!(fixture.server.stats().connections, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn one_permit_is_a_plain_acquire() {
    let fixture = Fixture::new().await;
    let held = fixture.pool(4).acquire_many(1).await.unwrap();
    assert_eq!((held.permits(), held.tokens().count()), (1, 1));
    assert!(fixture.server.stats().idle_semaphores.is_empty(), "a gate");
    assert_eq!(fixture.server.stats().semaphores.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drop_gives_all_permits_back() {
    for auto_release in [true, false] {
        let fixture = Fixture::with_config(server().auto_release(auto_release).build()).await;
        let held = fixture.pool(4).acquire_many(4).await.unwrap();
        drop(held);
        sleep(MILLISECOND).await;
        assert_eq!(fixture.counts(), (0, 0, 0), "auto-release: {auto_release}");
    }
}

#[tokio::test(start_paused = true)]
async fn permits_are_acquired_all_or_none() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(4);
    let single = pool.clone().acquire().await.unwrap();
    // Three of four are free.
    let error = pool.clone().try_acquire_many(4).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(fixture.counts(), (1, 0, 0));
    for wait in [2 * SECOND, Duration::from_millis(2500)] {
        let began = Instant::now();
        let waiter = tokio::spawn(pool.clone().acquire_many_within(4, wait));
        sleep(SECOND).await;
        assert_eq!(fixture.counts(), (4, 1, 1));
        let error = waiter.await.unwrap().unwrap_err();
        let late = began.elapsed().saturating_sub(wait);
        assert!(late < 10 * MILLISECOND, "{late:?}");
        match &error {
            Error::Timeout { waited, .. } => assert_eq!(*waited, wait),
            error => panic!("{error}"),
        }
        assert_eq!(error.key(), Some("pool"));
        sleep(MILLISECOND).await;
        assert_eq!(fixture.counts(), (1, 0, 0), "{wait:?}");
    }
    // Others that try are not blocked by the failed ones.
    let three = pool.clone().try_acquire_many(3).await.unwrap();
    assert_eq!(fixture.counts(), (4, 0, 0));
    drop((three, single));
}

#[tokio::test(start_paused = true)]
async fn callers_of_several_permits_are_served_in_their_order() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(4);
    let order = Arc::new(Mutex::new(Vec::new()));
    let all = pool.clone().acquire_many(4).await.unwrap();
    let mut tasks = JoinSet::new();
    for (n, permits) in [4, 2, 3, 2, 4, 3].into_iter().enumerate() {
        let (pool, order) = (pool.clone(), order.clone());
        tasks.spawn(async move {
            let held = pool.acquire_many(permits).await.unwrap();
            order.lock().unwrap().push(n);
            sleep(SECOND).await;
            held.release().await.unwrap();
        });
        sleep(MILLISECOND).await;
    }
    assert_eq!((fixture.counts(), fixture.waiters(GATE)), ((4, 1, 1), 5));
    all.release().await.unwrap();
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(fixture.counts(), (0, 0, 0));
}

/// Each permit has a place at the end of the queue: callers of one permit that came before are
/// served before, and those that come later are not.
#[tokio::test(start_paused = true)]
async fn callers_of_one_permit_are_served_in_the_order_of_the_queue() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(2);
    let (first, second) = (
        pool.clone().acquire().await.unwrap(),
        pool.clone().acquire().await.unwrap(),
    );
    let before = tokio::spawn(pool.clone().acquire());
    sleep(MILLISECOND).await;
    let many = spawn_many(&pool, 2).await;
    let behind = tokio::spawn(pool.clone().acquire());
    sleep(MILLISECOND).await;
    assert_eq!(fixture.counts(), (2, 3, 1));
    first.release().await.unwrap();
    let before = timeout(SECOND, before).await.unwrap().unwrap().unwrap();
    second.release().await.unwrap();
    sleep(MILLISECOND).await;
    // The first permit of `many` is held, and its second one is behind `behind`.
    assert_eq!(fixture.counts(), (2, 2, 1));
    before.release().await.unwrap();
    let behind = timeout(SECOND, behind).await.unwrap().unwrap().unwrap();
    assert!(!many.is_finished());
    behind.release().await.unwrap();
    let many = timeout(SECOND, many).await.unwrap().unwrap().unwrap();
    assert_eq!((many.permits(), fixture.counts()), (2, (2, 0, 0)));
}

/// The permits of a caller that waits have leases that are much shorter than its wait.
#[tokio::test(start_paused = true)]
async fn held_permits_and_the_gate_are_renewed_during_the_wait_for_the_next() {
    for lease in [Some(SECOND), Some(5 * SECOND), None] {
        let fixture = Fixture::new().await;
        let builder = builder(&fixture.client, 3);
        let pool = match lease {
            Some(lease) => builder.lease_ttl(lease).build().unwrap(),
            None => builder.build().unwrap(),
        };
        let single = pool.clone().acquire().await.unwrap();
        let many = spawn_many(&pool, 3).await;
        let next = spawn_many(&pool, 2).await;
        for _ in 0..600 {
            sleep(SECOND / 2).await;
            assert_eq!(fixture.counts(), (3, 1, 1), "{lease:?}");
            assert_eq!(fixture.waiters(GATE), 1, "{lease:?}");
            // One of each that holds or waits, and one of the gate.
            assert!(fixture.server.stats().connections <= 4, "{lease:?}");
        }
        single.release().await.unwrap();
        let many = timeout(SECOND, many).await.unwrap().unwrap().unwrap();
        assert_eq!(many.permits(), 3);
        many.run(sleep(60 * SECOND)).await.unwrap();
        assert_eq!(fixture.holders("pool"), 3);
        many.release().await.unwrap();
        let next = timeout(SECOND, next).await.unwrap().unwrap().unwrap();
        assert_eq!((next.permits(), fixture.counts()), (2, (2, 0, 0)));
    }
}

/// The last permit is granted at the moment at which the server ends the leases of the others.
#[tokio::test(start_paused = true)]
async fn permits_that_were_lost_during_the_wait_are_no_hold() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(4);
    let single = pool.clone().acquire().await.unwrap();
    let many = spawn_many(&pool, 4).await;
    sleep(SECOND).await;
    assert_eq!(fixture.counts(), (4, 1, 1));
    assert!(fixture.server.faults().expire("pool"));
    let error = timeout(SECOND, many).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::LeaseExpired { .. }), "{error}");
    assert_eq!(fixture.counts(), (0, 0, 0));
    drop(single);
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_one_permit_is_the_loss_of_all() {
    for auto_release in [true, false] {
        let fixture = Fixture::with_config(server().auto_release(auto_release).build()).await;
        let losses = Arc::new(Mutex::new(Vec::new()));
        let report = losses.clone();
        let pool = builder(&fixture.client, 4)
            .on_lost(move |lost: &Lost| report.lock().unwrap().push(lost.clone()))
            .build()
            .unwrap();
        let held = pool.acquire_many(4).await.unwrap();
        fixture.release_elsewhere(&held, 2).await;
        assert_eq!(fixture.holders("pool"), 3);
        let lost = timeout(30 * SECOND, held.lost()).await.unwrap();
        assert_eq!(lost.reason, LostReason::Rejected);
        assert!(held.is_lost());
        sleep(MILLISECOND).await;
        assert_eq!(fixture.counts(), (0, 0, 0), "auto-release: {auto_release}");
        assert_eq!(*losses.lock().unwrap(), [lost]);
        assert!(held.release().await.unwrap_err().is_lost());
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_reports_the_loss_of_one_permit() {
    let fixture = Fixture::new().await;
    let held = fixture.pool(4).acquire_many(4).await.unwrap();
    fixture.release_elsewhere(&held, 3).await;
    let error = held.release().await.unwrap_err();
    assert!(error.is_lost(), "{error}");
    assert_eq!(fixture.counts(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_connection_is_lost_starts_again() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(4);
    let single = pool.clone().acquire().await.unwrap();
    let many = spawn_many(&pool, 4).await;
    assert_eq!(fixture.counts(), (4, 1, 1));
    fixture.server.faults().disconnect(GATE);
    sleep(MILLISECOND).await;
    assert_eq!(fixture.counts(), (1, 0, 0));
    sleep(SECOND).await;
    assert_eq!(fixture.counts(), (4, 1, 1));
    single.release().await.unwrap();
    let many = timeout(SECOND, many).await.unwrap().unwrap().unwrap();
    assert_eq!((many.permits(), fixture.counts()), (4, (4, 0, 0)));
}

/// Two callers are past the gate: the first one gives its permits back at its next renewal.
#[tokio::test(start_paused = true)]
async fn a_call_that_loses_its_gate_starts_again() {
    let fixture = Fixture::new().await;
    let pool = builder(&fixture.client, 4)
        .lease_ttl(2 * SECOND)
        .build()
        .unwrap();
    let single = pool.clone().acquire().await.unwrap();
    let (first, second) = (spawn_many(&pool, 4).await, spawn_many(&pool, 3).await);
    assert_eq!((fixture.counts(), fixture.waiters(GATE)), ((4, 1, 1), 1));
    assert!(fixture.server.faults().expire(GATE));
    sleep(MILLISECOND).await;
    assert_eq!(fixture.counts(), (4, 2, 1));
    let second = timeout(2 * SECOND, second).await.unwrap().unwrap().unwrap();
    sleep(SECOND).await;
    assert_eq!((second.permits(), fixture.counts()), (3, (4, 1, 1)));
    second.release().await.unwrap();
    single.release().await.unwrap();
    let first = timeout(SECOND, first).await.unwrap().unwrap().unwrap();
    assert_eq!((first.permits(), fixture.counts()), (4, (4, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_gives_all_back_at_each_poll() {
    const LEASE: Duration = SECOND;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    for auto_release in [true, false] {
        let server = server().auto_release(auto_release).build();
        let server = server.start_in_memory().unwrap();
        let client = || {
            let builder = server.client_builder().connector(server.connector());
            builder.build().unwrap()
        };
        let pool = |client| builder(&client, 3).lease_ttl(LEASE).build().unwrap();
        sleep(MILLISECOND).await;
        let before = tasks();
        for (taken, wait) in [
            (0, DAY),
            (1, DAY),
            (2, DAY),
            (1, SECOND / 4),
            (2, Duration::ZERO),
        ] {
            for polls in 0.. {
                let others: Vec<_> = {
                    let pool = pool(client());
                    let acquires = (0..taken).map(|_| tokio::spawn(pool.clone().acquire()));
                    let acquires: JoinSet<_> = acquires.collect();
                    acquires.join_all().await
                };
                // The permits become free one after the other, after a renewal of the first.
                let release = tokio::spawn(async move {
                    for other in others {
                        sleep(Duration::from_millis(700)).await;
                        other.unwrap().unwrap().release().await.unwrap();
                    }
                });
                let mut call = Box::pin(async move {
                    let held = pool(client()).acquire_many_within(3, wait).await?;
                    sleep(2 * LEASE).await;
                    held.release().await.map(drop)
                });
                let completed = poll_at_most(polls, &mut call).await;
                drop(call);
                let case = format!("{taken} taken, {wait:?}, {auto_release}, {polls} polls");
                let assert_at_most = |most: u64| {
                    let semaphores = server.stats().semaphores;
                    let held: u64 = semaphores.iter().map(|s| s.holders).sum();
                    assert!(held <= most, "{case}: {semaphores:?}");
                };
                sleep(MILLISECOND).await;
                if auto_release {
                    assert_at_most(taken);
                } else {
                    // The grant of a request in flight, which the server does not take back before
                    // its lease expires.
                    assert_at_most(taken + 1);
                    sleep(LEASE + SECOND).await;
                    assert_at_most(taken);
                }
                release.await.unwrap();
                sleep(MILLISECOND).await;
                let stats = server.stats();
                assert!(
                    stats.semaphores.is_empty(),
                    "{case}: {:?}",
                    stats.semaphores
                );
                assert_eq!((stats.connections, tasks()), (0, before), "{case}");
                if completed {
                    assert!(polls >= 3, "{case}");
                    break;
                }
            }
        }
    }
}

/// Polls the future at most `polls` times and returns whether it completed.
async fn poll_at_most<T>(polls: usize, future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    let mut remaining = polls;
    poll_fn(|cx| {
        if remaining == 0 {
            return Poll::Ready(false);
        }
        remaining -= 1;
        match std::pin::Pin::new(&mut *future).poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if remaining == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn the_close_of_the_client_gives_all_back() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(4);
    let elsewhere = fixture.server.client_builder();
    let elsewhere = elsewhere.connector(fixture.server.connector()).build();
    let single = builder(&elsewhere.unwrap(), 4).build().unwrap();
    let single = single.acquire().await.unwrap();
    let held = pool.clone().acquire_many(2).await.unwrap();
    let many = spawn_many(&pool, 4).await;
    let at_gate = spawn_many(&pool, 2).await;
    assert_eq!((fixture.counts(), fixture.waiters(GATE)), ((4, 1, 1), 1));
    let client = fixture.client.clone();
    let close = tokio::spawn(async move { client.close().await });
    sleep(MILLISECOND).await;
    for waiter in [many, at_gate] {
        let error = waiter.await.unwrap().unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
    assert_eq!((fixture.counts(), close.is_finished()), ((3, 0, 0), false));
    drop(held);
    close.await.unwrap();
    drop(single);
}

#[tokio::test(start_paused = true)]
async fn a_local_queue_has_one_place_for_a_caller_of_several_permits() {
    let fixture = Fixture::new().await;
    let pool = builder(&fixture.client, 4).local_queue(1).build().unwrap();
    let all = pool.clone().acquire_many(4).await.unwrap();
    let (first, second) = (spawn_many(&pool, 3).await, spawn_many(&pool, 2).await);
    assert_eq!((fixture.waiters("pool"), fixture.waiters(GATE)), (1, 0));
    all.release().await.unwrap();
    let first = timeout(SECOND, first).await.unwrap().unwrap().unwrap();
    sleep(MILLISECOND).await;
    assert_eq!(fixture.counts(), (4, 1, 1));
    first.release().await.unwrap();
    timeout(SECOND, second).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_bounds_of_a_hold_apply_to_all_permits() {
    let fixture = Fixture::new().await;
    let pool = builder(&fixture.client, 4)
        .min_hold(40 * SECOND)
        .max_hold(90 * SECOND)
        .build()
        .unwrap();
    let held = pool.clone().acquire_many(3).await.unwrap();
    let lost = held.lost().await;
    assert_eq!(lost.reason, LostReason::Overdue);
    sleep(MILLISECOND).await;
    assert_eq!(fixture.counts(), (0, 0, 0));
    let held = pool.acquire_many(3).await.unwrap();
    held.release().await.unwrap();
    sleep(39 * SECOND).await;
    assert_eq!(fixture.counts(), (3, 0, 0));
    sleep(SECOND + MILLISECOND).await;
    assert_eq!(fixture.counts(), (0, 0, 0));
}

/// With a limit below the number of permits the call could only hold all of them, and wait.
#[tokio::test(start_paused = true)]
async fn a_limit_below_the_permits_is_not_adopted() {
    let fixture = Fixture::new().await;
    let _theirs = fixture.pool(5).acquire().await.unwrap();
    let ours = builder(&fixture.client, 8)
        .on_limit_mismatch(LimitMismatch::Adopt)
        .build()
        .unwrap();
    let held = ours.clone().acquire_many(4).await.unwrap();
    assert_eq!((held.permits(), held.limit()), (4, 5));
    held.release().await.unwrap();
    for _ in 0..2 {
        let waiter = tokio::spawn(ours.clone().acquire_many_within(6, 20 * SECOND));
        for _ in 0..19 {
            sleep(SECOND).await;
            assert_eq!(fixture.counts(), (1, 0, 0));
        }
        let error = timeout(2 * SECOND, waiter).await.unwrap().unwrap();
        let error = error.unwrap_err();
        assert!(
            matches!(
                error,
                Error::LimitMismatch {
                    ours: 8,
                    theirs: Some(5),
                    ..
                }
            ),
            "{error:?}"
        );
    }
    let held = ours.acquire_many(4).await.unwrap();
    assert_eq!((held.permits(), held.limit()), (4, 5));
}

#[tokio::test(start_paused = true)]
async fn callers_of_several_permits_cannot_wait_for_each_other() {
    let fixture = Fixture::new().await;
    let mut tasks = JoinSet::new();
    for n in 0..20_u32 {
        let pool = fixture.pool(5);
        tasks.spawn(async move {
            for round in 0..10 {
                let held = pool.clone().acquire_many(2 + (n + round) % 4).await?;
                sleep(10 * MILLISECOND).await;
                held.release().await?;
            }
            Ok::<_, Error>(())
        });
    }
    let began = Instant::now();
    while let Some(task) = tasks.join_next().await {
        task.unwrap().unwrap();
    }
    // One after the other they take 2 s.
    assert!(began.elapsed() <= 3 * SECOND, "{:?}", began.elapsed());
    assert_eq!(fixture.counts(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_single_acquires_does_not_starve_a_caller_of_several() {
    let fixture = Fixture::new().await;
    let (pool, singles) = (fixture.pool(4), 12);
    let mut stream = JoinSet::new();
    let grants = Arc::<AtomicU32>::default();
    for _ in 0..singles {
        let (pool, grants) = (pool.clone(), grants.clone());
        stream.spawn(async move {
            loop {
                let held = pool.clone().acquire().await.unwrap();
                grants.fetch_add(1, Ordering::Relaxed);
                sleep(10 * MILLISECOND).await;
                held.release().await.unwrap();
            }
        });
    }
    sleep(SECOND).await;
    for permits in [2, 3, 4] {
        let before = grants.load(Ordering::Relaxed);
        let held = timeout(60 * SECOND, pool.clone().acquire_many(permits));
        let held = held.await.unwrap().unwrap();
        let grants = grants.load(Ordering::Relaxed) - before;
        // Before each permit, all that are in the queue at that time are served. Those that were
        // granted before are counted, if they run later.
        assert!(
            grants <= permits * singles + pool.limit(),
            "{grants} grants for {permits} permits"
        );
        held.release().await.unwrap();
    }
}

/// A caller of the property test: its start, its permits, its hold, and what it does instead.
#[derive(Clone, Copy, Debug)]
struct Caller {
    start: u64,
    permits: u32,
    hold: u64,
    wait: Option<u64>,
    cancel: Option<u64>,
}

fn callers(limit: u32) -> impl Strategy<Value = Vec<Caller>> {
    let time = || prop_oneof![0..5_u64, 0..3000_u64];
    let caller = (
        time(),
        1..=limit,
        time(),
        prop::option::weighted(0.2, time()),
        prop::option::weighted(0.2, time()),
    );
    let caller = caller.prop_map(|(start, permits, hold, wait, cancel)| Caller {
        start,
        permits,
        hold,
        wait,
        cancel,
    });
    prop::collection::vec(caller, 1..24)
}

/// Runs the callers. All that neither time out nor are cancelled get their permits.
async fn run_callers(limit: u32, callers: &[Caller]) {
    let fixture = Fixture::new().await;
    let in_use = Arc::<AtomicU32>::default();
    let mut tasks = JoinSet::new();
    for caller in callers.iter().copied() {
        let in_use = in_use.clone();
        let pool = builder(&fixture.client, limit)
            .lease_ttl(SECOND)
            .build()
            .unwrap();
        tasks.spawn(async move {
            sleep(Duration::from_millis(caller.start)).await;
            let wait = caller.wait.map_or(DAY, Duration::from_millis);
            let work = async {
                let held = match pool.acquire_many_within(caller.permits, wait).await {
                    Ok(held) => held,
                    Err(error) => {
                        assert!(error.is_timeout() && caller.wait.is_some(), "{error}");
                        return;
                    }
                };
                let used = in_use.fetch_add(caller.permits, Ordering::Relaxed) + caller.permits;
                assert!(used <= limit, "{used} of {limit}");
                let guard = InUse(&in_use, caller.permits);
                sleep(Duration::from_millis(caller.hold)).await;
                held.check().unwrap();
                drop(guard);
                held.release().await.unwrap();
            };
            match caller.cancel {
                Some(cancel) => drop(timeout(Duration::from_millis(cancel), work).await),
                None => work.await,
            }
        });
    }
    // One after the other they need this time. A wait without an end would be longer.
    let all = callers.iter().map(|caller| caller.start + caller.hold + 10);
    let limit = Duration::from_millis(all.sum()) + SECOND;
    timeout(limit, async {
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    })
    .await
    .expect("callers wait for each other");
    sleep(MILLISECOND).await;
    assert_eq!(fixture.counts(), (0, 0, 0));
}

/// Permits that a caller uses, until this is dropped.
struct InUse<'a>(&'a AtomicU32, u32);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

#[test]
fn no_mix_of_callers_deadlocks_or_starves_one() {
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let cases = (1..=5_u32).prop_flat_map(|limit| (Just(limit), callers(limit)));
    let tested = runner.run(&cases, |(limit, callers)| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run_callers(limit, &callers));
        Ok(())
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
}

const GRANTS: [&str; 3] = [
    "00000000000000010123456789abcdef",
    "00000000000000020123456789abcdef",
    "00000000000000030123456789abcdef",
];

/// The order of requests on the wire.
#[tokio::test(start_paused = true)]
async fn the_gate_is_acquired_before_the_permits_and_released_after_them() {
    let [gate, first, second] = GRANTS;
    let gate_script = vec![
        expect(format!("sl\n{GATE}\n10 1\n")),
        send(format!("ok {gate} 33\n")),
        expect(format!("sr\n{GATE}\n{gate}\n")),
        checkpoint(),
        send("ok\n"),
    ];
    let permits = vec![
        expect("sl\npool\n10 4\n"),
        send(format!("ok {first} 33\n")),
        expect("sl\npool\n10 4\n"),
        send(format!("ok {second} 33\n")),
        expect(format!("sr\npool\n{first}\nsr\npool\n{second}\n")),
        send("ok\nok\n"),
    ];
    let server = ScriptedServer::memory([gate_script, permits]);
    let pool = server.client().semaphore("pool", 4).unwrap();
    let held = pool.acquire_many(2).await.unwrap();
    server.reached().await;
    assert!(held.tokens().map(dflock::Token::as_str).eq([first, second]));
    held.release().await.unwrap();
    server.finish().await;
}

/// A server of v1.10 does not read from a connection on which a request waits. It would count the
/// permits and the gate of a cancelled call as held until that request is answered.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_during_its_wait_releases_all_on_the_connection_of_the_gate() {
    let [gate, first, second] = GRANTS;
    let renewals = format!("sn\n{GATE}\n{gate}\nsn\npool\n{first}\nsn\npool\n{second}\n");
    let releases = format!("sr\npool\n{first}\nsr\npool\n{second}\nsr\n{GATE}\n{gate}\n");
    // The pool has no idle connection, and there is no third script.
    let gate = vec![
        expect(format!("sl\n{GATE}\n10 1\n")),
        send(format!("ok {gate} 33\n")),
        expect(renewals),
        send("ok 33\nok 33\nok 33\n"),
        checkpoint(),
        expect(&releases),
        expect_eof(),
        checkpoint(),
    ];
    let blocked = vec![
        expect("sl\npool\n10 4\n"),
        send(format!("ok {first} 33\n")),
        expect("sl\npool\n10 4\n"),
        send(format!("ok {second} 33\n")),
        expect("sl\npool\n10 4\n"),
        // The server reads nothing here.
        wait_for_test(),
        expect(releases),
        expect_eof(),
    ];
    let server = ScriptedServer::memory([gate, blocked]);
    let pool = server.client().semaphore("pool", 4).unwrap();
    let call = tokio::spawn(pool.acquire_many(3));
    server.reached().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    server.reached().await;
    server.resume();
    server.finish().await;
}

/// The reply to the request for the second permit has arrived, and no poll has read it.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_before_it_reads_a_grant_releases_that_as_well() {
    let [gate, first, second] = GRANTS;
    let releases = format!("sr\npool\n{first}\nsr\n{GATE}\n{gate}\nsr\npool\n{second}\n");
    let gate = vec![
        expect(format!("sl\n{GATE}\n10 1\n")),
        send(format!("ok {gate} 33\n")),
        expect(&releases),
        expect_eof(),
    ];
    let permits = vec![
        expect("sl\npool\n10 4\n"),
        send(format!("ok {first} 33\n")),
        expect("sl\npool\n10 4\n"),
        send(format!("ok {second} 33\n")),
        checkpoint(),
        expect(releases),
        expect_eof(),
    ];
    let server = ScriptedServer::memory([gate, permits]);
    let pool = server.client().semaphore("pool", 4).unwrap();
    let mut call = Box::pin(pool.acquire_many(3));
    tokio::select! {
        biased;
        () = server.reached() => {}
        _ = &mut call => panic!("the server has granted two permits of three"),
    }
    drop(call);
    server.finish().await;
}

#[tokio::test]
async fn wrong_numbers_of_permits_are_refused_before_a_byte_is_sent() {
    let server = ScriptedServer::memory([]);
    let client = server.client();
    let refused = async |key: &str, permits| {
        let pool = client.semaphore(key, 4).unwrap();
        let errors = [
            pool.clone().acquire_many(permits).await.unwrap_err(),
            pool.clone().try_acquire_many(permits).await.unwrap_err(),
            pool.acquire_many_within(permits, SECOND).await.unwrap_err(),
        ];
        let [first, ..] = errors.map(|error| match error {
            Error::Config(error) => error,
            error => panic!("{error:?}"),
        });
        first
    };
    for permits in [0, 5, u32::MAX] {
        let error = refused("pool", permits).await;
        assert_eq!(error, ConfigError::Permits { permits, limit: 4 });
        reads_well(&error, &[&permits.to_string(), "limit of 4", "1 to 4"]);
    }
    let error = refused(&"k".repeat(245), 2).await;
    let key = "k".repeat(64);
    let (bytes, max) = (245, 244);
    reads_well(&error, &[&key, "245 bytes", "244"]);
    assert_eq!(error, ConfigError::PermitsKey { key, bytes, max });
    let pool = client.semaphore("pool", 4).unwrap();
    let error = pool
        .acquire_many_within(2, Duration::MAX)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::Wait { .. })));
    assert_eq!(server.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_key_may_have_several_permits() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("k".repeat(244), 4).unwrap();
    assert_eq!(pool.acquire_many(4).await.unwrap().permits(), 4);
    // A longer key may have one.
    let pool = fixture.client.semaphore("k".repeat(256), 4).unwrap();
    assert_eq!(pool.acquire_many(1).await.unwrap().permits(), 1);
}
