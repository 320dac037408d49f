//! Locks: semaphores of limit 1 with separate commands and a separate key space.

use std::time::Duration;

use dflock::{Enqueued, Lock, LostReason};
use tokio::time::sleep;

use crate::fixture::{Fixture, server};

#[tokio::test(start_paused = true)]
async fn a_second_lock_waits_for_the_first() {
    let fixture = Fixture::new().await;
    let lock = fixture.client.lock("job").unwrap();
    let held = lock.clone().acquire().await.unwrap();
    assert_eq!((lock.key(), held.key()), ("job", "job"));
    assert!(lock.clone().try_acquire().await.unwrap_err().is_timeout());
    assert!(
        lock.clone()
            .acquire_within(Duration::from_millis(20))
            .await
            .unwrap_err()
            .is_timeout()
    );
    let Enqueued::Queued(queued) = lock.clone().enqueue().await.unwrap() else {
        panic!("the lock is held")
    };
    assert!(!queued.is_granted());
    held.release().await.unwrap();
    let held = queued.wait().await.unwrap();
    held.renew().await.unwrap();
    let idle = held.release().await.unwrap();
    let held = idle.enqueue().await.unwrap().wait().await.unwrap();
    drop(held.close());
    let key_length = lock.with_slot(async |held| held.key().len()).await.unwrap();
    assert_eq!(key_length, 3);
}

// Covers bug S17.
#[tokio::test(start_paused = true)]
async fn a_lock_and_a_semaphore_of_the_same_key_are_independent() {
    let fixture = Fixture::new().await;
    let lock = fixture
        .client
        .lock("both")
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let slots = fixture.client.semaphore("both", 2).unwrap();
    let (first, second) = (
        slots.clone().try_acquire().await.unwrap(),
        slots.try_acquire().await.unwrap(),
    );
    lock.check().and(first.check()).and(second.check()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn debug_names_a_lock_and_a_semaphore() {
    let fixture = Fixture::new().await;
    let lock = fixture.client.lock("job").unwrap();
    let pool = fixture.client.semaphore("pool", 5).unwrap();
    assert_eq!((lock.limit(), pool.limit()), (1, 5));
    assert_eq!(
        format!("{lock:?}"),
        r#"Lock { key: "job", state: Idle(()), .. }"#
    );
    assert_eq!(
        format!("{pool:?}"),
        r#"Semaphore { key: "pool", limit: 5, state: Idle(()), .. }"#
    );
    let (lock, pool) = (lock.acquire().await.unwrap(), pool.acquire().await.unwrap());
    assert!(format!("{lock:?}").starts_with(r#"Lock { key: "job", state: Held {"#));
    assert!(format!("{pool:?}").contains("limit: 5, state: Held {"));
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_renewed_and_lost_like_a_semaphore() {
    let fixture = Fixture::with_config(server().auto_release(false).build()).await;
    let lock = Lock::builder()
        .key("job")
        .lease_ttl(Duration::from_secs(1))
        .client(fixture.client.clone())
        .build()
        .unwrap();
    let held = lock.clone().acquire().await.unwrap();
    sleep(Duration::from_secs(10)).await;
    held.check().unwrap();
    // Dropping the lock releases it with the lock's own command.
    drop(held);
    sleep(Duration::from_millis(1)).await;
    let held = lock.try_acquire().await.unwrap();
    fixture.server.faults().expire("job");
    assert_eq!(held.lost().await.reason, LostReason::Rejected);
}
