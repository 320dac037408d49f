//! Bounds of a hold that its options set: the longest and the shortest time of a slot.

use std::sync::Arc;
use std::time::Duration;

use dflock::server::Event;
use dflock::{Enqueued, Held, Lost, LostReason, Semaphore, SemaphoreBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{Fixture, server};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

type Builder = SemaphoreBuilder<dflock::Counting, String, u32>;

/// Returns a builder of the semaphore `pool` with one slot.
fn pool(fixture: &Fixture) -> Builder {
    Semaphore::builder()
        .key("pool")
        .limit(1)
        .client(fixture.client.clone())
}

/// Waits until the slot is lost. A hold without an end fails here: the paused clock would run on
/// with its renewals forever.
async fn lost(held: &Held) -> Lost {
    let lost = timeout(Duration::from_hours(1), held.lost()).await;
    lost.expect("the slot is lost within an hour")
}

/// Asserts that `since` is `expected` ago, with the precision of a timer.
#[track_caller]
fn assert_elapsed(since: Instant, expected: Duration) {
    let elapsed = since.elapsed();
    assert!(
        elapsed + MILLISECOND >= expected && elapsed <= expected + 3 * MILLISECOND,
        "{elapsed:?} instead of {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_renewal_reaches_past_max_hold() {
    for (lease, max_hold) in [
        (Some(1), 1500),
        (Some(2), 2000),
        (Some(4), 61_500),
        (Some(20), 20_000),
        (Some(33), 3_600_250),
        (None, 100),
        (None, 90_000),
    ] {
        let fixture = Fixture::new().await;
        let max_hold = Duration::from_millis(max_hold);
        let mut builder = pool(&fixture).max_hold(max_hold);
        if let Some(lease) = lease {
            builder = builder.lease_ttl(Duration::from_secs(lease));
        }
        let pool = builder.build().unwrap();
        let start = Instant::now();
        let held = pool.clone().acquire().await.unwrap();
        while start.elapsed() + MILLISECOND < max_hold {
            held.check().unwrap();
            assert!(
                held.remaining() + start.elapsed() <= max_hold,
                "{lease:?} {max_hold:?}"
            );
            let left = max_hold.saturating_sub(start.elapsed());
            sleep(left.min(500 * MILLISECOND).saturating_sub(MILLISECOND / 2)).await;
        }
        let lost = lost(&held).await;
        assert_eq!(lost.reason, LostReason::Overdue, "{lease:?} {max_hold:?}");
        assert_elapsed(start, max_hold);
        assert_eq!(held.check().unwrap_err(), lost);
        assert_eq!(held.remaining(), Duration::ZERO);
        sleep(MILLISECOND).await;
        assert_eq!(fixture.holders("pool"), 0, "{lease:?} {max_hold:?}");
        let error = held.release().await.unwrap_err();
        assert!(error.is_lost(), "{error}");
        pool.try_acquire().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_overdue_slot_stops_its_body_and_calls_on_lost_once() {
    let fixture = Fixture::new().await;
    let (sender, mut losses) = mpsc::unbounded_channel();
    let pool = pool(&fixture)
        .max_hold(3 * SECOND)
        .on_lost(move |lost: &Lost| sender.send(lost.reason).unwrap())
        .build()
        .unwrap();
    let start = Instant::now();
    let error = pool
        .with_slot(async |_| sleep(60 * SECOND).await)
        .await
        .unwrap_err();
    assert_elapsed(start, 3 * SECOND);
    assert!(error.is_lost(), "{error}");
    // A body that ends in time is not affected.
    pool.with_slot(async |_| sleep(2 * SECOND).await)
        .await
        .unwrap();
    sleep(5 * SECOND).await;
    drop(pool);
    assert_eq!(losses.recv().await, Some(LostReason::Overdue));
    assert_eq!(losses.recv().await, None);
}

// Without shorter leases the server would keep the slot of a client that is cut off for a lease or
// its read timeout after the end of the hold.
#[tokio::test(start_paused = true)]
async fn the_last_renewals_ask_for_the_time_that_is_left() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let config = server().build().observer(move |event| {
        if let Event::Ended { reason, .. } = event {
            let _ = sender.send((Instant::now(), reason));
        }
    });
    let fixture = Fixture::with_config(config).await;
    let start = Instant::now();
    let held = pool(&fixture)
        .lease_ttl(20 * SECOND)
        .max_hold(30 * SECOND)
        .build()
        .unwrap()
        .acquire()
        .await
        .unwrap();
    sleep(27 * SECOND).await;
    assert!(held.lease() <= 11 * SECOND, "{:?}", held.lease());
    // The replies do not arrive, and neither does the release.
    fixture
        .server
        .faults()
        .delay_replies(Duration::from_hours(1));
    assert_eq!(lost(&held).await.reason, LostReason::Overdue);
    assert_elapsed(start, 30 * SECOND);
    let (ended, _) = ends.recv().await.unwrap();
    assert!(ended - start <= 32 * SECOND, "{:?}", ended - start);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_expires_before_max_hold_is_not_overdue() {
    let fixture = Fixture::new().await;
    let held = pool(&fixture)
        .lease_ttl(4 * SECOND)
        .max_hold(60 * SECOND)
        .build()
        .unwrap()
        .acquire()
        .await
        .unwrap();
    fixture.server.faults().freeze();
    assert_eq!(lost(&held).await.reason, LostReason::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn max_hold_counts_from_the_grant_and_not_from_the_wait() {
    let fixture = Fixture::new().await;
    let pool = pool(&fixture).max_hold(10 * SECOND).build().unwrap();
    let first = pool.clone().acquire().await.unwrap();
    let waiting = tokio::spawn(pool.clone().acquire_within(60 * SECOND));
    sleep(MILLISECOND).await;
    let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
        panic!("the slot is held");
    };
    sleep(8 * SECOND).await;
    first.release().await.unwrap();
    let second = waiting.await.unwrap().unwrap();
    let start = Instant::now();
    assert_eq!(lost(&second).await.reason, LostReason::Overdue);
    assert_elapsed(start, 10 * SECOND);

    // The queued semaphore has the slot now, and holds it from the grant on.
    let start = Instant::now();
    sleep(4 * SECOND).await;
    let third = queued.wait().await.unwrap();
    assert!(third.remaining() <= 6 * SECOND);
    assert_eq!(lost(&third).await.reason, LostReason::Overdue);
    assert_elapsed(start, 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_requested_renewal_does_not_extend_max_hold() {
    let fixture = Fixture::new().await;
    let held = Arc::new(
        pool(&fixture)
            .lease_ttl(10 * SECOND)
            .max_hold(12 * SECOND)
            .build()
            .unwrap()
            .acquire()
            .await
            .unwrap(),
    );
    let start = Instant::now();
    while held.renew().await.is_ok() {
        assert!(held.remaining() <= (12 * SECOND).saturating_sub(start.elapsed()));
        sleep(100 * MILLISECOND).await;
    }
    assert_eq!(held.check().unwrap_err().reason, LostReason::Overdue);
    assert_elapsed(start, 12 * SECOND);
}

/// Returns the semaphore `pool` with one slot that stays taken for `min_hold` seconds.
fn pool_with_min(fixture: &Fixture, min_hold: u32) -> Semaphore {
    pool(fixture).min_hold(min_hold * SECOND).build().unwrap()
}

/// Waits for a slot of `pool`, and asserts that it is free `expected` after `since`.
async fn assert_free_after(pool: Semaphore, since: Instant, expected: Duration) {
    let held = pool.acquire_within(Duration::from_hours(2)).await.unwrap();
    assert_elapsed(since, expected);
    held.close();
}

#[tokio::test(start_paused = true)]
async fn a_slot_given_up_early_stays_taken_until_min_hold_is_over() {
    // Longer and shorter than a lease, the read timeout and the time of the first renewal.
    for (min_hold, lease) in [(2, 1), (3, 60), (100, 2), (3600, 33)] {
        for gives_up in 0..4 {
            for auto_release in [true, false] {
                let config = server().auto_release(auto_release).build();
                let fixture = Fixture::with_config(config).await;
                let pool = pool(&fixture)
                    .lease_ttl(lease * SECOND)
                    .min_hold(min_hold * SECOND)
                    .build()
                    .unwrap();
                let start = Instant::now();
                match gives_up {
                    0 => drop(pool.clone().acquire().await.unwrap()),
                    1 => drop(
                        pool.clone()
                            .acquire()
                            .await
                            .unwrap()
                            .release()
                            .await
                            .unwrap(),
                    ),
                    2 => pool.with_slot(async |_| ()).await.unwrap(),
                    _ => {
                        let held = pool.clone().acquire().await.unwrap();
                        sleep(1500 * MILLISECOND).await;
                        drop(held);
                        assert_elapsed(start, 1500 * MILLISECOND);
                    }
                }
                if gives_up < 3 {
                    assert_eq!(start.elapsed(), Duration::ZERO, "case {gives_up}");
                }
                assert!(pool.clone().try_acquire().await.unwrap_err().is_timeout());
                assert_free_after(pool, start, min_hold * SECOND).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_held_for_longer_than_min_hold_is_free_at_once() {
    let fixture = Fixture::new().await;
    let pool = pool_with_min(&fixture, 2);
    for release in [true, false] {
        let held = pool.clone().acquire().await.unwrap();
        sleep(2 * SECOND).await;
        if release {
            held.release().await.unwrap();
            assert_eq!(fixture.holders("pool"), 0);
        } else {
            drop(held);
            sleep(MILLISECOND).await;
            assert_eq!(fixture.holders("pool"), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn min_hold_bounds_the_starts_in_a_second() {
    let fixture = Fixture::new().await;
    let limit = 3;
    let pool = Semaphore::builder()
        .key("pool")
        .limit(limit)
        .min_hold(SECOND)
        .acquire_timeout(Duration::from_hours(1))
        .client(fixture.client.clone())
        .build()
        .unwrap();
    let (sender, mut starts) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for worker in 0..10_u32 {
        let (pool, sender) = (pool.clone(), sender.clone());
        workers.spawn(async move {
            for round in 0..6 {
                let held = pool.clone().acquire().await.unwrap();
                sender.send(Instant::now()).unwrap();
                sleep((worker * 37 + round * 211) % 1700 * MILLISECOND).await;
                if (worker + round) % 2 == 0 {
                    held.release().await.unwrap();
                }
            }
        });
    }
    drop((sender, pool));
    let mut times = Vec::new();
    while let Some(start) = starts.recv().await {
        times.push(start);
    }
    assert_eq!(times.len(), 60);
    for window in times.windows(limit as usize + 1) {
        let between = window[limit as usize] - window[0];
        assert!(between >= SECOND, "{} starts in {between:?}", limit + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_of_a_kept_slot_is_reused_afterwards() {
    let fixture = Fixture::new().await;
    let pool = pool_with_min(&fixture, 3);
    drop(pool.clone().acquire().await.unwrap());
    assert_eq!(fixture.server.stats().connections, 1);
    // It is not in the pool meanwhile.
    let other = fixture.client.semaphore("other", 1).unwrap();
    let held = other.clone().acquire().await.unwrap();
    assert_eq!(fixture.server.stats().connections, 2);
    sleep(4 * SECOND).await;
    assert_eq!(fixture.holders("pool"), 0);
    // It is idle now.
    assert_eq!(fixture.server.stats().connections, 2);
    drop(held);
    sleep(MILLISECOND).await;
    let held = other.acquire().await.unwrap();
    assert_eq!(fixture.server.stats().connections, 1);
    sleep(60 * SECOND).await;
    held.check().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_close_of_the_client_waits_for_min_hold() {
    for is_queued in [false, true] {
        let fixture = Fixture::new().await;
        let pool = pool_with_min(&fixture, 60);
        let other = fixture.server.client_builder();
        let other = other.connector(fixture.server.connector()).build().unwrap();
        let other = other.semaphore("pool", 1).unwrap();
        let held = if is_queued {
            let first = other.clone().acquire().await.unwrap();
            let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
                panic!("it was granted");
            };
            first.release().await.unwrap();
            queued.wait().await.unwrap()
        } else {
            pool.acquire().await.unwrap()
        };
        let start = Instant::now();
        held.release().await.unwrap();
        let client = fixture.client.clone();
        let closing = tokio::spawn(async move { client.close().await });
        assert_free_after(other, start, 60 * SECOND).await;
        closing.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn close_gives_a_slot_up_before_min_hold_is_over() {
    let fixture = Fixture::new().await;
    let pool = pool_with_min(&fixture, 60).acquire().await.unwrap().close();
    sleep(MILLISECOND).await;
    pool.try_acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_granted_place_that_is_not_taken_is_given_up_at_once() {
    let fixture = Fixture::new().await;
    let pool = pool_with_min(&fixture, 60);
    let first = pool.clone().acquire().await.unwrap();
    let Enqueued::Queued(queued) = pool.clone().enqueue().await.unwrap() else {
        panic!("the slot is held");
    };
    let start = Instant::now();
    first.release().await.unwrap();
    sleep(61 * SECOND).await;
    assert!(queued.is_granted());
    drop(queued);
    sleep(MILLISECOND).await;
    assert_eq!(fixture.holders("pool"), 0);
    // One that is taken stays taken, counted from the grant.
    let first = pool.clone().acquire().await.unwrap();
    let Enqueued::Queued(queued) = pool.clone().enqueue().await.unwrap() else {
        panic!("the slot is held");
    };
    drop(first);
    sleep(70 * SECOND).await;
    drop(queued.wait().await.unwrap());
    assert_free_after(pool, start, (61 + 120) * SECOND + MILLISECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_loss_ends_min_hold_without_a_report() {
    let fixture = Fixture::new().await;
    let (sender, mut losses) = mpsc::unbounded_channel();
    let pool = pool(&fixture)
        .lease_ttl(2 * SECOND)
        .min_hold(60 * SECOND)
        .on_lost(move |lost: &Lost| sender.send(lost.reason).unwrap())
        .build()
        .unwrap();
    for fault in 0..3 {
        drop(pool.clone().acquire().await.unwrap());
        sleep(SECOND).await;
        let faults = fixture.server.faults();
        match fault {
            0 => faults.disconnect("pool"),
            1 => {
                faults.expire("pool");
            }
            _ => {
                faults.freeze();
                sleep(5 * SECOND).await;
                faults.thaw();
            }
        }
        sleep(2 * SECOND).await;
        assert_eq!(fixture.holders("pool"), 0, "fault {fault}");
    }
    drop(pool);
    assert_eq!(losses.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_flight_does_not_end_min_hold() {
    let fixture = Fixture::new().await;
    let pool = pool_with_min(&fixture, 20);
    let held = pool.clone().acquire().await.unwrap();
    let start = Instant::now();
    fixture.server.faults().delay_replies(SECOND);
    let renewed = timeout(100 * MILLISECOND, held.renew()).await;
    assert!(renewed.is_err());
    drop(held);
    sleep(2 * SECOND).await;
    fixture.server.faults().delay_replies(Duration::ZERO);
    assert_free_after(pool, start, 20 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn min_hold_of_a_slot_ends_with_max_hold_at_the_latest() {
    let fixture = Fixture::new().await;
    let pool = pool(&fixture)
        .min_hold(10 * SECOND)
        .max_hold(10 * SECOND)
        .build()
        .unwrap();
    let start = Instant::now();
    drop(pool.clone().acquire().await.unwrap());
    assert_free_after(pool.clone(), start, 10 * SECOND).await;
    let start = Instant::now();
    let held = pool.clone().acquire().await.unwrap();
    assert_eq!(lost(&held).await.reason, LostReason::Overdue);
    drop(held);
    assert_free_after(pool, start, 10 * SECOND).await;
}

// Sockets, because the connection must end with its runtime.
#[test]
fn the_end_of_the_runtime_ends_min_hold() {
    let runtime = |paused| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(paused)
            .build()
            .unwrap()
    };
    let servers = runtime(false);
    let server = servers.block_on(dflock::server::Server::start()).unwrap();
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .min_hold(Duration::from_hours(1))
        .client(server.client())
        .build()
        .unwrap();
    for drops_first in [true, false] {
        let workers = runtime(false);
        let held = servers.block_on(async {
            let handle = workers.handle().clone();
            let acquire = handle.spawn(pool.clone().acquire());
            let worker = std::thread::spawn(move || {
                let held = workers.block_on(acquire).unwrap().unwrap();
                if drops_first {
                    drop(held);
                    (workers, None)
                } else {
                    (workers, Some(held))
                }
            });
            tokio::task::spawn_blocking(move || worker.join().unwrap())
                .await
                .unwrap()
        });
        let (workers, held) = held;
        servers.block_on(async { sleep(20 * MILLISECOND).await });
        assert_eq!(holders(&server), 1);
        workers.shutdown_background();
        drop(held);
        // Sooner than by the lease or by the read timeout of the server.
        let freed = async {
            while holders(&server) > 0 {
                sleep(MILLISECOND).await;
            }
        };
        servers
            .block_on(async { timeout(10 * SECOND, freed).await })
            .expect("the slot is free");
    }
}

fn holders(server: &dflock::server::Server) -> u64 {
    server
        .stats()
        .semaphores
        .iter()
        .map(|key| key.holders)
        .sum()
}

#[dflock::semaphore(key = "pool", limit = 1, max_hold = "2s", min_hold = "1s")]
async fn work_for(time: Duration) -> Result<(), dflock::Error> {
    sleep(time).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_attribute_has_max_hold_and_min_hold() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let start = Instant::now();
    client
        .clone()
        .scope(work_for(Duration::ZERO))
        .await
        .unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    client
        .clone()
        .scope(work_for(Duration::ZERO))
        .await
        .unwrap();
    assert_elapsed(start, SECOND);
    sleep(SECOND).await;
    let start = Instant::now();
    let error = client
        .clone()
        .scope(work_for(60 * SECOND))
        .await
        .unwrap_err();
    assert!(error.is_lost(), "{error}");
    assert_elapsed(start, 2 * SECOND);
}
