//! Metrics. Each gauge returns to zero, and each outcome has a label.

mod recorder;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::{Enqueued, Error, Held, Semaphore};
use tokio::time::sleep;

use crate::fixture::Fixture;
use crate::scripted_server::*;
use recorder::Recorder;

const SECOND: Duration = Duration::from_secs(1);

fn pool(fixture: &Fixture) -> Semaphore {
    fixture.client.semaphore("pool", 1).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_measured_with_its_outcome() {
    type Outcome = (&'static str, fn(Semaphore<Held>, &Fixture));
    let outcomes: [Outcome; 9] = [
        ("released: 3", |held, _| drop(tokio::spawn(held.release()))),
        ("dropped: 3", |held, _| drop(held)),
        ("closed: 3", |held, _| drop(held.close())),
        ("dropped: 3", |held, _| {
            tokio::spawn(async move {
                let _held = held;
                panic!("on purpose");
            });
        }),
        ("lost: 3", |held, fixture| {
            fixture.server.faults().disconnect("pool");
            tokio::spawn(async move { held.lost().await });
        }),
        // The server has given the slot to another client.
        ("lost: 3", |held, fixture| {
            fixture.server.faults().expire("pool");
            tokio::spawn(held.release());
        }),
        // The release is neither confirmed nor awaited.
        ("closed: 8", |held, fixture| {
            fixture.server.faults().freeze();
            tokio::spawn(held.release());
        }),
        ("dropped: 5", |held, fixture| {
            fixture.server.faults().freeze();
            tokio::spawn(tokio::time::timeout(2 * SECOND, held.release()));
        }),
        // A loss is counted even if the owner has not observed it.
        ("lost: 23", |held, fixture| {
            fixture.server.faults().freeze();
            tokio::spawn(async move {
                sleep(40 * SECOND).await;
                drop(held.close());
            });
        }),
    ];
    for (outcome, end) in outcomes {
        let recorder = Recorder::new();
        let fixture = Fixture::new().await;
        let held = pool(&fixture).acquire().await.unwrap();
        sleep(3 * SECOND).await;
        assert_eq!(recorder.snapshot().gauge_changes(), (0.0, 1.0), "{outcome}");
        end(held, &fixture);
        sleep(50 * SECOND).await;
        let snapshot = recorder.snapshot();
        let losses = if outcome.starts_with("lost") {
            1.0
        } else {
            0.0
        };
        assert_eq!(
            (
                snapshot.gauge_changes(),
                snapshot.outcomes(),
                snapshot.losses()
            ),
            ((0.0, -1.0), vec![format!("hold {outcome}")], losses)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_permit_counts_as_a_held_slot() {
    let recorder = Recorder::new();
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 4).unwrap();
    let held = pool.acquire_many(3).await.unwrap();
    assert_eq!(recorder.snapshot().gauge_changes(), (0.0, 3.0));
    sleep(3 * SECOND).await;
    held.release().await.unwrap();
    let snapshot = recorder.snapshot();
    assert_eq!(snapshot.gauge_changes(), (0.0, -3.0));
    // It is one hold.
    assert_eq!(snapshot.outcomes(), ["hold released: 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_measured_with_its_outcome() {
    type Outcome = (&'static str, fn(Semaphore, &Fixture));
    let outcomes: [Outcome; 6] = [
        ("timeout: 5", |pool, _| {
            drop(tokio::spawn(pool.acquire_within(5 * SECOND)));
        }),
        ("failed: 5", |pool, fixture| {
            fixture.server.faults().freeze();
            tokio::spawn(pool.enqueue());
        }),
        ("dropped: 5", |pool, _| {
            drop(tokio::spawn(tokio::time::timeout(
                5 * SECOND,
                pool.acquire(),
            )));
        }),
        ("timeout: 5", |pool, _| {
            tokio::spawn(async {
                let Enqueued::Queued(queued) = pool.enqueue().await? else {
                    panic!("the slot is taken")
                };
                queued.wait_within(5 * SECOND).await
            });
        }),
        ("dropped: 5", |pool, _| {
            tokio::spawn(async {
                let _queued = pool.enqueue().await;
                sleep(5 * SECOND).await;
            });
        }),
        // The server rejects the request immediately.
        ("failed: 0", |pool, fixture| {
            let other = fixture.client.semaphore(pool.key(), 2).unwrap();
            tokio::spawn(other.acquire());
        }),
    ];
    for (outcome, begin) in outcomes {
        let recorder = Recorder::new();
        let fixture = Fixture::new().await;
        let _held = pool(&fixture).acquire().await.unwrap();
        recorder.snapshot();
        begin(pool(&fixture), &fixture);
        sleep(SECOND).await;
        let now = recorder.snapshot();
        sleep(6 * SECOND).await;
        let then = recorder.snapshot();
        assert_eq!(
            [now.outcomes(), then.outcomes()].concat(),
            [format!("wait {outcome}")]
        );
        assert_eq!(
            (
                now.gauge_changes().0 + then.gauge_changes().0,
                now.gauge_changes().1 + then.gauge_changes().1
            ),
            (0.0, 0.0),
            "{outcome}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_is_waiting_until_its_grant_and_then_holding() {
    let recorder = Recorder::new();
    let fixture = Fixture::new().await;
    let held = pool(&fixture).acquire().await.unwrap();
    let Enqueued::Queued(queued) = pool(&fixture).enqueue().await.unwrap() else {
        panic!("the slot is taken")
    };
    sleep(5 * SECOND).await;
    assert_eq!(recorder.snapshot().gauge_changes(), (1.0, 1.0));
    held.release().await.unwrap();
    sleep(SECOND).await;
    let snapshot = recorder.snapshot();
    assert!(queued.is_granted());
    assert_eq!(
        (
            snapshot.gauge_changes(),
            snapshot.values("dflock_wait_seconds granted")
        ),
        ((-1.0, 0.0), vec![5.0])
    );
    sleep(SECOND).await;
    queued.wait().await.unwrap().release().await.unwrap();
    let snapshot = recorder.snapshot();
    assert_eq!(
        (snapshot.gauge_changes(), snapshot.outcomes()),
        ((0.0, -1.0), vec!["hold released: 2".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn renewals_are_counted_with_the_remaining_lease() {
    let recorder = Recorder::new();
    let fixture = Fixture::new().await;
    let held = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(20 * SECOND)
        .client(fixture.client.clone())
        .build()
        .unwrap();
    let held = held.acquire().await.unwrap();
    sleep(10 * SECOND).await;
    held.renew().await.unwrap();
    let snapshot = recorder.snapshot();
    // The first renewal is after 4 to 8 s. The rest is the remaining time of 10 s, of 19.8 s each.
    assert_eq!(snapshot.values("dflock_renewals_total"), [2.0]);
    let margins = snapshot.values("dflock_renewal_margin_seconds");
    let [first, second] = margins[..] else {
        panic!("{margins:?}")
    };
    assert!(
        (11.0..=16.0).contains(&first) && (29.0..=31.0).contains(&(first + second)),
        "{margins:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn losses_are_counted_by_reason() {
    type Fault = (&'static str, fn(&Fixture));
    let faults: [Fault; 3] = [
        ("rejected", |fixture| {
            _ = fixture.server.faults().expire("pool");
        }),
        ("disconnected", |fixture| {
            fixture.server.faults().disconnect("pool");
        }),
        ("unreachable", |fixture| fixture.server.faults().freeze()),
    ];
    for (reason, inject) in faults {
        let recorder = Recorder::new();
        let fixture = Fixture::new().await;
        let held = pool(&fixture).acquire().await.unwrap();
        inject(&fixture);
        held.lost().await;
        drop(held);
        sleep(SECOND).await;
        assert_eq!(
            recorder
                .snapshot()
                .values(&format!("dflock_lost_total {reason}")),
            [1.0]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_lost_before_the_caller_received_it_is_counted_without_a_callback() {
    let recorder = Recorder::new();
    let fixture = Fixture::new().await;
    let snapshot = Arc::new(AtomicU32::new(0));
    let count = snapshot.clone();
    let waiter = Semaphore::builder()
        .key("pool")
        .limit(1)
        .client(fixture.client.clone());
    let waiter = waiter
        .on_lost(move |_| _ = count.fetch_add(1, Ordering::Relaxed))
        .build()
        .unwrap();
    let held = pool(&fixture).acquire().await.unwrap();
    let Enqueued::Queued(queued) = waiter.enqueue().await.unwrap() else {
        panic!("the slot is taken")
    };
    held.release().await.unwrap();
    sleep(SECOND).await;
    recorder.snapshot();
    fixture.server.faults().disconnect("pool");
    sleep(SECOND).await;
    let restored = recorder.snapshot();
    assert_eq!(
        (
            restored.outcomes(),
            restored.values("dflock_lost_total disconnected")
        ),
        (vec!["hold lost: 1".to_owned()], vec![1.0])
    );
    assert!(queued.wait().await.unwrap_err().is_lost());
    assert_eq!(
        (
            recorder.snapshot().losses(),
            snapshot.load(Ordering::Relaxed)
        ),
        (0.0, 0)
    );
}

// Both requests whose late grant is confirmed first.
#[tokio::test(start_paused = true)]
async fn a_slot_that_expires_before_its_confirmation_is_not_a_hold() {
    let granted = "ok 00000000000000010123456789abcdef 1\n";
    let confirmed = [
        send(granted),
        expect(RENEW),
        checkpoint(),
        wait_for_test(),
        send("ok 1\n"),
        expect(RELEASE),
    ];
    let requests = [
        (false, vec![expect(ENQUEUE), send("queued\n"), expect(WAIT)]),
        (true, vec![expect(ACQUIRE), checkpoint(), wait_for_test()]),
    ];
    for (blocks, request) in requests {
        let recorder = Recorder::new();
        let server = ScriptedServer::memory([[&request[..], &confirmed[..]].concat()]);
        let pool = server.pool();
        let waiter = tokio::spawn(async move {
            if blocks {
                return pool.acquire().await;
            }
            let Enqueued::Queued(queued) = pool.enqueue().await? else {
                panic!("the reply was `queued`")
            };
            queued.wait().await
        });
        if blocks {
            server.reached().await;
            sleep(SECOND).await;
            server.resume();
        }
        server.reached().await;
        sleep(2 * SECOND).await;
        server.resume();
        let error = waiter.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::LeaseExpired { .. }), "{error:?}");
        server.finish().await;
        let snapshot = recorder.snapshot();
        let wait_seconds = if blocks { 3 } else { 2 };
        assert_eq!(
            (
                snapshot.outcomes(),
                snapshot.losses(),
                snapshot.gauge_changes()
            ),
            (
                vec![format!("wait failed: {wait_seconds}")],
                0.0,
                (0.0, 0.0)
            )
        );
    }
}

#[tokio::test(start_paused = true)]
async fn new_and_reused_connections_are_counted() {
    let recorder = Recorder::new();
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        pool(&fixture)
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    let snapshot = recorder.snapshot();
    assert_eq!(
        (
            snapshot.values("dflock_connections_opened_total"),
            snapshot.values("dflock_connections_reused_total")
        ),
        (vec![1.0], vec![2.0])
    );
}

#[tokio::test]
async fn a_dead_idle_connection_is_not_reused() {
    let recorder = Recorder::new();
    let server = ScriptedServer::tcp([
        vec![expect(PING), send(OK), expect(ACQUIRE), close()],
        vec![expect(ACQUIRE), send(GRANT)],
    ])
    .await;
    let client = server.client();
    client.ping().await.unwrap();
    client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap()
        .close();
    server.finish().await;
    let snapshot = recorder.snapshot();
    assert_eq!(
        (
            snapshot.values("dflock_connections_opened_total"),
            snapshot.values("dflock_connections_reused_total")
        ),
        (vec![2.0], vec![])
    );
}
