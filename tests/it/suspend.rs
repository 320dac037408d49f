//! Time that the machine slept counts: the clock of leases goes on, and timers stand still.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dflock::{Client, Clock, ConnectFuture, Connector, Held, Semaphore};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::house::House;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

// check() is right at once, and lost() and on_lost come a heartbeat later at most, whether or not anybody asks
#[tokio::test(start_paused = true)]
async fn a_slot_does_not_outlive_a_suspend() {
    for (renewing, asked) in [(false, false), (false, true), (true, false), (true, true)] {
        let house = House::new().await;
        let bed = Bed::default();
        let (lost, mut told) = mpsc::unbounded_channel();
        let held = slot(&house, &bed, move || lost.send(()).unwrap()).await;
        if renewing {
            house.server.faults().freeze();
            // a renewal was sent and is not answered
            sleep(Duration::from_secs(9)).await;
        }
        bed.sleep(HOUR);
        let woke = Instant::now();
        if asked {
            assert!(held.is_lost());
            assert_eq!(held.remaining(), Duration::ZERO);
        }
        timeout(Duration::from_secs(20), told.recv()).await.unwrap();
        assert!(
            woke.elapsed() <= Duration::from_millis(8001),
            "renewing {renewing}, asked {asked}: {:?}",
            woke.elapsed()
        );
    }
}

async fn slot(
    house: &House,
    bed: &Bed,
    on_lost: impl Fn() + Send + Sync + 'static,
) -> Semaphore<Held> {
    let client = client(house, bed);
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

fn client(house: &House, bed: &Bed) -> Client {
    client_on(house, bed, 1.0)
}

/// One whose clock goes at `rate`, too.
fn client_on(house: &House, bed: &Bed, rate: f64) -> Client {
    let connector = Sleepy {
        awake: Box::new(house.server.connector()),
        bed: bed.clone(),
        began: Instant::now(),
        rate,
    };
    Client::builder()
        .connector(connector)
        .socket_timeout(SECOND)
        .build()
        .unwrap()
}

/// A client whose connection has served before, so that it has a task that stays, and a timer that was set for another request.
async fn warm(house: &House, client: &Client) -> Semaphore {
    let pool = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(house.server.stats().connections, 1);
    pool
}

/// A slot that `pool` waits for as long as `wait` says, and gets when `meanwhile` is over.
async fn waited_for(
    house: &House,
    pool: Semaphore,
    wait: Duration,
    meanwhile: impl Future<Output = ()>,
) -> Semaphore<Held> {
    let other = house
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let waiting = tokio::spawn(pool.acquire_within(wait));
    meanwhile.await;
    other.release().await.unwrap();
    waiting.await.unwrap().unwrap()
}

async fn is_kept(held: &Semaphore<Held>) {
    for second in 0..60 {
        assert!(!held.is_lost(), "after {second} s");
        sleep(SECOND).await;
    }
}

async fn nap(bed: &Bed) {
    sleep(SECOND).await;
    bed.sleep(58 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_waited_for_through_a_suspend_is_kept() {
    let (house, bed) = (House::new().await, Bed::default());
    let pool = warm(&house, &client(&house, &bed)).await;
    is_kept(&waited_for(&house, pool, 60 * SECOND, nap(&bed)).await).await;
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_slot_that_was_waited_for_through_a_suspend_is_told() {
    let (house, bed) = (House::new().await, Bed::default());
    let client = client(&house, &bed);
    warm(&house, &client).await;
    let (lost, mut told) = mpsc::unbounded_channel();
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .on_lost(move |_| lost.send(()).unwrap())
        .client(client)
        .build()
        .unwrap();
    // nobody waits for the loss: only the callback tells
    let _held = waited_for(&house, pool, 60 * SECOND, nap(&bed)).await;
    house.server.faults().freeze();
    let began = Instant::now();
    timeout(60 * SECOND, told.recv())
        .await
        .expect("nobody tells")
        .unwrap();
    assert!(began.elapsed() <= 23 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_short_lease_after_a_short_suspend_is_kept() {
    let (house, bed) = (House::new().await, Bed::default());
    let client = client(&house, &bed);
    warm(&house, &client).await;
    bed.sleep(10 * SECOND);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(2 * SECOND)
        .client(client)
        .build()
        .unwrap();
    is_kept(&pool.acquire().await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_after_a_suspend_ends_in_time() {
    let (house, bed) = (House::new().await, Bed::default());
    let held = warm(&house, &client(&house, &bed))
        .await
        .acquire()
        .await
        .unwrap();
    bed.sleep(10 * SECOND);
    house.server.faults().freeze();
    let began = Instant::now();
    held.release().await.unwrap_err();
    assert!(
        began.elapsed() <= Duration::from_millis(1002),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_a_hundredth_fast_keeps_what_was_waited_for() {
    let (house, bed) = (House::new().await, Bed::default());
    let pool = warm(&house, &client_on(&house, &bed, 1.01)).await;
    is_kept(&waited_for(&house, pool, HOUR, sleep(Duration::from_secs(3560))).await).await;
}

/// How long the machine has slept.
#[derive(Clone, Default)]
struct Bed(Arc<AtomicU64>);

impl Bed {
    fn sleep(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

/// A connector whose clock counts the sleep.
struct Sleepy {
    awake: Box<dyn Connector>,
    bed: Bed,
    began: Instant,
    rate: f64,
}

impl Connector for Sleepy {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        self.awake.connect(server)
    }

    fn clock(&self) -> Clock {
        let (bed, began, rate) = (self.bed.clone(), self.began, self.rate);
        Clock::Custom(Arc::new(move || {
            began.elapsed().mul_f64(rate) + Duration::from_secs(bed.0.load(Ordering::SeqCst))
        }))
    }
}
