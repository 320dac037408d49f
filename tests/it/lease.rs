//! Renewal, expiry and loss of leases. A loss is reported before another client can hold the slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dflock::{Held, Lost, LostReason, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{Fixture, server};
use crate::scripted_server::*;

const SECOND: Duration = Duration::from_secs(1);

fn pool(fixture: &Fixture, lease: Duration) -> Semaphore {
    Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(lease)
        .client(fixture.client.clone())
        .build()
        .unwrap()
}

async fn acquire(fixture: &Fixture, lease: Duration) -> Semaphore<Held> {
    pool(fixture, lease).acquire().await.unwrap()
}

// Covers bugs T02, N2, N3, T01.
#[tokio::test(start_paused = true)]
async fn a_lease_of_any_length_is_renewed() {
    for (lease, hold) in [
        (1, 10),
        (2, 60),
        (33, 300),
        (60, 300),
        (3600, 8000),
        (9_223_372_036, 300),
    ] {
        let fixture = Fixture::new().await;
        let held = acquire(&fixture, Duration::from_secs(lease)).await;
        sleep(Duration::from_secs(hold)).await;
        held.check()
            .unwrap_or_else(|lost| panic!("{lease} s: {lost}"));
        assert_eq!(fixture.holders("pool"), 1, "{lease} s");
        held.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_within_any_configured_read_timeout() {
    for read_timeout in [2, 3, 5, 11, 23] {
        let fixture = Fixture::with_config(
            server()
                .read_timeout(Duration::from_secs(read_timeout))
                .build(),
        )
        .await;
        for lease in [1, 2, 7, 46, 3600, 86_400] {
            let held = acquire(&fixture, Duration::from_secs(lease)).await;
            sleep(Duration::from_mins(5)).await;
            held.check()
                .unwrap_or_else(|lost| panic!("{lease} s, read timeout {read_timeout} s: {lost}"));
            assert_eq!(
                fixture.holders("pool"),
                1,
                "{lease} s, read timeout {read_timeout} s"
            );
            held.release().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_day_is_renewed_for_longer_than_a_day() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_hours(24)).await;
    sleep(Duration::from_hours(25)).await;
    held.check().unwrap();
    assert_eq!(fixture.holders("pool"), 1);
}

// Covers bugs N4, N8, G12, P18. Tested with a frozen server.
#[tokio::test(start_paused = true)]
async fn a_frozen_server_loses_the_slot_before_another_client_can_hold_it() {
    for (lease, latest) in [(1, 0.99), (4, 3.96), (60, 22.77), (3600, 22.77)] {
        let fixture = Fixture::new().await;
        let held = acquire(&fixture, Duration::from_secs(lease)).await;
        fixture.server.faults().freeze();
        let frozen = Instant::now();
        let lost = held.lost().await;
        let after = frozen.elapsed().as_secs_f64();
        assert_eq!(lost.reason, LostReason::Unreachable, "{lease} s");
        assert!(
            after <= latest + 0.002,
            "{lease} s: reported after {after} s"
        );
        // A loss is final.
        fixture.server.faults().thaw();
        sleep(SECOND).await;
        assert_eq!(held.check().unwrap_err(), lost);
        assert!(held.release().await.unwrap_err().is_lost());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_does_not_restore_a_lost_slot() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_secs(2)).await;
    fixture
        .server
        .faults()
        .delay_replies(Duration::from_millis(1200));
    // The renewal is sent after at most 1 s and answered after 2.2 s. The lease expires after 1.98
    // s.
    let lost = held.lost().await;
    assert_eq!(lost.reason, LostReason::Unreachable);
    sleep(SECOND).await;
    assert!(held.is_lost());
    assert_eq!(held.remaining(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reply_within_the_lease_keeps_the_slot() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_secs(4)).await;
    fixture
        .server
        .faults()
        .delay_replies(Duration::from_millis(1500));
    sleep(60 * SECOND).await;
    held.check().unwrap();
    fixture.server.faults().delay_replies(Duration::ZERO);
    held.release().await.unwrap();
}

// Covers bugs T12, G12.
#[tokio::test(start_paused = true)]
async fn a_lease_expired_by_the_server_is_lost_at_the_next_renewal() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_secs(10)).await;
    fixture.server.faults().expire("pool");
    let start = Instant::now();
    assert_eq!(held.lost().await.reason, LostReason::Rejected);
    assert!(start.elapsed() <= Duration::from_secs(5));
    assert!(held.renew().await.unwrap_err().is_lost());
    // The semaphore remains usable.
    pool(&fixture, SECOND).acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn renew_sends_a_request_immediately() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_secs(10)).await;
    sleep(SECOND).await;
    assert!(held.remaining() < Duration::from_secs(9));
    held.renew().await.unwrap();
    assert!(held.remaining() > Duration::from_millis(9800));
    fixture.server.faults().expire("pool");
    let error = held.renew().await.unwrap_err();
    assert!(error.is_lost());
    assert_eq!(held.check().unwrap_err().reason, LostReason::Rejected);
}

// Covers bugs T40, P10. A renewal to a lease of 0 has failed. It is retried after a delay.
#[tokio::test(start_paused = true)]
async fn a_renewal_to_a_zero_lease_fails() {
    let none = [expect(RENEW), send("ok 0\n")];
    let scripted_server = ScriptedServer::memory([[
        &[expect(ACQUIRE), send(GRANT)][..],
        &none,
        &none,
        &[expect(RENEW), send("ok 30\n")],
    ]
    .concat()]);
    let held = scripted_server.pool().acquire().await.unwrap();
    let start = Instant::now();
    held.renew().await.unwrap();
    assert!(start.elapsed() > 5 * SECOND, "{:?}", start.elapsed());
    assert!(held.remaining() > 20 * SECOND);
    scripted_server.finish().await;
}

// Covers bug G05.
#[tokio::test(start_paused = true)]
async fn a_renewal_requested_during_another_follows_it() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_secs(20)).await;
    fixture
        .server
        .faults()
        .delay_replies(Duration::from_millis(200));
    let first = held.renew();
    let second = async {
        sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        held.renew().await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 300);
    };
    tokio::join!(async { first.await.unwrap() }, second);
}

#[tokio::test(start_paused = true)]
async fn concurrent_renewals_all_complete() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_secs(10)).await;
    let all = async { tokio::join!(held.renew(), held.renew(), held.renew()) };
    let (a, b, c) = timeout(SECOND, all).await.unwrap();
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    // A renewal that is not awaited changes nothing.
    drop(held.renew());
    held.renew().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_loses_the_slot_immediately() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_hours(1)).await;
    let start = Instant::now();
    fixture.server.faults().disconnect("pool");
    let lost = held.lost().await;
    assert_eq!(
        (lost.reason, &*lost.key, lost.token),
        (LostReason::Disconnected, "pool", *held.token())
    );
    assert!(start.elapsed() < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn check_detects_the_deadline_while_no_task_runs() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, Duration::from_secs(4)).await;
    fixture.server.faults().freeze();
    // Time passes while no task runs.
    for (millis, lost) in [(1900, false), (1900, false), (160, true)] {
        advance_without_tasks(Duration::from_millis(millis));
        assert_eq!(held.is_lost(), lost);
    }
    assert_eq!(held.check().unwrap_err().reason, LostReason::Expired);
}

/// Advances the clock without running any task.
fn advance_without_tasks(time: Duration) {
    let mut advance = Box::pin(tokio::time::advance(time));
    let _ = advance
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
}

// Covers bugs T31, N8, T42, P17, G11.
#[tokio::test(start_paused = true)]
async fn on_lost_is_called_exactly_once_for_each_loss() {
    let fixture = Fixture::new().await;
    let (count, seen) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(std::sync::Mutex::new(None)),
    );
    let (counter, last_loss) = (count.clone(), seen.clone());
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(SECOND)
        .client(fixture.client.clone())
        .on_lost(move |lost: &Lost| {
            counter.fetch_add(1, Ordering::SeqCst);
            *last_loss.lock().unwrap() = Some(lost.clone());
            panic!("planned panic");
        })
        .build()
        .unwrap();
    pool.clone()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    drop(pool.clone().acquire().await.unwrap());
    pool.clone().acquire().await.unwrap().close();
    sleep(5 * SECOND).await;
    assert_eq!(count.load(Ordering::SeqCst), 0);

    let held = pool.clone().acquire().await.unwrap();
    fixture.server.faults().disconnect("pool");
    let lost = held.lost().await;
    sleep(5 * SECOND).await;
    assert!(held.is_lost());
    drop(held);
    sleep(SECOND).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(seen.lock().unwrap().as_ref(), Some(&lost));

    // A loss found by the release is also reported.
    let held = pool.acquire().await.unwrap();
    fixture.server.faults().expire("pool");
    assert!(held.release().await.unwrap_err().is_lost());
    sleep(SECOND).await;
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn run_stops_when_the_slot_is_lost() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, SECOND).await;
    assert_eq!(held.run(async { 5 }).await.unwrap(), 5);
    fixture.server.faults().freeze();
    let error = held.run(std::future::pending::<()>()).await.unwrap_err();
    assert!(error.is_lost());
    // No operation starts on a lost slot.
    let error = held
        .run(async { panic!("not to be polled") })
        .await
        .unwrap_err();
    assert!(error.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_blocks_the_executor_past_the_lease_loses_the_slot() {
    let fixture = Fixture::new().await;
    let held = acquire(&fixture, SECOND).await;
    let body = std::future::poll_fn(|_| {
        advance_without_tasks(2 * SECOND);
        Poll::Ready(7)
    });
    assert!(held.run(body).await.unwrap_err().is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_is_confirmed_before_it_is_a_hold() {
    let fixture = Fixture::new().await;
    let first = acquire(&fixture, Duration::from_secs(20)).await;
    let waiting = tokio::spawn(pool(&fixture, Duration::from_secs(2)).acquire());
    sleep(5 * SECOND).await;
    first.release().await.unwrap();
    let second = waiting.await.unwrap().unwrap();
    // The lease counts from the renewal, not from the request five seconds ago.
    assert!(
        second.remaining() > Duration::from_millis(1900),
        "{:?}",
        second.remaining()
    );
    sleep(10 * SECOND).await;
    second.check().unwrap();
}
