//! Suspended machines: the lease clock includes suspended time, and timers do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dflock::{Client, Clock, ConnectFuture, Connector, Held, Semaphore};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{Fixture, acquire_pool};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

// `check()` is correct immediately. `lost()` and `on_lost` follow within a heartbeat, even if no
// call is made.
#[tokio::test(start_paused = true)]
async fn a_slot_is_lost_when_its_lease_expires_during_suspend() {
    for (renewing, checked) in [(false, false), (false, true), (true, false), (true, true)] {
        let fixture = Fixture::new().await;
        let clock = SuspendClock::default();
        let (lost, mut losses) = mpsc::unbounded_channel();
        let held = slot(&fixture, &clock, move || lost.send(()).unwrap()).await;
        if renewing {
            fixture.server.faults().freeze();
            // A renewal was sent and has no reply.
            sleep(Duration::from_secs(9)).await;
        }
        clock.sleep(HOUR);
        let wakeup = Instant::now();
        if checked {
            assert!(held.is_lost());
            assert_eq!(held.remaining(), Duration::ZERO);
        }
        timeout(Duration::from_secs(20), losses.recv())
            .await
            .unwrap();
        assert!(
            wakeup.elapsed() <= Duration::from_millis(8001),
            "renewing {renewing}, checked {checked}: {:?}",
            wakeup.elapsed()
        );
    }
}

/// Acquires a slot whose loss calls `on_lost`.
async fn slot(
    fixture: &Fixture,
    clock: &SuspendClock,
    on_lost: impl Fn() + Send + Sync + 'static,
) -> Semaphore<Held> {
    let client = client(fixture, clock);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(HOUR)
        .on_lost(move |_| on_lost())
        .client(client)
        .build()
        .unwrap();
    pool.acquire().await.unwrap()
}

fn client(fixture: &Fixture, clock: &SuspendClock) -> Client {
    client_with_rate(fixture, clock, 1.0)
}

/// Returns a client whose clock runs at `rate` and includes suspended time.
fn client_with_rate(fixture: &Fixture, clock: &SuspendClock, rate: f64) -> Client {
    let connector = SuspendConnector {
        inner: Box::new(fixture.server.connector()),
        clock: clock.clone(),
        start: Instant::now(),
        rate,
    };
    Client::builder()
        .connector(connector)
        .socket_timeout(SECOND)
        .build()
        .unwrap()
}

/// Returns a semaphore whose connection was used before. It has a background task, and a timer set
/// by an earlier request.
async fn reused_semaphore(fixture: &Fixture, client: &Client) -> Semaphore {
    let pool = acquire_pool(client).await.release().await.unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(fixture.server.stats().connections, 1);
    pool
}

/// Returns a slot that `pool` waits for with timeout `wait`. The slot is free after `delay`.
async fn acquire_after(
    fixture: &Fixture,
    pool: Semaphore,
    wait: Duration,
    delay: impl Future<Output = ()>,
) -> Semaphore<Held> {
    let other = acquire_pool(&fixture.client).await;
    let waiting = tokio::spawn(pool.acquire_within(wait));
    delay.await;
    other.release().await.unwrap();
    waiting.await.unwrap().unwrap()
}

/// Asserts that the slot is held for another minute.
async fn assert_kept(held: &Semaphore<Held>) {
    for second in 0..60 {
        assert!(!held.is_lost(), "after {second} s");
        sleep(SECOND).await;
    }
}

/// Suspends the machine for 58 s after one second.
async fn suspend(clock: &SuspendClock) {
    sleep(SECOND).await;
    clock.sleep(58 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_slot_granted_after_a_suspended_wait_is_kept() {
    let (fixture, clock) = (Fixture::new().await, SuspendClock::default());
    let pool = reused_semaphore(&fixture, &client(&fixture, &clock)).await;
    assert_kept(&acquire_after(&fixture, pool, 60 * SECOND, suspend(&clock)).await).await;
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_slot_granted_after_a_suspended_wait_is_reported() {
    let (fixture, clock) = (Fixture::new().await, SuspendClock::default());
    let client = client(&fixture, &clock);
    reused_semaphore(&fixture, &client).await;
    let (lost, mut losses) = mpsc::unbounded_channel();
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .on_lost(move |_| lost.send(()).unwrap())
        .client(client)
        .build()
        .unwrap();
    // No task awaits the loss, so only the callback reports it.
    let _held = acquire_after(&fixture, pool, 60 * SECOND, suspend(&clock)).await;
    fixture.server.faults().freeze();
    let start = Instant::now();
    timeout(60 * SECOND, losses.recv())
        .await
        .expect("the loss is not reported")
        .unwrap();
    assert!(start.elapsed() <= 23 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_short_lease_is_renewed_after_a_short_suspend() {
    let (fixture, clock) = (Fixture::new().await, SuspendClock::default());
    let client = client(&fixture, &clock);
    reused_semaphore(&fixture, &client).await;
    clock.sleep(10 * SECOND);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(2 * SECOND)
        .client(client)
        .build()
        .unwrap();
    assert_kept(&pool.acquire().await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_after_a_suspend_times_out() {
    let (fixture, clock) = (Fixture::new().await, SuspendClock::default());
    let held = reused_semaphore(&fixture, &client(&fixture, &clock))
        .await
        .acquire()
        .await
        .unwrap();
    clock.sleep(10 * SECOND);
    fixture.server.faults().freeze();
    let start = Instant::now();
    held.release().await.unwrap_err();
    assert!(
        start.elapsed() <= Duration::from_millis(1002),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_clock_that_is_one_percent_fast_keeps_the_granted_slot() {
    let (fixture, clock) = (Fixture::new().await, SuspendClock::default());
    let pool = reused_semaphore(&fixture, &client_with_rate(&fixture, &clock, 1.01)).await;
    assert_kept(&acquire_after(&fixture, pool, HOUR, sleep(Duration::from_secs(3560))).await).await;
}

/// Total suspended time of the simulated machine.
#[derive(Clone, Default)]
struct SuspendClock(Arc<AtomicU64>);

impl SuspendClock {
    fn sleep(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

/// Connector whose clock includes the suspended time.
struct SuspendConnector {
    inner: Box<dyn Connector>,
    clock: SuspendClock,
    start: Instant,
    rate: f64,
}

impl Connector for SuspendConnector {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        self.inner.connect(server)
    }

    fn clock(&self) -> Clock {
        let (clock, start, rate) = (self.clock.clone(), self.start, self.rate);
        Clock::Custom(Arc::new(move || {
            start.elapsed().mul_f64(rate) + Duration::from_secs(clock.0.load(Ordering::SeqCst))
        }))
    }
}
