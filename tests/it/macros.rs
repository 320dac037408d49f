//! Annotated functions hold a slot exactly while their body runs.

mod arguments;
mod busy;
mod completion;
mod limit_mismatch;
mod log;
mod lost;
mod other_attributes;
mod permits;
mod signatures;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dflock::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::fixture::Fixture;

/// Current and maximum number of bodies that run.
#[derive(Default)]
struct Count {
    now: AtomicU32,
    max: AtomicU32,
}

#[dflock::semaphore(key = "pool", limit = 3)]
async fn work(count: &Count) -> Result<(), Error> {
    count.max.fetch_max(
        count.now.fetch_add(1, Ordering::SeqCst) + 1,
        Ordering::SeqCst,
    );
    sleep(Duration::from_secs(1)).await;
    count.now.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn at_most_limit_bodies_run_at_once() {
    static COUNT: Count = Count {
        now: AtomicU32::new(0),
        max: AtomicU32::new(0),
    };
    let fixture = Fixture::new().await;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        tasks.spawn(fixture.client.clone().scope(work(&COUNT)));
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(COUNT.max.load(Ordering::SeqCst), 3);
    assert_eq!(began.elapsed().as_secs(), 4, "12 calls, 3 at a time");
}

#[tokio::test(start_paused = true)]
async fn each_scope_has_its_own_server() {
    let (first, second) = (Fixture::new().await, Fixture::new().await);
    let count = Count::default();
    let began = Instant::now();
    let three = async || tokio::try_join!(work(&count), work(&count), work(&count));
    tokio::try_join!(
        first.client.clone().scope(three()),
        second.client.clone().scope(three())
    )
    .unwrap();
    assert_eq!(count.max.load(Ordering::SeqCst), 6);
    assert_eq!(began.elapsed().as_secs(), 1);
}
