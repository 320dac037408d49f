//! Work that is skipped when no slot is free: `try_with_slot`.

use std::future::pending;
use std::time::Duration;

use dflock::{Error, Lock};
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn try_with_slot_runs_its_body_and_releases_the_slot() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 2).unwrap();
    let other = pool.clone().acquire().await.unwrap();
    let holders = pool
        .try_with_slot(async |held| {
            held.check().unwrap();
            fixture.holders("pool")
        })
        .await;
    assert_eq!(holders.unwrap(), Some(2));
    assert_eq!(fixture.holders("pool"), 1);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn try_with_slot_returns_none_at_once_when_no_slot_is_free() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let other = pool.clone().acquire().await.unwrap();
    let started = Instant::now();
    let skipped = pool.try_with_slot(async |_| panic!("the body runs without a slot"));
    assert_eq!(skipped.await.unwrap(), None::<()>);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!((fixture.holders("pool"), fixture.waiters("pool")), (1, 0));
    other.release().await.unwrap();
    assert_eq!(pool.try_with_slot(async |_| ()).await.unwrap(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn try_with_slot_returns_other_errors() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 2).unwrap();
    let held = pool.acquire().await.unwrap();
    let other_limit = fixture.client.semaphore("pool", 3).unwrap();
    let error = other_limit.try_with_slot(async |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::LimitMismatch { .. }), "{error:?}");
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn try_with_slot_drops_its_body_when_the_slot_is_lost() {
    let fixture = Fixture::new().await;
    let lock = Lock::builder()
        .key("job")
        .client(fixture.client.clone())
        .build()
        .unwrap();
    let work = tokio::spawn(lock.try_with_slot(async |_| pending::<()>().await));
    while fixture.server.stats().locks.is_empty() {
        yield_now().await;
    }
    fixture.server.faults().expire("job");
    let error = work.await.unwrap().unwrap_err();
    assert!(error.is_lost(), "{error:?}");
}
