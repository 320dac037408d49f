//! Slots are shared, first come, first served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::{Enqueued, Error, Semaphore};
use tokio::task::JoinSet;

use crate::house::House;

// G18
#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_hold_at_once() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 3).unwrap();
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
    assert_eq!(house.holders("pool"), 0);
}

// P24
#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_of_their_coming() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
    let first = pool.clone().acquire().await.unwrap();
    let (order, mut heard) = tokio::sync::mpsc::unbounded_channel();
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
    while let Some(n) = heard.recv().await {
        served.push(n);
    }
    assert_eq!(served, [0, 1, 2, 3, 4]);
}

// T32
#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_is_a_timeout_after_its_time_and_leaves_the_line() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    for wait in [
        Duration::ZERO,
        Duration::from_millis(300),
        Duration::from_secs(2),
        Duration::from_millis(2500),
    ] {
        let began = tokio::time::Instant::now();
        let error = pool.clone().acquire_within(wait).await.unwrap_err();
        assert!(
            error.is_timeout() && error.is_retryable() && !error.is_lost(),
            "{error:?}"
        );
        assert!(matches!(error, Error::Timeout { waited, .. } if waited == wait));
        let waited = began.elapsed();
        assert!(
            waited >= wait && waited < wait + Duration::from_millis(100),
            "{waited:?} for {wait:?}"
        );
    }
    // the default is 10 s
    let began = tokio::time::Instant::now();
    assert!(pool.clone().acquire().await.unwrap_err().is_timeout());
    assert_eq!(began.elapsed().as_secs(), 10);
    held.release().await.unwrap();
    pool.try_acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_whole_seconds_leaves_the_connection_for_the_next_request() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
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
    // the holder's, and the one that was used five times
    assert_eq!(house.server.stats().connections, 2);
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hold_says_what_it_is() {
    let house = House::new().await;
    let pool = Semaphore::builder()
        .key("pool")
        .limit(2)
        .lease_ttl(Duration::from_secs(20))
        .client(house.client.clone())
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

// T26: no invented default lease
#[tokio::test(start_paused = true)]
async fn the_default_lease_is_the_servers() {
    let house = House::with(
        crate::house::server()
            .default_lease(Duration::from_secs(7))
            .build(),
    )
    .await;
    let held = house
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    assert_eq!(held.lease(), Duration::from_secs(7));
    // and so it is after a renewal
    held.renew().await.unwrap();
    assert_eq!(held.lease(), Duration::from_secs(7));
}

// N6
#[tokio::test(start_paused = true)]
async fn another_limit_is_refused_and_both_are_named() {
    let house = House::new().await;
    let held = house
        .client
        .semaphore("pool", 2)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let error = house
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
            && text.contains("idle for a minute"),
        "{text}"
    );
    let error = house
        .client
        .semaphore("pool", 3)
        .unwrap()
        .enqueue()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::LimitMismatch { .. }), "{error:?}");
    // after a minute of idleness any limit is welcome
    held.release().await.unwrap();
    tokio::time::advance(Duration::from_secs(66)).await;
    house
        .client
        .semaphore("pool", 3)
        .unwrap()
        .acquire()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_runs_with_a_slot_and_gives_it_back() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
    let token = pool
        .with_slot(async |held| held.token().as_str().to_owned())
        .await
        .unwrap();
    assert_eq!(token.len(), 32);
    assert_eq!(house.holders("pool"), 0);
    // T43: the body's own error comes through
    let body: Result<(), &str> = pool.with_slot(async |_| Err("the body's")).await.unwrap();
    assert_eq!(body, Err("the body's"));
    assert_eq!(house.holders("pool"), 0);
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

// T43, P03
#[tokio::test(start_paused = true)]
async fn a_release_that_fails_does_not_hide_what_the_body_gave() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
    let faults = house.server.faults();
    let value = pool
        .with_slot(async |_| {
            faults.freeze();
            7
        })
        .await;
    assert_eq!(value.unwrap(), 7);
}

// the server knows better: there was nothing to give back
#[tokio::test(start_paused = true)]
async fn what_was_made_without_a_slot_is_not_given_back_as_if_there_had_been_one() {
    let house = House::new().await;
    let losses = Arc::new(AtomicU32::new(0));
    let counted = losses.clone();
    let on_lost = move |_: &dflock::Lost| _ = counted.fetch_add(1, Ordering::SeqCst);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .on_lost(on_lost)
        .client(house.client.clone())
        .build()
        .unwrap();
    let value = pool
        .with_slot(async |_| house.server.faults().expire("pool"))
        .await;
    assert!(value.unwrap_err().is_lost());
    assert_eq!(losses.load(Ordering::SeqCst), 1);
}
