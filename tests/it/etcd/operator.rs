//! What operators see and do: holders, stats, revocation.

use std::time::{Duration, Instant};

use dflock::{Client, Error, LostReason};

use tokio::time::timeout;

use super::{LONG, SECOND, builder, client, semaphore};
use dflock_tests::etcd_cluster::shared_cluster;

#[tokio::test]
async fn holders_are_listed_in_the_order_of_their_grants() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let client = client(cluster);
    let pool = semaphore(&client, "listed/ä%", 2, SECOND * 10);
    let held = [
        pool.clone().acquire().await.unwrap(),
        pool.clone().acquire().await.unwrap(),
    ];
    let _waiting = pool.clone().enqueue().await.unwrap();
    let holders = client.holders("listed/ä%").await.unwrap();
    let tokens: Vec<_> = holders.iter().map(|holder| holder.token).collect();
    assert_eq!(tokens, held.each_ref().map(|held| *held.token()));
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_string_lossy();
    assert_eq!(holders[0].program, program);
    assert!(!holders[0].host.is_empty());
    assert_eq!(holders[0].pid, std::process::id());
    assert_eq!((holders[0].permits, holders[0].limit), (1, 2));
    assert!(holders[0].joined_at.elapsed().unwrap() < SECOND * 60);
    let lock = client.lock("listed/ä%").unwrap().acquire().await.unwrap();
    let holders = client.holders("listed/ä%").await.unwrap();
    let locks: Vec<_> = holders.iter().map(|holder| holder.is_lock).collect();
    assert_eq!(locks, [true, false, false]);
    assert_eq!(holders[0].token, *lock.token());
    assert!(client.holders("unknown").await.unwrap().is_empty());
    let stats = client.stats().await.unwrap();
    assert_eq!(stats.len(), 1);
    let found = stats[0]
        .semaphores
        .iter()
        .find(|s| s.key == "listed/ä%")
        .unwrap();
    assert_eq!((found.limit, found.holders, found.waiters), (2, 2, 1));
}

#[tokio::test]
async fn a_revoked_slot_is_lost_with_its_reason() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (holder, operator) = (client(cluster), client(cluster));
    let pool = semaphore(&holder, "revoked", 1, SECOND * 2);
    let held = pool.clone().acquire().await.unwrap();
    assert!(operator.revoke("revoked", held.token()).await.unwrap());
    assert!(!operator.revoke("revoked", held.token()).await.unwrap());
    let lost = timeout(LONG, held.lost()).await.unwrap();
    assert_eq!(
        (lost.reason, lost.token),
        (LostReason::Revoked, *held.token())
    );
    assert!(held.check().is_err());
    // Found out by the release, if that comes first.
    let held = pool.acquire().await.unwrap();
    assert!(operator.revoke("revoked", held.token()).await.unwrap());
    let error = held.release().await.unwrap_err();
    let Error::Lost(lost) = error else {
        panic!("{error:?}");
    };
    assert_eq!(lost.reason, LostReason::Revoked);
}

// The session renews its lease, and with it the other slots, while the executor is blocked.
#[tokio::test]
async fn a_blocked_executor_finds_by_check_that_its_slot_was_revoked() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (holder, operator) = (client(cluster), client(cluster));
    let pool = semaphore(&holder, "blocked", 1, SECOND * 2);
    let held = pool.acquire().await.unwrap();
    assert!(operator.revoke("blocked", held.token()).await.unwrap());
    let revoked_at = Instant::now();
    let lost = loop {
        if let Err(lost) = held.check() {
            break lost;
        }
        assert!(
            revoked_at.elapsed() < SECOND * 10,
            "the slot passes its check"
        );
        std::thread::sleep(SECOND / 100);
    };
    assert_eq!(lost.reason, LostReason::Revoked);
    assert_eq!(held.remaining(), Duration::ZERO);
}

#[tokio::test]
async fn a_prefix_separates_its_users() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let on = |prefix: &str| builder(cluster).etcd_prefix(prefix).build().unwrap();
    let mut held = Vec::new();
    for prefix in ["a", "b/", "", "ü %/", "a/b"] {
        let client = on(prefix);
        let slot = client.semaphore("same", 1).unwrap().try_acquire().await;
        held.push(slot.unwrap_or_else(|error| panic!("{prefix:?}: {error}")));
        assert_eq!(client.holders("same").await.unwrap().len(), 1);
    }
    // With the slash or without it.
    let busy = on("a/").semaphore("same", 1).unwrap().try_acquire().await;
    assert!(busy.unwrap_err().is_timeout());
    assert!(matches!(
        builder(cluster).etcd_prefix("a\n").build(),
        Err(dflock::ConfigError::EtcdPrefix { .. })
    ));
}

#[tokio::test]
async fn dflockd_says_that_it_cannot() {
    let server = dflock::server::Server::start().await.unwrap();
    let client: Client = server.client();
    let pool = client.semaphore("key", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let queued = match pool.enqueue().await.unwrap() {
        dflock::Enqueued::Queued(queued) => queued,
        dflock::Enqueued::Acquired(_) => panic!("the slot was free"),
    };
    for error in [
        client.holders("key").await.map(drop).unwrap_err(),
        client
            .revoke("key", held.token())
            .await
            .map(drop)
            .unwrap_err(),
        queued.position().await.map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                Error::Unsupported {
                    engine: "dflockd",
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("dflockd"), "{error}");
    }
}
