//! Time that the machine slept counts: the clock of leases goes on, and timers stand still.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dflock::{Clock, Connecting, Connector, Held, Semaphore};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::house::House;

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
        assert!(woke.elapsed() <= Duration::from_millis(8001), "renewing {renewing}, asked {asked}: {:?}", woke.elapsed());
    }
}

async fn slot(house: &House, bed: &Bed, on_lost: impl Fn() + Send + Sync + 'static) -> Semaphore<Held> {
    let connector = Sleepy { awake: Box::new(house.server.connector()), bed: bed.clone(), began: Instant::now() };
    let client = dflock::Client::builder().connector(connector).build().unwrap();
    let pool = Semaphore::builder().key("pool").limit(1).lease_ttl(HOUR).on_lost(move |_| on_lost()).client(client).build().unwrap();
    pool.acquire().await.unwrap()
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
}

impl Connector for Sleepy {
    fn connect<'a>(&'a self, server: &'a str) -> Connecting<'a> {
        self.awake.connect(server)
    }

    fn clock(&self) -> Clock {
        let (bed, began) = (self.bed.clone(), self.began);
        Clock::Custom(Arc::new(move || began.elapsed() + Duration::from_secs(bed.0.load(Ordering::SeqCst))))
    }
}
