//! Two versions of a program that use one key with different limits: `on_limit_mismatch`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::{Client, Enqueued, Error, LimitMismatch, Lock, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fixture::Fixture;

const SECOND: Duration = Duration::from_secs(1);

/// Returns the semaphore `pool` with 5 slots and `on_limit_mismatch`.
fn pool_of_five(client: &Client, on_limit_mismatch: LimitMismatch) -> Semaphore {
    Semaphore::builder()
        .key("pool")
        .limit(5)
        .on_limit_mismatch(on_limit_mismatch)
        .client(client.clone())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn wait_out_waits_until_the_key_is_free_for_another_limit() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 8).unwrap();
    let held = old.acquire().await.unwrap();
    let pool = pool_of_five(&fixture.client, LimitMismatch::WaitOut);
    let started = Instant::now();
    let waiting = tokio::spawn(pool.acquire_within(120 * SECOND));
    sleep(10 * SECOND).await;
    held.release().await.unwrap();
    let held = waiting.await.unwrap().unwrap();
    // The server forgets the limit of an idle key after 60 s, when it next collects keys.
    let waited = started.elapsed();
    assert!((70 * SECOND..82 * SECOND).contains(&waited), "{waited:?}");
    assert_eq!(held.limit(), 5);
}

#[tokio::test(start_paused = true)]
async fn wait_out_ends_with_the_mismatch_when_the_wait_is_over() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 8).unwrap();
    let held = old.acquire().await.unwrap();
    let pool = pool_of_five(&fixture.client, LimitMismatch::WaitOut);
    for (wait, earliest) in [(0, 0), (3000, 2900), (50, 0)].map(|(wait, earliest)| {
        let millis = Duration::from_millis;
        (millis(wait), millis(earliest))
    }) {
        let started = Instant::now();
        let error = pool.clone().acquire_within(wait).await.unwrap_err();
        let waited = started.elapsed();
        assert!((earliest..=wait).contains(&waited), "{wait:?}: {waited:?}");
        let (ours, other) = (5, Some(8));
        assert!(
            matches!(error, Error::LimitMismatch { ours: o, theirs, .. } if (o, theirs) == (ours, other)),
            "{error:?}"
        );
    }
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn adopt_uses_the_limit_of_the_server() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 8).unwrap();
    let old_held = old.acquire().await.unwrap();
    let pool = pool_of_five(&fixture.client, LimitMismatch::Adopt);
    let mut holds = Vec::new();
    for _ in 0..7 {
        holds.push(pool.clone().try_acquire().await.unwrap());
    }
    let error = pool.clone().try_acquire().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    let error = pool.clone().acquire_within(2 * SECOND).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { waited, .. } if waited == 2 * SECOND));
    for held in &holds {
        assert_eq!(held.limit(), 8);
    }
    let seen = pool.try_with_slot(async |held| held.limit());
    drop(old_held);
    assert_eq!(seen.await.unwrap(), Some(8));
    // The idle semaphore has its own limit.
    let idle = holds.pop().unwrap().release().await.unwrap();
    assert_eq!(idle.limit(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_after_a_mismatch_names_the_whole_wait() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 1).unwrap();
    let old_held = old.acquire().await.unwrap();
    fixture.server.faults().delay_replies(SECOND / 10);
    let pool = pool_of_five(&fixture.client, LimitMismatch::Adopt);
    let started = Instant::now();
    let error = pool.acquire_within(2 * SECOND).await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { waited, .. } if waited == 2 * SECOND),
        "{error:?}"
    );
    assert!(started.elapsed() <= 3 * SECOND, "{:?}", started.elapsed());
    old_held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_adopted_limit_is_remembered_for_a_minute() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 8).unwrap();
    let old_held = old.acquire().await.unwrap();
    let pool = pool_of_five(&fixture.client, LimitMismatch::Adopt);
    pool.clone()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    old_held.release().await.unwrap();
    // No server reports the limit of an idle key. It is known to all semaphores of the client.
    let again = pool_of_five(&fixture.client, LimitMismatch::Adopt);
    let held = again.try_acquire().await.unwrap();
    assert_eq!(held.limit(), 8);
    sleep(40 * SECOND).await;
    held.release().await.unwrap();

    // After a minute the own limit is refused, because the server has not forgotten the other one.
    sleep(21 * SECOND).await;
    let held = pool.clone().try_acquire().await.unwrap();
    assert_eq!(held.limit(), 8);
    held.release().await.unwrap();

    sleep(66 * SECOND).await;
    let held = pool.clone().try_acquire().await.unwrap();
    assert_eq!(held.limit(), 5);
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn adopt_waits_while_the_limit_of_the_server_is_not_known() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 8).unwrap();
    old.acquire().await.unwrap().release().await.unwrap();
    let pool = pool_of_five(&fixture.client, LimitMismatch::Adopt);
    let error = pool.clone().try_acquire().await.unwrap_err();
    let is_unknown = matches!(
        error,
        Error::LimitMismatch {
            ours: 5,
            theirs: None,
            ..
        }
    );
    assert!(is_unknown, "{error:?}");
    let held = pool.acquire_within(90 * SECOND).await.unwrap();
    assert_eq!(held.limit(), 5);
}

#[tokio::test(start_paused = true)]
async fn enqueue_reacts_like_acquire() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 1).unwrap();
    let old_held = old.acquire().await.unwrap();
    let pool = pool_of_five(&fixture.client, LimitMismatch::Adopt);
    let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
        panic!("the only slot is taken")
    };
    assert_eq!(queued.limit(), 1);
    let waiting = pool_of_five(&fixture.client, LimitMismatch::WaitOut).enqueue();
    let error = waiting.await.unwrap_err();
    let is_named = matches!(
        error,
        Error::LimitMismatch {
            ours: 5,
            theirs: Some(1),
            ..
        }
    );
    assert!(is_named, "{error:?}");
    old_held.release().await.unwrap();
    let held = queued.wait().await.unwrap();
    assert_eq!(held.limit(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_has_a_default_that_a_semaphore_overrides() {
    let fixture = Fixture::new().await;
    let old = fixture.client.semaphore("pool", 8).unwrap();
    let old_held = old.acquire().await.unwrap();
    let adopting = fixture
        .server
        .client_builder()
        .connector(fixture.server.connector())
        .on_limit_mismatch(LimitMismatch::Adopt)
        .build()
        .unwrap();
    let held = adopting.semaphore("pool", 5).unwrap().try_acquire().await;
    assert_eq!(held.unwrap().limit(), 8);
    let failing = pool_of_five(&adopting, LimitMismatch::Fail).try_acquire();
    assert!(failing.await.unwrap_err().is_limit_mismatch());
    // A lock has no limit to adopt.
    let lock = Lock::builder()
        .key("pool")
        .client(adopting)
        .build()
        .unwrap();
    assert_eq!(lock.acquire().await.unwrap().limit(), 1);
    old_held.release().await.unwrap();
}

/// Runs two versions of a program for three minutes, and checks each grant.
///
/// The key is in use, then idle until the server has forgotten its limit, and then in use again.
/// The old version comes first before that, and the new version after it.
async fn run_two_versions(old: Client, new: Client, key: &'static str) {
    let start = Instant::now();
    let holders = Arc::new(AtomicU32::new(0));
    let mut workers = JoinSet::new();
    for (client, limit, begins) in [(old, 5, [0, 122]), (new, 8, [2, 120])] {
        let pool = Semaphore::builder()
            .key(key)
            .limit(limit)
            .on_limit_mismatch(LimitMismatch::Adopt)
            .client(client)
            .build()
            .unwrap();
        for _ in 0..10 {
            let (pool, holders) = (pool.clone(), holders.clone());
            workers.spawn(async move {
                let mut grants = [0; 2];
                for (period, end) in [50, 180].into_iter().enumerate() {
                    sleep_until(start + begins[period] * SECOND).await;
                    while start.elapsed() < end * SECOND {
                        let held = pool.clone().acquire().await.unwrap();
                        let expected = if period == 0 { 5 } else { 8 };
                        assert_eq!(held.limit(), expected);
                        let now = holders.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= expected, "{now} holders");
                        sleep(Duration::from_millis(50)).await;
                        holders.fetch_sub(1, Ordering::SeqCst);
                        held.release().await.unwrap();
                        grants[period] += 1;
                    }
                }
                grants
            });
        }
    }
    for grants in workers.join_all().await {
        assert!(grants.iter().all(|grants| *grants > 100), "{grants:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_versions_run_side_by_side_for_three_minutes() {
    let fixture = Fixture::new().await;
    let other = fixture.server.client_builder();
    let other = other.connector(fixture.server.connector()).build().unwrap();
    run_two_versions(fixture.client.clone(), other, "pool").await;
}

#[tokio::test]
#[ignore = "takes three minutes, on the servers of DFLOCK_SERVERS"]
async fn two_versions_run_side_by_side_on_other_servers() {
    let (old, new) = (Client::from_env().unwrap(), Client::from_env().unwrap());
    run_two_versions(old, new, "limit-mismatch").await;
}
