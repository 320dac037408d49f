//! Bounds of a hold that its options set: the longest time for which a slot is held.

use std::sync::Arc;
use std::time::Duration;

use dflock::server::Event;
use dflock::{Enqueued, Lost, LostReason, Semaphore, SemaphoreBuilder};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

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
                held.remaining() <= max_hold - start.elapsed(),
                "{lease:?} {max_hold:?}"
            );
            sleep((max_hold - start.elapsed()).min(500 * MILLISECOND) - MILLISECOND / 2).await;
        }
        let lost = held.lost().await;
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
    assert_eq!(held.lost().await.reason, LostReason::Overdue);
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
    assert_eq!(held.lost().await.reason, LostReason::Unreachable);
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
    assert_eq!(second.lost().await.reason, LostReason::Overdue);
    assert_elapsed(start, 10 * SECOND);

    // The queued semaphore has the slot now, and holds it from the grant on.
    let start = Instant::now();
    sleep(4 * SECOND).await;
    let third = queued.wait().await.unwrap();
    assert!(third.remaining() <= 6 * SECOND);
    assert_eq!(third.lost().await.reason, LostReason::Overdue);
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

#[dflock::semaphore(key = "pool", limit = 1, max_hold = "2s")]
async fn work_for(time: Duration) -> Result<(), dflock::Error> {
    sleep(time).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_attribute_has_max_hold() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    client.clone().scope(work_for(SECOND)).await.unwrap();
    let start = Instant::now();
    let error = client
        .clone()
        .scope(work_for(60 * SECOND))
        .await
        .unwrap_err();
    assert!(error.is_lost(), "{error}");
    assert_elapsed(start, 2 * SECOND);
}
