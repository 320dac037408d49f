//! The close of a client: waits end at once, and holds are waited for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dflock::{Clock, ConnectFuture, Connector, Enqueued, Error, Operation, Queued, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep, timeout};

use crate::fixture::Fixture;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a semaphore with one slot whose waits last for a day.
fn patient(fixture: &Fixture) -> Semaphore {
    Semaphore::builder()
        .key("pool")
        .limit(1)
        .acquire_timeout(86_400 * SECOND)
        .client(fixture.client.clone())
        .build()
        .unwrap()
}

async fn enqueue(pool: &Semaphore) -> Semaphore<Queued> {
    match pool.clone().enqueue().await.unwrap() {
        Enqueued::Queued(queued) => queued,
        Enqueued::Acquired(_) => panic!("a slot was free"),
    }
}

/// Counts the connections.
struct CountingConnector<C>(C, Arc<AtomicU32>);

impl<C: Connector> Connector for CountingConnector<C> {
    fn connect<'a>(&'a self, address: &'a str) -> ConnectFuture<'a> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.connect(address)
    }

    fn clock(&self) -> Clock {
        self.0.clock()
    }
}

fn spawn_close(fixture: &Fixture) -> JoinHandle<()> {
    let client = fixture.client.clone();
    tokio::spawn(async move { client.close().await })
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn assert_closed<T: std::fmt::Debug>(result: Result<T, Error>, operation: Operation) {
    let error = result.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(error.operation(), Some(operation));
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn annotated() -> Result<(), Error> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_acquires_nothing() {
    let mut fixture = Fixture::new().await;
    let connections = Arc::<AtomicU32>::default();
    let connector = CountingConnector(fixture.server.connector(), connections.clone());
    let client = fixture.server.client_builder().connector(connector);
    fixture.client = client.build().unwrap();
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    assert!(!fixture.client.is_closed());
    fixture.client.clone().close().await;
    assert!(fixture.client.is_closed());
    assert_closed(pool.clone().acquire().await, Operation::Acquire);
    assert_closed(pool.clone().try_acquire().await, Operation::Acquire);
    assert_closed(pool.clone().enqueue().await, Operation::Enqueue);
    assert_closed(pool.with_slot(async |_| ()).await, Operation::Acquire);
    let later = fixture.client.lock("nightly").unwrap();
    assert_closed(later.acquire().await, Operation::Acquire);
    let annotated = fixture.client.clone().scope(annotated());
    assert_closed(annotated.await, Operation::Acquire);
    assert_eq!(connections.load(Ordering::Relaxed), 0);
    // Requests that need no slot still work, and leave no idle connection.
    fixture.client.ping().await.unwrap();
    assert_eq!(fixture.client.stats().await.unwrap().len(), 1);
    sleep(SECOND).await;
    assert_eq!(fixture.server.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn the_error_names_the_key_and_the_server() {
    let fixture = Fixture::new().await;
    fixture.client.close().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let error = pool.acquire().await.unwrap_err();
    let server = fixture.client.servers().next().unwrap().to_owned();
    assert_eq!(error.key(), Some("pool"));
    assert_eq!(
        error.to_string(),
        format!(
            "acquire \"pool\" on {server}: the client is closed; build another client to acquire \
             slots"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_answers_all_waiters_at_once() {
    let fixture = Fixture::new().await;
    let pool = patient(&fixture);
    let held = pool.clone().acquire().await.unwrap();
    let acquires: Vec<_> = (0..5)
        .map(|_| tokio::spawn(pool.clone().acquire()))
        .collect();
    let waits: Vec<_> = [enqueue(&pool).await, enqueue(&pool).await]
        .map(|queued| tokio::spawn(queued.wait()))
        .into();
    sleep(SECOND).await;
    assert_eq!(fixture.waiters("pool"), 7);
    let started = Instant::now();
    let close = spawn_close(&fixture);
    for waiter in acquires {
        assert_closed(waiter.await.unwrap(), Operation::Acquire);
    }
    for waiter in waits {
        assert_closed(waiter.await.unwrap(), Operation::Wait);
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(!close.is_finished());
    held.release().await.unwrap();
    close.await.unwrap();
    assert_eq!((fixture.holders("pool"), fixture.waiters("pool")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_every_kind_of_end_of_a_hold() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 9).unwrap();
    let mut holds = Vec::new();
    for _ in 0..3 {
        holds.push(pool.clone().acquire().await.unwrap());
    }
    let lost = fixture.client.lock("lost").unwrap();
    let lost = lost.acquire().await.unwrap();
    let close = spawn_close(&fixture);
    // The holds are renewed meanwhile.
    sleep(100 * SECOND).await;
    assert!(!close.is_finished());
    for held in &holds {
        held.check().unwrap();
    }
    holds.pop().unwrap().release().await.unwrap();
    holds.pop().unwrap().close();
    drop(holds.pop());
    sleep(SECOND).await;
    assert!(!close.is_finished());
    assert!(fixture.server.faults().expire("lost"));
    sleep(30 * SECOND).await;
    // The owner keeps the handle, but the slot is gone.
    assert!(lost.is_lost() && close.is_finished());
    assert_eq!(fixture.server.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_holds_closes_at_once_and_keeps_no_connection() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 3).unwrap();
    let holds = tokio::join!(
        pool.clone().acquire(),
        pool.clone().acquire(),
        pool.clone().acquire()
    );
    for held in [holds.0, holds.1, holds.2] {
        held.unwrap().release().await.unwrap();
    }
    assert_eq!(fixture.server.stats().connections, 3);
    let mut close = pin!(fixture.client.close());
    assert!(poll(close.as_mut()).is_ready());
    sleep(SECOND).await;
    assert_eq!(fixture.server.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_close_stays_in_force() {
    let fixture = Fixture::new().await;
    let pool = patient(&fixture);
    let held = pool.clone().acquire().await.unwrap();
    assert!(timeout(SECOND, fixture.client.close()).await.is_err());
    assert_closed(pool.acquire().await, Operation::Acquire);
    // Any number of calls wait, and later ones return at once.
    let (first, second) = (spawn_close(&fixture), spawn_close(&fixture));
    sleep(SECOND).await;
    assert!(!first.is_finished() && !second.is_finished());
    held.release().await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    fixture.client.close().await;
    sleep(SECOND).await;
    assert_eq!(fixture.server.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_takes_effect_when_it_is_polled() {
    let fixture = Fixture::new().await;
    drop(fixture.client.close());
    assert!(!fixture.client.is_closed());
}

// The owner of a place in the queue may never poll it.
#[tokio::test(start_paused = true)]
async fn a_close_gives_up_places_that_are_not_waited_for() {
    let fixture = Fixture::new().await;
    let pool = patient(&fixture);
    let held = pool.clone().acquire().await.unwrap();
    let (granted, queued) = (enqueue(&pool).await, enqueue(&pool).await);
    held.release().await.unwrap();
    sleep(SECOND).await;
    assert!(granted.is_granted() && !queued.is_granted());
    fixture.client.close().await;
    sleep(SECOND).await;
    assert_eq!((fixture.holders("pool"), fixture.waiters("pool")), (0, 0));
    assert!(!granted.is_granted());
    assert_closed(granted.wait().await, Operation::Wait);
    assert_closed(queued.wait().await, Operation::Wait);
}

// The place is given up by a task. A wait of another task must not be first.
#[tokio::test(start_paused = true)]
async fn a_granted_place_is_not_returned_after_the_close() {
    let fixture = Fixture::new().await;
    let pool = patient(&fixture);
    let held = pool.clone().acquire().await.unwrap();
    let granted = enqueue(&pool).await;
    held.release().await.unwrap();
    sleep(SECOND).await;
    assert!(granted.is_granted());
    let mut close = pin!(fixture.client.close());
    assert!(poll(close.as_mut()).is_pending());
    assert_closed(granted.wait().await, Operation::Wait);
    close.await;
    sleep(SECOND).await;
    assert_eq!(fixture.holders("pool"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_that_became_a_slot_stays_held() {
    let fixture = Fixture::new().await;
    let pool = patient(&fixture);
    let first = pool.clone().acquire().await.unwrap();
    let queued = enqueue(&pool).await;
    first.release().await.unwrap();
    let held = queued.wait().await.unwrap();
    let close = spawn_close(&fixture);
    sleep(100 * SECOND).await;
    held.check().unwrap();
    assert!(!close.is_finished());
    drop(held);
    close.await.unwrap();
}

// A future that is not polled must delay no close, and a late grant must not become a hold.
#[tokio::test(start_paused = true)]
async fn a_grant_that_meets_a_closed_client_is_given_up() {
    // The second grant is so old that it would be verified.
    for pause in [Duration::from_millis(10), SECOND] {
        let fixture = Fixture::new().await;
        let pool = patient(&fixture);
        let held = pool.clone().acquire().await.unwrap();
        let mut acquire = pin!(pool.acquire());
        assert!(poll(acquire.as_mut()).is_pending());
        sleep(pause).await;
        assert!(poll(acquire.as_mut()).is_pending());
        held.release().await.unwrap();
        sleep(pause).await;
        assert_eq!(fixture.holders("pool"), 1);
        fixture.client.close().await;
        assert_closed(acquire.await, Operation::Acquire);
        sleep(SECOND).await;
        assert_eq!(fixture.holders("pool"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_verification_ends_with_the_close() {
    let fixture = Fixture::new().await;
    let pool = patient(&fixture);
    let held = pool.clone().acquire().await.unwrap();
    let waiter = tokio::spawn(pool.acquire());
    advance(SECOND).await;
    sleep(SECOND).await;
    // The grant arrives, and the reply to its renewal does not.
    fixture.server.faults().delay_replies(2 * SECOND);
    drop(held);
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(fixture.holders("pool"), 1);
    assert!(!waiter.is_finished());
    let started = Instant::now();
    fixture.client.close().await;
    assert_closed(waiter.await.unwrap(), Operation::Acquire);
    assert_eq!(started.elapsed(), Duration::ZERO);
    sleep(3 * SECOND).await;
    assert_eq!(fixture.holders("pool"), 0);
}

#[tokio::test(start_paused = true)]
async fn another_client_is_not_closed() {
    let fixture = Fixture::new().await;
    let connector = fixture.server.connector();
    let other = fixture.server.client_builder().connector(connector);
    let other = other.build().unwrap();
    fixture.client.close().await;
    other.lock("nightly").unwrap().acquire().await.unwrap();
    assert!(!other.is_closed());
}
