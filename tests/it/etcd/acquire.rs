//! The forms of acquire, two phases, and the ends of a hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dflock::{Enqueued, Error, Queued, Semaphore};

use super::{LONG, SECOND, client, runtime, semaphore};
use dflock_tests::etcd_cluster::shared_cluster;

async fn queued(semaphore: &Semaphore) -> Semaphore<Queued> {
    match semaphore.clone().enqueue().await.unwrap() {
        Enqueued::Queued(queued) => queued,
        Enqueued::Acquired(_) => panic!("a slot was free"),
    }
}

#[tokio::test]
async fn every_form_of_acquire_holds_with_a_fence_that_grows() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let client = client(cluster);
    let pool = client.semaphore("forms", 1).unwrap();
    let mut last = 0;
    let mut grown = |fence: Option<u64>| {
        let fence = fence.expect("a fence on etcd");
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    };
    let held = pool.clone().acquire().await.unwrap();
    assert_eq!(held.lease(), SECOND * 10);
    assert!(held.remaining() > SECOND * 6 && held.remaining() < SECOND * 10);
    grown(held.fence());
    let busy = pool.clone().try_acquire().await.unwrap_err();
    assert!(busy.is_timeout(), "{busy:?}");
    held.renew().await.unwrap();
    assert!(held.remaining() > SECOND * 9);
    held.release().await.unwrap();
    let held = pool.clone().try_acquire().await.unwrap();
    grown(held.fence());
    held.release().await.unwrap();
    // Shorter than a round trip: the slot is free, so it is granted.
    let held = pool
        .clone()
        .acquire_within(Duration::from_nanos(1))
        .await
        .unwrap();
    grown(held.fence());
    drop(held);
    let Enqueued::Acquired(held) = pool.clone().enqueue().await.unwrap() else {
        // The drop is on its way.
        return;
    };
    grown(held.fence());
    held.release().await.unwrap();
    let key = pool
        .with_slot(async |held| held.key().to_owned())
        .await
        .unwrap();
    assert_eq!(key, "forms");
    let lock = client.lock("forms").unwrap();
    lock.acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_queue_tells_its_positions_and_is_served_in_order() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let client = client(cluster);
    let pool = semaphore(&client, "two-phase", 2, SECOND * 10);
    let first = pool.clone().acquire().await.unwrap();
    let second = pool.clone().acquire().await.unwrap();
    let (third, fourth) = (queued(&pool).await, queued(&pool).await);
    assert_eq!(third.position().await.unwrap(), 1);
    assert_eq!(fourth.position().await.unwrap(), 2);
    assert!(!third.is_granted());
    second.release().await.unwrap();
    let third = third.wait().await.unwrap();
    assert!(third.fence() > first.fence());
    let end = Instant::now() + LONG;
    while fourth.position().await.unwrap() != 1 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let late = fourth
        .wait_within(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(late.is_timeout(), "{late:?}");
    let closed = queued(&pool).await.close();
    drop((first, third));
    closed.acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_than_the_limit_hold() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let holders = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12 {
        // Some of them share a client.
        let client = client(cluster);
        for _ in 0..2 {
            let pool = semaphore(&client, "limit", 3, SECOND * 10);
            let holders = holders.clone();
            tasks.spawn(async move {
                for round in 0..5 {
                    let held = pool.clone().acquire().await.unwrap();
                    let now = holders.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= 3, "{now} holders");
                    tokio::task::yield_now().await;
                    held.check().unwrap();
                    holders.fetch_sub(1, Ordering::SeqCst);
                    if (round + task) % 2 == 0 {
                        held.release().await.unwrap();
                    }
                }
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn an_idle_key_takes_any_limit_and_a_busy_one_names_its_own() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let client = client(cluster);
    for limit in [2, 7, 1] {
        let held = client
            .semaphore("idle", limit)
            .unwrap()
            .acquire()
            .await
            .unwrap();
        let error = client
            .semaphore("idle", 9)
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        let Error::LimitMismatch {
            ours: 9, theirs, ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(theirs, Some(limit));
        held.release().await.unwrap();
    }
}

#[test]
fn a_drop_frees_the_slot_with_the_runtime_blocked_or_gone() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (first, second) = (client(cluster), client(cluster));
    let pool = |client| semaphore(client, "blocked", 1, SECOND * 10);
    let (blocked, other) = (runtime(), runtime());
    // Gone.
    let held = blocked.block_on(pool(&first).acquire()).unwrap();
    drop(blocked);
    drop(held);
    other.block_on(pool(&second).acquire()).unwrap();
    // Not running.
    let stopped = runtime();
    let held = stopped.block_on(pool(&first).acquire()).unwrap();
    drop(held);
    other.block_on(pool(&second).acquire()).unwrap();
}

// The session thread renews.
#[tokio::test]
async fn a_blocked_executor_keeps_its_slot() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let client = client(cluster);
    let held = semaphore(&client, "busy", 1, SECOND * 2)
        .acquire()
        .await
        .unwrap();
    std::thread::sleep(SECOND * 5);
    held.check().unwrap();
    assert!(held.remaining() > SECOND);
    held.release().await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_gone_frees_its_slots() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let held = semaphore(&client(cluster), "client", 1, SECOND * 60)
        .acquire()
        .await
        .unwrap();
    // The hold keeps the session of its client.
    held.check().unwrap();
    drop(held);
    let next = client(cluster);
    semaphore(&next, "client", 1, SECOND * 60)
        .acquire()
        .await
        .unwrap();
}
