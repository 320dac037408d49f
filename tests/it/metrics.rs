//! The metrics: who is counted is counted out however it ends, and each ending has its name.

mod recorder;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::{Enqueued, Error, Held, Semaphore};
use tokio::time::sleep;

use crate::house::House;
use crate::peer::*;
use recorder::Recorder;

const SECOND: Duration = Duration::from_secs(1);

fn pool(house: &House) -> Semaphore {
    house.client.semaphore("pool", 1).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_measured_and_its_end_has_a_name() {
    type Ending = (&'static str, fn(Semaphore<Held>, &House));
    let endings: [Ending; 9] = [
        ("released: 3", |held, _| drop(tokio::spawn(held.release()))),
        ("dropped: 3", |held, _| drop(held)),
        ("closed: 3", |held, _| drop(held.close())),
        ("dropped: 3", |held, _| {
            tokio::spawn(async move {
                let _held = held;
                panic!("on purpose");
            });
        }),
        ("lost: 3", |held, house| {
            house.server.faults().disconnect("pool");
            tokio::spawn(async move { held.lost().await });
        }),
        // the server gave it to another before
        ("lost: 3", |held, house| {
            house.server.faults().expire("pool");
            tokio::spawn(held.release());
        }),
        // its release is not confirmed, nor waited for
        ("closed: 8", |held, house| {
            house.server.faults().freeze();
            tokio::spawn(held.release());
        }),
        ("dropped: 5", |held, house| {
            house.server.faults().freeze();
            tokio::spawn(tokio::time::timeout(2 * SECOND, held.release()));
        }),
        // a loss is one even if its owner was never told
        ("lost: 23", |held, house| {
            house.server.faults().freeze();
            tokio::spawn(async move {
                sleep(40 * SECOND).await;
                drop(held.close());
            });
        }),
    ];
    for (outcome, end) in endings {
        let recorder = Recorder::new();
        let house = House::new().await;
        let held = pool(&house).acquire().await.unwrap();
        sleep(3 * SECOND).await;
        assert_eq!(recorder.told().more(), (0.0, 1.0), "{outcome}");
        end(held, &house);
        sleep(50 * SECOND).await;
        let told = recorder.told();
        let losses = if outcome.starts_with("lost") {
            1.0
        } else {
            0.0
        };
        assert_eq!(
            (told.more(), told.endings(), told.losses()),
            ((0.0, -1.0), vec![format!("hold {outcome}")], losses)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_measured_and_its_end_has_a_name() {
    type Ending = (&'static str, fn(Semaphore, &House));
    let endings: [Ending; 6] = [
        ("timeout: 5", |pool, _| {
            drop(tokio::spawn(pool.acquire_within(5 * SECOND)));
        }),
        ("failed: 5", |pool, house| {
            house.server.faults().freeze();
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
        // the server says no at once
        ("failed: 0", |pool, house| {
            let other = house.client.semaphore(pool.key(), 2).unwrap();
            tokio::spawn(other.acquire());
        }),
    ];
    for (outcome, begin) in endings {
        let recorder = Recorder::new();
        let house = House::new().await;
        let _taken = pool(&house).acquire().await.unwrap();
        recorder.told();
        begin(pool(&house), &house);
        sleep(SECOND).await;
        let now = recorder.told();
        sleep(6 * SECOND).await;
        let then = recorder.told();
        assert_eq!(
            [now.endings(), then.endings()].concat(),
            [format!("wait {outcome}")]
        );
        assert_eq!(
            (now.more().0 + then.more().0, now.more().1 + then.more().1),
            (0.0, 0.0),
            "{outcome}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_in_line_waits_until_its_grant_and_holds_from_then_on() {
    let recorder = Recorder::new();
    let house = House::new().await;
    let held = pool(&house).acquire().await.unwrap();
    let Enqueued::Queued(queued) = pool(&house).enqueue().await.unwrap() else {
        panic!("the slot is taken")
    };
    sleep(5 * SECOND).await;
    assert_eq!(recorder.told().more(), (1.0, 1.0));
    held.release().await.unwrap();
    sleep(SECOND).await;
    let told = recorder.told();
    assert!(queued.is_granted());
    assert_eq!(
        (told.more(), told.of("dflock_wait_seconds granted")),
        ((-1.0, 0.0), vec![5.0])
    );
    sleep(SECOND).await;
    queued.wait().await.unwrap().release().await.unwrap();
    let told = recorder.told();
    assert_eq!(
        (told.more(), told.endings()),
        ((0.0, -1.0), vec!["hold released: 2".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn renewals_are_counted_with_what_was_left_of_the_lease() {
    let recorder = Recorder::new();
    let house = House::new().await;
    let held = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(20 * SECOND)
        .client(house.client.clone())
        .build()
        .unwrap();
    let held = held.acquire().await.unwrap();
    sleep(10 * SECOND).await;
    held.renew().await.unwrap();
    let told = recorder.told();
    // after 4 to 8 s, and after what is left of 10 s, of 19.8 s each
    assert_eq!(told.of("dflock_renewals_total"), [2.0]);
    let margins = told.of("dflock_renewal_margin_seconds");
    let [first, second] = margins[..] else {
        panic!("{margins:?}")
    };
    assert!(
        (11.0..=16.0).contains(&first) && (29.0..=31.0).contains(&(first + second)),
        "{margins:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn losses_are_counted_by_their_reason() {
    type Fault = (&'static str, fn(&House));
    let faults: [Fault; 3] = [
        ("rejected", |house| _ = house.server.faults().expire("pool")),
        ("disconnected", |house| {
            house.server.faults().disconnect("pool");
        }),
        ("unreachable", |house| house.server.faults().freeze()),
    ];
    for (reason, happens) in faults {
        let recorder = Recorder::new();
        let house = House::new().await;
        let held = pool(&house).acquire().await.unwrap();
        happens(&house);
        held.lost().await;
        drop(held);
        sleep(SECOND).await;
        assert_eq!(
            recorder.told().of(&format!("dflock_lost_total {reason}")),
            [1.0]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_lost_before_anybody_took_it_over_is_counted_and_told_to_nobody() {
    let recorder = Recorder::new();
    let house = House::new().await;
    let told = Arc::new(AtomicU32::new(0));
    let count = told.clone();
    let waiter = Semaphore::builder()
        .key("pool")
        .limit(1)
        .client(house.client.clone());
    let waiter = waiter
        .on_lost(move |_| _ = count.fetch_add(1, Ordering::Relaxed))
        .build()
        .unwrap();
    let held = pool(&house).acquire().await.unwrap();
    let Enqueued::Queued(queued) = waiter.enqueue().await.unwrap() else {
        panic!("the slot is taken")
    };
    held.release().await.unwrap();
    sleep(SECOND).await;
    recorder.told();
    house.server.faults().disconnect("pool");
    sleep(SECOND).await;
    let told_then = recorder.told();
    assert_eq!(
        (
            told_then.endings(),
            told_then.of("dflock_lost_total disconnected")
        ),
        (vec!["hold lost: 1".to_owned()], vec![1.0])
    );
    assert!(queued.wait().await.unwrap_err().is_lost());
    assert_eq!(
        (recorder.told().losses(), told.load(Ordering::Relaxed)),
        (0.0, 0)
    );
}

// the two ways to a grant that is confirmed first
#[tokio::test(start_paused = true)]
async fn a_slot_whose_lease_ends_before_it_is_confirmed_was_never_held() {
    let granted = "ok 00000000000000010123456789abcdef 1\n";
    let confirmed = [
        say(granted),
        hear(RENEW),
        tell(),
        cue(),
        say("ok 1\n"),
        hear(RELEASE),
    ];
    let ways = [
        (false, vec![hear(ENQUEUE), say("queued\n"), hear(WAIT)]),
        (true, vec![hear(ACQUIRE), tell(), cue()]),
    ];
    for (blocks, asked) in ways {
        let recorder = Recorder::new();
        let peer = Peer::memory([[&asked[..], &confirmed[..]].concat()]);
        let pool = peer.pool();
        let asking = tokio::spawn(async move {
            if blocks {
                return pool.acquire().await;
            }
            let Enqueued::Queued(queued) = pool.enqueue().await? else {
                panic!("the peer said `queued`")
            };
            queued.wait().await
        });
        if blocks {
            peer.told().await;
            sleep(SECOND).await;
            peer.cue();
        }
        peer.told().await;
        sleep(2 * SECOND).await;
        peer.cue();
        let error = asking.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::LeaseExpired { .. }), "{error:?}");
        peer.finish().await;
        let told = recorder.told();
        let waited = if blocks { 3 } else { 2 };
        assert_eq!(
            (told.endings(), told.losses(), told.more()),
            (vec![format!("wait failed: {waited}")], 0.0, (0.0, 0.0))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_counted_made_and_used_again() {
    let recorder = Recorder::new();
    let house = House::new().await;
    for _ in 0..3 {
        pool(&house)
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    let told = recorder.told();
    assert_eq!(
        (
            told.of("dflock_connections_opened_total"),
            told.of("dflock_connections_reused_total")
        ),
        (vec![1.0], vec![2.0])
    );
}

#[tokio::test]
async fn a_connection_that_died_while_it_was_idle_is_not_used_again() {
    let recorder = Recorder::new();
    let peer = Peer::tcp([
        vec![hear(PING), say(OK), hear(ACQUIRE), close()],
        vec![hear(ACQUIRE), say(GRANT)],
    ])
    .await;
    let client = peer.client();
    client.ping().await.unwrap();
    client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap()
        .close();
    peer.finish().await;
    let told = recorder.told();
    assert_eq!(
        (
            told.of("dflock_connections_opened_total"),
            told.of("dflock_connections_reused_total")
        ),
        (vec![2.0], vec![])
    );
}
