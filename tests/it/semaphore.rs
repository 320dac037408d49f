//! Semaphores: slots are granted in order of arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::{Enqueued, Error, Semaphore};
use tokio::task::JoinSet;

use crate::fixture::Fixture;

// Covers bug G18.
#[tokio::test(start_paused = true)]
async fn at_most_limit_slots_are_held() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 3).unwrap();
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..20 {
        let (pool, now, most) = (pool.clone(), now.clone(), most.clone());
        workers.spawn(async move {
            for _ in 0..5 {
                let held = pool.clone().acquire().await.unwrap();
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                held.release().await.unwrap();
            }
        });
    }
    workers.join_all().await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(fixture.holders("pool"), 0);
}

// Covers bug P24.
#[tokio::test(start_paused = true)]
async fn waiters_are_granted_in_order_of_arrival() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let first = pool.clone().acquire().await.unwrap();
    let (order, mut received) = tokio::sync::mpsc::unbounded_channel();
    let mut waiters = JoinSet::new();
    for n in 0..5 {
        let (pool, order) = (pool.clone(), order.clone());
        let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
            panic!("the slot is taken")
        };
        waiters.spawn(async move {
            let held = queued.wait().await.unwrap();
            order.send(n).unwrap();
            held.release().await.unwrap();
        });
    }
    first.release().await.unwrap();
    waiters.join_all().await;
    drop(order);
    let mut served = Vec::new();
    while let Some(n) = received.recv().await {
        served.push(n);
    }
    assert_eq!(served, [0, 1, 2, 3, 4]);
}

// Covers bug T32.
#[tokio::test(start_paused = true)]
async fn acquire_times_out_and_leaves_the_queue() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    for wait in [
        Duration::ZERO,
        Duration::from_millis(300),
        Duration::from_secs(2),
        Duration::from_millis(2500),
    ] {
        let start = tokio::time::Instant::now();
        let error = pool.clone().acquire_within(wait).await.unwrap_err();
        assert!(
            error.is_timeout() && error.is_retryable() && !error.is_lost(),
            "{error:?}"
        );
        assert!(matches!(error, Error::Timeout { waited, .. } if waited == wait));
        let waited = start.elapsed();
        assert!(
            waited >= wait && waited < wait + Duration::from_millis(100),
            "{waited:?} for {wait:?}"
        );
    }
    // The default timeout is 10 s.
    let start = tokio::time::Instant::now();
    assert!(pool.clone().acquire().await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), 10);
    held.release().await.unwrap();
    pool.try_acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_wait_of_whole_seconds_keeps_its_connection() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    for _ in 0..5 {
        assert!(
            pool.clone()
                .acquire_within(Duration::from_secs(1))
                .await
                .unwrap_err()
                .is_timeout()
        );
    }
    // The connection of the holder, and one that five acquires reused.
    assert_eq!(fixture.server.stats().connections, 2);
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hold_exposes_its_properties() {
    let fixture = Fixture::new().await;
    let pool = Semaphore::builder()
        .key("pool")
        .limit(2)
        .lease_ttl(Duration::from_secs(20))
        .client(fixture.client.clone())
        .build()
        .unwrap();
    assert_eq!((pool.key(), pool.limit()), ("pool", 2));
    let first = pool.clone().acquire().await.unwrap();
    let second = pool.acquire().await.unwrap();
    assert_eq!(
        (first.key(), first.limit(), first.lease()),
        ("pool", 2, Duration::from_secs(20))
    );
    assert_ne!(first.token(), second.token());
    assert_eq!(first.token().as_str().len(), 32);
    assert!(first.fence().unwrap() < second.fence().unwrap());
    assert!(
        first.remaining() > Duration::from_secs(19) && first.remaining() < Duration::from_secs(20)
    );
    assert!(first.check().is_ok() && !first.is_lost());
}

// Covers bug T26. The client sends no lease by default.
#[tokio::test(start_paused = true)]
async fn the_default_lease_is_that_of_the_server() {
    let fixture = Fixture::with_config(
        crate::fixture::server()
            .default_lease(Duration::from_secs(7))
            .build(),
    )
    .await;
    let held = fixture
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    assert_eq!(held.lease(), Duration::from_secs(7));
    // The lease is the same after a renewal.
    held.renew().await.unwrap();
    assert_eq!(held.lease(), Duration::from_secs(7));
}

// Covers bug N6.
#[tokio::test(start_paused = true)]
async fn a_different_limit_is_rejected_and_both_limits_are_named() {
    let fixture = Fixture::new().await;
    let held = fixture
        .client
        .semaphore("pool", 2)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let error = fixture
        .client
        .semaphore("pool", 3)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::LimitMismatch {
                ours: 3,
                theirs: Some(2),
                ..
            }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("limit 2, not 3")
            && text.contains("\"pool\"")
            && text.contains("on dflockd after a minute"),
        "{text}"
    );
    let error = fixture
        .client
        .semaphore("pool", 3)
        .unwrap()
        .enqueue()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::LimitMismatch { .. }), "{error:?}");
    // After an idle minute the server accepts any limit.
    held.release().await.unwrap();
    tokio::time::advance(Duration::from_secs(66)).await;
    fixture
        .client
        .semaphore("pool", 3)
        .unwrap()
        .acquire()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_slot_runs_its_body_and_releases_the_slot() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let token = pool
        .with_slot(async |held| held.token().as_str().to_owned())
        .await
        .unwrap();
    assert_eq!(token.len(), 32);
    assert_eq!(fixture.holders("pool"), 0);
    // The error of the body is returned unchanged: covers bug T43.
    let body: Result<(), &str> = pool.with_slot(async |_| Err("the body's")).await.unwrap();
    assert_eq!(body, Err("the body's"));
    assert_eq!(fixture.holders("pool"), 0);
    let panicked = tokio::spawn(pool.with_slot(async |_| panic!("in the body"))).await;
    assert!(panicked.unwrap_err().is_panic());
    pool.clone().acquire().await.unwrap();
    let cancelled = tokio::time::timeout(
        Duration::from_secs(1),
        pool.with_slot(async |_| std::future::pending::<()>().await),
    )
    .await;
    assert!(cancelled.is_err());
    pool.acquire().await.unwrap();
}

// Covers bugs T43, P03.
#[tokio::test(start_paused = true)]
async fn a_failed_release_keeps_the_value_of_the_body() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let faults = fixture.server.faults();
    let value = pool
        .with_slot(async |_| {
            faults.freeze();
            7
        })
        .await;
    assert_eq!(value.unwrap(), 7);
}

// The server reports that there was no slot to release.
#[tokio::test(start_paused = true)]
async fn with_slot_reports_a_loss_that_the_release_detects() {
    let fixture = Fixture::new().await;
    let losses = Arc::new(AtomicU32::new(0));
    let counter = losses.clone();
    let on_lost = move |_: &dflock::Lost| _ = counter.fetch_add(1, Ordering::SeqCst);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .on_lost(on_lost)
        .client(fixture.client.clone())
        .build()
        .unwrap();
    let value = pool
        .with_slot(async |_| fixture.server.faults().expire("pool"))
        .await;
    assert!(value.unwrap_err().is_lost());
    assert_eq!(losses.load(Ordering::SeqCst), 1);
}
