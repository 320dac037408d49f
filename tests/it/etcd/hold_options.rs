//! The options and forms of a hold that do not depend on the engine.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dflock::{
    Client, Error, Leader, Leadership, LimitMismatch, LostReason, Semaphore, SemaphoreBuilder,
    acquire_all, acquire_all_within,
};
use dflock_tests::etcd_cluster::shared_cluster;
use tokio::time::{sleep, timeout};

use super::{LONG, SECOND, client, runtime, semaphore};

const MILLI: Duration = Duration::from_millis(1);

/// Returns the builder of a semaphore with a lease of 10 s.
fn builder(client: &Client, key: &str, limit: u32) -> Builder {
    Semaphore::builder()
        .key(key)
        .limit(limit)
        .lease_ttl(SECOND * 10)
        .acquire_timeout(LONG)
        .client(client.clone())
}

type Builder = SemaphoreBuilder<dflock::Counting, String, u32>;

#[tokio::test]
async fn max_hold_ends_a_hold_however_old_the_lease_of_the_client_is() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (holding, waiting) = (client(cluster), client(cluster));
    // The lease of the client was renewed some time before the hold begins.
    let other = semaphore(&holding, "max-other", 1, SECOND * 10)
        .acquire()
        .await
        .unwrap();
    sleep(SECOND * 2).await;
    let pool = builder(&holding, "max", 1).lease_ttl(SECOND * 10);
    let held = pool
        .max_hold(SECOND * 10)
        .build()
        .unwrap()
        .acquire()
        .await
        .unwrap();
    assert!(held.remaining() > SECOND * 6);
    held.release().await.unwrap();
    // Without `lease_ttl` the hold may be shorter than the default lease.
    let held = Semaphore::builder()
        .key("max")
        .limit(1)
        .max_hold(SECOND)
        .client(holding)
        .build()
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let started_at = Instant::now();
    let remaining = held.remaining();
    assert!(
        remaining > MILLI * 900 && remaining <= SECOND,
        "{remaining:?}"
    );
    let next = tokio::spawn(semaphore(&waiting, "max", 1, SECOND * 10).acquire());
    let lost = held.lost().await;
    assert_eq!(lost.reason, LostReason::Overdue);
    assert!(started_at.elapsed() > MILLI * 900);
    next.await.unwrap().unwrap().release().await.unwrap();
    assert!(started_at.elapsed() < SECOND * 5);
    other.check().unwrap();
    assert!(held.release().await.unwrap_err().is_lost());
}

// The session thread renews the lease of a blocked executor, and must not renew this hold.
#[test]
fn max_hold_frees_the_slot_of_a_blocked_executor() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (blocked, other) = (runtime(), runtime());
    let (first, second) = (client(cluster), client(cluster));
    let pool = Semaphore::builder().key("max-blocked").limit(1);
    let pool = pool.max_hold(SECOND * 2).client(first).build().unwrap();
    let held = blocked.block_on(pool.acquire()).unwrap();
    let next = semaphore(&second, "max-blocked", 1, SECOND * 10);
    let next = other.block_on(next.acquire_within(SECOND * 8)).unwrap();
    assert_eq!(held.check().unwrap_err().reason, LostReason::Overdue);
    other.block_on(next.release()).unwrap();
}

#[tokio::test]
async fn min_hold_keeps_the_slot_of_a_release_and_of_a_drop() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (holding, waiting) = (client(cluster), client(cluster));
    let pool = builder(&holding, "min", 1).lease_ttl(SECOND * 2);
    // Longer than the lease: the slot is renewed until then.
    let pool = pool.min_hold(SECOND * 3).build().unwrap();
    let next = semaphore(&waiting, "min", 1, SECOND * 10);
    for is_dropped in [false, true] {
        let held = pool.clone().acquire().await.unwrap();
        let held_at = Instant::now();
        if is_dropped {
            drop(held);
        } else {
            held.release().await.unwrap();
        }
        assert!(held_at.elapsed() < SECOND * 2);
        let next = next.clone().acquire().await.unwrap();
        let after = held_at.elapsed();
        assert!(
            after > SECOND * 2 + MILLI * 900 && after < SECOND * 6,
            "{after:?}"
        );
        next.release().await.unwrap();
    }
}

#[tokio::test]
async fn try_with_slot_skips_a_body_without_a_slot() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let client = client(cluster);
    let pool = client.semaphore("skip", 1).unwrap();
    let ran = pool.try_with_slot(async |held| {
        let skipped = pool.try_with_slot(async |_| panic!("the body runs without a slot"));
        assert_eq!(skipped.await.unwrap(), None::<()>);
        held.check().unwrap();
        7
    });
    assert_eq!(ran.await.unwrap(), Some(7));
}

#[tokio::test]
async fn a_limit_mismatch_is_waited_out_or_adopted() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let client = client(cluster);
    let held = semaphore(&client, "mismatch", 2, SECOND * 10)
        .acquire()
        .await
        .unwrap();
    let with = |reaction| {
        let pool = builder(&client, "mismatch", 5).on_limit_mismatch(reaction);
        pool.build().unwrap()
    };
    let adopted = with(LimitMismatch::Adopt).acquire().await.unwrap();
    assert_eq!(adopted.limit(), 2);
    let full = with(LimitMismatch::Adopt).try_acquire().await.unwrap_err();
    assert!(full.is_timeout(), "{full:?}");
    let short = with(LimitMismatch::WaitOut).acquire_within(MILLI * 500);
    let error = short.await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::LimitMismatch {
                ours: 5,
                theirs: Some(2),
                ..
            }
        ),
        "{error:?}"
    );
    let patient = tokio::spawn(with(LimitMismatch::WaitOut).acquire());
    sleep(MILLI * 300).await;
    adopted.release().await.unwrap();
    held.release().await.unwrap();
    // An idle key takes any limit at once, without the minute of dflockd.
    let patient = timeout(SECOND * 10, patient).await.unwrap().unwrap();
    assert_eq!(patient.unwrap().limit(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn acquire_all_holds_all_or_none_and_does_not_deadlock() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let clients = [client(cluster), client(cluster)];
    let tasks = clients.clone().map(|client| {
        let [a, b] = ["all-a", "all-b"].map(|key| semaphore(&client, key, 1, SECOND * 10));
        tokio::spawn(async move {
            for round in 0..10 {
                let both = if round % 2 == 0 {
                    acquire_all([&a, &b]).await.unwrap()
                } else {
                    acquire_all([&b, &a]).await.unwrap()
                };
                both.check().unwrap();
                both.release().await.unwrap();
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    let [a, b] = ["all-a", "all-b"].map(|key| clients[0].semaphore(key, 1).unwrap());
    let busy = b.clone().acquire().await.unwrap();
    let error = acquire_all_within([&a, &b], MILLI * 300).await.unwrap_err();
    assert!(
        error.is_timeout() && error.key() == Some("all-b"),
        "{error:?}"
    );
    a.acquire_within(LONG)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    busy.release().await.unwrap();
}

/// Counts a body while it runs.
struct Running(Arc<AtomicU32>);

impl Running {
    fn start(bodies: &Arc<AtomicU32>) -> Self {
        assert_eq!(bodies.fetch_add(1, Ordering::SeqCst), 0, "two bodies");
        Self(bodies.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_leader_ends_before_the_next_one_begins() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (bodies, terms) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let candidates = [(); 2].map(|()| {
        let (bodies, terms) = (bodies.clone(), terms.clone());
        let lock = client(cluster).lock("leader").unwrap();
        tokio::spawn(lock.lead(async move |leader: &Leader| {
            let _running = Running::start(&bodies);
            if terms.fetch_add(1, Ordering::SeqCst) == 0 {
                leader.resign();
                pending::<()>().await;
            }
            leader.check().unwrap();
        }))
    });
    for candidate in candidates {
        timeout(LONG, candidate).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(terms.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lock_is_revoked_ends_its_body_and_campaigns_again() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (bodies, terms) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let lead = client(cluster).lock("revoked-leader").unwrap().lead({
        let terms = terms.clone();
        async move |_: &Leader| {
            let _running = Running::start(&bodies);
            if terms.fetch_add(1, Ordering::SeqCst) == 0 {
                pending::<()>().await;
            }
        }
    });
    let mut leadership = lead.watch();
    let lead = tokio::spawn(lead);
    leadership.changed().await.unwrap();
    let Leadership::Leading { token, .. } = leadership.borrow().clone() else {
        panic!("it does not lead");
    };
    let operator = client(cluster);
    assert!(operator.revoke("revoked-leader", &token).await.unwrap());
    timeout(LONG, lead).await.unwrap().unwrap().unwrap();
    assert_eq!(terms.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn close_fails_waits_and_returns_when_the_slots_are_free() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (closing, operator) = (client(cluster), client(cluster));
    let pool = semaphore(&closing, "close", 1, SECOND * 60);
    let held = pool.clone().acquire().await.unwrap();
    let waiting = tokio::spawn(pool.clone().acquire());
    while operator.stats().await.unwrap()[0]
        .semaphores
        .iter()
        .all(|stats| stats.key != "close" || stats.waiters == 0)
    {
        sleep(MILLI * 10).await;
    }
    let close = tokio::spawn({
        let closing = closing.clone();
        async move { closing.close().await }
    });
    assert!(waiting.await.unwrap().unwrap_err().is_closed());
    assert!(pool.clone().acquire().await.unwrap_err().is_closed());
    held.renew().await.unwrap();
    assert!(!close.is_finished());
    // A drop sends its release without waiting; the close waits for it, because the program may
    // exit then.
    drop(held);
    timeout(LONG, close).await.unwrap().unwrap();
    assert!(operator.holders("close").await.unwrap().is_empty());
    closing.ping().await.unwrap();
}

#[tokio::test]
async fn a_local_queue_bounds_the_waiters_in_the_cluster() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (waiting, operator) = (client(cluster), client(cluster));
    let held = semaphore(&operator, "local", 1, SECOND * 10)
        .acquire()
        .await
        .unwrap();
    let pool = builder(&waiting, "local", 1)
        .local_queue(2)
        .build()
        .unwrap();
    let waits: Vec<_> = (0..6)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await?.release().await })
        })
        .collect();
    let waiters = async || {
        let stats = operator.stats().await.unwrap();
        let key = stats[0]
            .semaphores
            .iter()
            .find(|stats| stats.key == "local");
        key.map_or(0, |stats| stats.waiters)
    };
    while waiters().await < 2 {
        sleep(MILLI * 10).await;
    }
    sleep(MILLI * 300).await;
    assert_eq!(waiters().await, 2);
    held.release().await.unwrap();
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
}
