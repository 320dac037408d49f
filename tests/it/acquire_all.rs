//! Slots of several keys at once.

use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, ConfigError, Error, LostReason, Semaphore, acquire_all, acquire_all_within};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::bad_input::reads_well;
use crate::fixture::Fixture;
use crate::scripted_server::ScriptedServer;

const SECOND: Duration = Duration::from_secs(1);

impl Fixture {
    fn pools<const N: usize>(&self, keys: [&str; N]) -> [Semaphore; N] {
        keys.map(|key| self.client.semaphore(key, 1).unwrap())
    }

    /// Returns the number of holders of all semaphores.
    fn all_holders(&self) -> u64 {
        self.server
            .stats()
            .semaphores
            .iter()
            .map(|s| s.holders)
            .sum()
    }
}

#[tokio::test(start_paused = true)]
async fn all_slots_are_held_in_the_order_given_and_released_together() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(["c", "a", "b"]);
    for _ in 0..2 {
        let all = acquire_all(&pools).await.unwrap();
        assert_eq!(all.len(), 3);
        let keys: Vec<_> = all.iter().map(Semaphore::key).collect();
        assert_eq!(keys, ["c", "a", "b"]);
        assert_eq!(fixture.all_holders(), 3);
        // Longer than the default lease: each slot is renewed.
        all.run(sleep(100 * SECOND)).await.unwrap();
        all.check().unwrap();
        assert!(!all.is_lost());
        all.release().await.unwrap();
        assert_eq!(fixture.all_holders(), 0);
    }
    // The second round reused the connections of the first.
    assert_eq!(fixture.server.stats().connections, 3);
    let first = acquire_all(&pools)
        .await
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    // The server notices the drop of the others.
    sleep(Duration::from_millis(1)).await;
    assert_eq!((first.key(), fixture.all_holders()), ("c", 1));
}

#[tokio::test(start_paused = true)]
async fn slots_are_acquired_in_the_order_of_their_keys() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(["c", "b", "a"]);
    let busy = pools[1].clone().acquire().await.unwrap();
    let waiting = tokio::spawn(async move { acquire_all(&pools).await });
    sleep(SECOND).await;
    let state = |key| (fixture.holders(key), fixture.waiters(key));
    assert_eq!(
        [state("a"), state("b"), state("c")],
        [(1, 0), (1, 1), (0, 0)]
    );
    busy.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn callers_with_any_order_of_arguments_do_not_wait_for_each_other() {
    let fixture = Fixture::new().await;
    let keys = ["a", "b", "c", "d", "e"];
    let mut tasks = JoinSet::new();
    for task in 0..30 {
        // A third of the tasks have each direction and distance.
        let (first, step) = (task % 5, 1 + task % 4);
        let wanted = [0, 1, 2].map(|n| keys[(first + n * step) % 5]);
        let pools = fixture.pools(wanted);
        tasks.spawn(async move {
            for _ in 0..10 {
                let all = acquire_all_within(&pools, 600 * SECOND).await?;
                sleep(Duration::from_millis(10)).await;
                all.release().await?;
            }
            Ok::<_, Error>(())
        });
    }
    let began = Instant::now();
    while let Some(task) = tasks.join_next().await {
        task.unwrap().unwrap();
    }
    // One after the other they would take 3 s.
    assert!(began.elapsed() <= 4 * SECOND, "{:?}", began.elapsed());
    assert_eq!(fixture.all_holders(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_covers_all_keys() {
    let fixture = Fixture::new().await;
    let pool = |key, timeout| {
        Semaphore::builder()
            .key(key)
            .limit(1)
            .acquire_timeout(timeout)
            .client(fixture.client.clone())
            .build()
            .unwrap()
    };
    let (a, b, c) = (
        pool("a", 60 * SECOND),
        pool("b", 2 * SECOND),
        pool("c", 9 * SECOND),
    );
    let (first, last) = (
        a.clone().acquire().await.unwrap(),
        c.clone().acquire().await.unwrap(),
    );
    let began = Instant::now();
    let waiting = tokio::spawn(async move { acquire_all([&a, &b, &c]).await });
    sleep(Duration::from_millis(1500)).await;
    first.release().await.unwrap();
    sleep(Duration::from_millis(499)).await;
    assert_eq!(fixture.all_holders(), 3);
    let error = waiting.await.unwrap().unwrap_err();
    let took = began.elapsed();
    assert!(
        (2 * SECOND..=2 * SECOND + Duration::from_millis(5)).contains(&took),
        "{took:?}"
    );
    assert!(
        matches!(&error, Error::Timeout { waited, .. } if *waited == 2 * SECOND),
        "{error:?}"
    );
    assert_eq!(error.key(), Some("c"));
    // The slots that were taken are free at once.
    sleep(Duration::from_millis(1)).await;
    assert_eq!((fixture.all_holders(), fixture.waiters("c")), (1, 0));
    last.check().unwrap();
}

/// A whole number of seconds is left for the second key, so an acquire waits for the server's reply.
#[tokio::test(start_paused = true)]
async fn nothing_is_held_past_the_deadline_until_the_server_answers() {
    let fixture = Fixture::new().await;
    let [a, b] = fixture.pools(["a", "b"]);
    let _busy = b.clone().acquire().await.unwrap();
    let began = Instant::now();
    let waiting = tokio::spawn(async move { acquire_all_within([&a, &b], 2 * SECOND).await });
    sleep(SECOND).await;
    assert_eq!((fixture.holders("a"), fixture.waiters("b")), (1, 1));
    fixture
        .server
        .faults()
        .delay_replies(Duration::from_millis(200));
    let error = waiting.await.unwrap().unwrap_err();
    let took = began.elapsed();
    assert!(error.is_timeout(), "{error:?}");
    assert!(took < 2 * SECOND + Duration::from_millis(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_zero_takes_free_slots_only() {
    let fixture = Fixture::new().await;
    let [a, b] = fixture.pools(["a", "b"]);
    let free = acquire_all_within([&b, &a], Duration::ZERO).await.unwrap();
    free.release().await.unwrap();
    let busy = b.clone().acquire().await.unwrap();
    let began = Instant::now();
    let error = acquire_all_within([&b, &a], Duration::ZERO)
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!((error.key(), began.elapsed()), (Some("b"), Duration::ZERO));
    sleep(Duration::from_millis(1)).await;
    assert_eq!((fixture.holders("a"), fixture.waiters("b")), (0, 0));
    busy.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_gives_up_slots_and_place() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(["a", "b", "c"]);
    let busy = pools[2].clone().acquire().await.unwrap();
    assert!(timeout(SECOND, acquire_all(&pools)).await.is_err());
    sleep(Duration::from_millis(1)).await;
    assert_eq!((fixture.all_holders(), fixture.waiters("c")), (1, 0));
    busy.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loss_during_the_wait_for_another_key_ends_the_call() {
    let fixture = Fixture::new().await;
    let pools = fixture.pools(["a", "b", "c"]);
    let busy = pools[2].clone().acquire().await.unwrap();
    let waiting = tokio::spawn(async move { acquire_all_within(&pools, 600 * SECOND).await });
    sleep(SECOND).await;
    fixture.server.faults().disconnect("a");
    let error = timeout(SECOND, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(error.is_lost(), "{error:?}");
    assert_eq!(error.key(), Some("a"));
    sleep(Duration::from_millis(1)).await;
    assert_eq!((fixture.all_holders(), fixture.waiters("c")), (1, 0));
    busy.check().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_one_slot_is_the_loss_of_all() {
    let fixture = Fixture::new().await;
    let all = acquire_all(&fixture.pools(["a", "b", "c"])).await.unwrap();
    let body = all.run(sleep(600 * SECOND));
    let fault = async {
        sleep(SECOND).await;
        fixture.server.faults().disconnect("b");
    };
    let (ended, ()) = timeout(2 * SECOND, async { tokio::join!(body, fault) })
        .await
        .unwrap();
    let lost = timeout(SECOND, all.lost()).await.unwrap();
    assert_eq!((&*lost.key, lost.reason), ("b", LostReason::Disconnected));
    assert!(matches!(ended, Err(Error::Lost(ended)) if ended == lost));
    assert_eq!(all.check(), Err(lost.clone()));
    assert!(all.is_lost());
    // The others are held until they are given up, and the release reports the loss.
    assert_eq!(fixture.all_holders(), 2);
    let error = all.release().await.unwrap_err();
    assert!(matches!(error, Error::Lost(error) if error == lost));
    assert_eq!(fixture.all_holders(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drop_frees_all_slots() {
    let fixture = Fixture::new().await;
    let all = acquire_all(&fixture.pools(["a", "b"])).await.unwrap();
    assert_eq!(fixture.all_holders(), 2);
    drop(all);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.all_holders(), 0);
}

#[tokio::test]
async fn the_keys_may_live_on_several_servers() {
    let servers = [
        Server::start().await.unwrap(),
        Server::start().await.unwrap(),
    ];
    let client = Client::builder()
        .servers(servers.iter().map(|server| server.addr().to_string()))
        .build()
        .unwrap();
    let locks: Vec<_> = (0..8)
        .map(|n| client.lock(format!("lock-{n}")).unwrap())
        .collect();
    let all = acquire_all(&locks).await.unwrap();
    let held = servers.each_ref().map(|server| server.stats().locks.len());
    assert!(
        held[0] + held[1] == 8 && held.iter().all(|held| *held > 0),
        "{held:?}"
    );
    all.release().await.unwrap();
}

#[tokio::test]
async fn wrong_arguments_are_refused_before_a_byte_is_sent() {
    let (server, other) = (ScriptedServer::memory([]), ScriptedServer::memory([]));
    let client = server.client();
    let [a, b] = ["a", "b"].map(|key| client.semaphore(key, 2).unwrap());
    let refused = async |semaphores: &[&Semaphore], wait| {
        let error = acquire_all_within(semaphores.iter().copied(), wait)
            .await
            .unwrap_err();
        let Error::Config(error) = error else {
            panic!("{error:?}");
        };
        error
    };
    let error = refused(&[], SECOND).await;
    assert_eq!(error, ConfigError::NoSemaphores);
    reads_well(&error, &["acquire_all", "at least one"]);

    let again = client.semaphore("a", 2).unwrap();
    let error = refused(&[&a, &b, &again], SECOND).await;
    assert_eq!(
        error,
        ConfigError::RepeatedKey {
            key: "a".to_owned()
        }
    );
    reads_well(&error, &["acquire_all", "\"a\"", "twice"]);

    let foreign = other.client().semaphore("c", 2).unwrap();
    let error = refused(&[&foreign, &a], SECOND).await;
    let keys = ["a".to_owned(), "c".to_owned()];
    assert_eq!(error, ConfigError::DifferentClients { keys });
    reads_well(&error, &["acquire_all", "\"a\"", "\"c\"", "one client"]);

    let error = refused(&[&a, &b], Duration::MAX).await;
    assert_eq!(
        error,
        ConfigError::Wait {
            wait: Duration::MAX
        }
    );
    // Without semaphores, `acquire_all` has no `acquire_timeout` to choose.
    let error = acquire_all::<dflock::Counting, _>([]).await.unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::NoSemaphores)));
    assert_eq!((server.connections(), other.connections()), (0, 0));
}
