//! Annotated functions: a slot is held while the body runs, and only then.

mod arguments;
mod company;
mod ending;
mod log;
mod lost;
mod shapes;
mod ui;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::fixture::Fixture as House;

/// The most that were ever inside at once.
#[derive(Default)]
struct Count {
    now: AtomicU32,
    most: AtomicU32,
}

#[dflock::semaphore(key = "pool", limit = 3)]
async fn work(count: &Count) -> Result<(), Error> {
    count.most.fetch_max(
        count.now.fetch_add(1, Ordering::SeqCst) + 1,
        Ordering::SeqCst,
    );
    sleep(Duration::from_secs(1)).await;
    count.now.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn as_many_run_at_once_as_there_are_slots() {
    static COUNT: Count = Count {
        now: AtomicU32::new(0),
        most: AtomicU32::new(0),
    };
    let house = House::new().await;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        tasks.spawn(house.client.clone().scope(work(&COUNT)));
    }
    while let Some(worked) = tasks.join_next().await {
        worked.unwrap().unwrap();
    }
    assert_eq!(COUNT.most.load(Ordering::SeqCst), 3);
    assert_eq!(began.elapsed().as_secs(), 4, "12 in turns of 3");
}

#[tokio::test(start_paused = true)]
async fn functions_under_test_side_by_side_have_servers_of_their_own() {
    let (one, other) = (House::new().await, House::new().await);
    let count = Count::default();
    let began = Instant::now();
    let three = async || tokio::try_join!(work(&count), work(&count), work(&count));
    tokio::try_join!(
        one.client.clone().scope(three()),
        other.client.clone().scope(three())
    )
    .unwrap();
    assert_eq!(count.most.load(Ordering::SeqCst), 6);
    assert_eq!(began.elapsed().as_secs(), 1);
}
