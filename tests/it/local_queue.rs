//! The queue of waiters in the process.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use dflock::{Client, ConfigError, Enqueued, Error, Held, Lock, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::Fixture;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a semaphore with one slot, of which so many `waiters` wait on the server.
fn semaphore(client: &Client, waiters: u32, acquire_timeout: Duration) -> Semaphore {
    Semaphore::builder()
        .key("pool")
        .limit(1)
        .acquire_timeout(acquire_timeout)
        .local_queue(waiters)
        .client(client.clone())
        .build()
        .unwrap()
}

/// Spawns an acquire, and waits until it is in a queue.
async fn spawn_acquire(pool: &Semaphore) -> JoinHandle<Result<Semaphore<Held>, Error>> {
    let waiter = tokio::spawn(pool.clone().acquire());
    sleep(Duration::from_millis(1)).await;
    waiter
}

/// Lets 800 tasks acquire one slot. Returns the largest number of connections, and the tasks in the
/// order of their grants.
async fn run_800(waiters: u32) -> (u64, Vec<u32>) {
    let fixture = Fixture::new().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for n in 0..800 {
        // Handles are built anew, as annotated functions do.
        let (client, order) = (fixture.client.clone(), order.clone());
        tasks.spawn(async move {
            let pool = semaphore(&client, waiters, 1000 * SECOND);
            let held = pool.acquire().await.unwrap();
            order.lock().unwrap().push(n);
            sleep(Duration::from_millis(10)).await;
            held.release().await.unwrap();
        });
    }
    let mut connections = 0;
    while !tasks.is_empty() {
        sleep(Duration::from_millis(3)).await;
        while let Some(task) = tasks.try_join_next() {
            task.unwrap();
        }
        connections = connections.max(fixture.server.stats().connections);
        assert!(fixture.waiters("pool") <= u64::from(waiters));
    }
    let order = order.lock().unwrap().clone();
    (connections, order)
}

#[tokio::test(start_paused = true)]
async fn eight_of_800_tasks_wait_on_the_server() {
    let (connections, mut order) = run_800(8).await;
    // One more holds the slot.
    assert_eq!(connections, 9);
    for (rank, n) in (0u32..).zip(&order) {
        assert!(rank.abs_diff(*n) < 8, "task {n} was number {rank}");
    }
    order.sort_unstable();
    assert!(order.iter().copied().eq(0..800));
}

#[tokio::test(start_paused = true)]
async fn with_one_waiter_on_the_server_the_order_is_that_of_the_tasks() {
    let (connections, order) = run_800(1).await;
    assert_eq!(connections, 2);
    assert!(order.iter().copied().eq(0..800), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn the_acquire_timeout_includes_the_local_wait() {
    let fixture = Fixture::new().await;
    let held = semaphore(&fixture.client, 1, SECOND);
    let held = held.acquire().await.unwrap();
    let started = Instant::now();
    // One waits on the server for 3 s, and one for the place of that, or for the rest of its time.
    let first = spawn_acquire(&semaphore(&fixture.client, 1, 3 * SECOND)).await;
    let never_on_server = spawn_acquire(&semaphore(&fixture.client, 1, 2 * SECOND)).await;
    let later_on_server = spawn_acquire(&semaphore(&fixture.client, 1, 5 * SECOND)).await;
    assert_eq!(fixture.waiters("pool"), 1);
    for (waiter, seconds) in [(never_on_server, 2), (first, 3), (later_on_server, 5)] {
        match waiter.await.unwrap().unwrap_err() {
            Error::Timeout { waited, .. } => assert_eq!(waited, seconds * SECOND),
            error => panic!("{error}"),
        }
        let late = started.elapsed().saturating_sub(seconds * SECOND);
        assert!(late < Duration::from_millis(10), "{seconds} s and {late:?}");
    }
    held.release().await.unwrap();
    assert_eq!(fixture.waiters("pool"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_cancelled_gives_its_place_to_the_next() {
    let fixture = Fixture::new().await;
    let pool = semaphore(&fixture.client, 1, 1000 * SECOND);
    let held = pool.clone().acquire().await.unwrap();
    let on_server = spawn_acquire(&pool).await;
    let (cancelled, next) = (spawn_acquire(&pool).await, spawn_acquire(&pool).await);
    cancelled.abort();
    on_server.abort();
    sleep(SECOND).await;
    assert_eq!(fixture.waiters("pool"), 1);
    held.release().await.unwrap();
    next.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_acquires_that_wait_use_the_local_queue() {
    let fixture = Fixture::new().await;
    let pool = semaphore(&fixture.client, 1, 1000 * SECOND);
    let held = pool.clone().acquire().await.unwrap();
    let waiter = spawn_acquire(&pool).await;
    let now = timeout(Duration::from_millis(10), pool.clone().try_acquire());
    assert!(now.await.unwrap().unwrap_err().is_timeout());
    let queued = match pool.clone().enqueue().await.unwrap() {
        Enqueued::Queued(queued) => queued,
        Enqueued::Acquired(_) => panic!("no slot was free"),
    };
    assert_eq!(fixture.waiters("pool"), 2);
    held.release().await.unwrap();
    waiter.await.unwrap().unwrap().release().await.unwrap();
    queued.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_try_acquire_takes_a_free_slot_while_all_places_are_taken() {
    let fixture = Fixture::new().await;
    let pool = Semaphore::builder().key("pool").limit(2).local_queue(1);
    let pool = pool.client(fixture.client.clone()).build().unwrap();
    let mut acquire = pin!(pool.clone().acquire());
    assert!(
        acquire
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    pool.try_acquire().await.unwrap();
    acquire.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_that_of_a_client_a_kind_and_a_key() {
    let fixture = Fixture::new().await;
    let connector = fixture.server.connector();
    let other = fixture.server.client_builder().connector(connector);
    let other = other.build().unwrap();
    let pool = semaphore(&fixture.client, 1, 1000 * SECOND);
    let held = pool.clone().acquire().await.unwrap();
    let first = spawn_acquire(&pool).await;
    // The number of the first handle counts while a handle lives.
    let second = spawn_acquire(&semaphore(&fixture.client, 5, 1000 * SECOND)).await;
    assert_eq!(fixture.waiters("pool"), 1);
    let third = spawn_acquire(&semaphore(&other, 5, 1000 * SECOND)).await;
    assert_eq!(fixture.waiters("pool"), 2);
    let lock = Lock::builder()
        .key("pool")
        .local_queue(1)
        .client(fixture.client.clone());
    lock.build().unwrap().acquire().await.unwrap();
    held.release().await.unwrap();
    for waiter in [first, third, second] {
        waiter.await.unwrap().unwrap().release().await.unwrap();
    }
    drop(pool);
    // All handles are gone.
    let pool = semaphore(&fixture.client, 5, 1000 * SECOND);
    let _held = pool.clone().acquire().await.unwrap();
    let _waiters = (spawn_acquire(&pool).await, spawn_acquire(&pool).await);
    assert_eq!(fixture.waiters("pool"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_close_answers_local_waiters() {
    let fixture = Fixture::new().await;
    let pool = semaphore(&fixture.client, 1, 1000 * SECOND);
    let held = pool.clone().acquire().await.unwrap();
    let waiters = [
        spawn_acquire(&pool).await,
        spawn_acquire(&pool).await,
        spawn_acquire(&pool).await,
    ];
    let started = Instant::now();
    let _ = timeout(Duration::ZERO, fixture.client.close()).await;
    for waiter in waiters {
        assert!(waiter.await.unwrap().unwrap_err().is_closed());
    }
    assert!(started.elapsed() < Duration::from_millis(10));
    held.release().await.unwrap();
}

#[tokio::test]
async fn zero_waiters_are_refused() {
    let client = Client::builder().build().unwrap();
    let pool = Semaphore::builder().key("pool").limit(1).client(client);
    let error = pool.local_queue(0).build().unwrap_err();
    assert_eq!(error, ConfigError::LocalQueue);
    let message = "local_queue 0 is refused; it must be 1 or more";
    assert_eq!(error.to_string(), message);
}
