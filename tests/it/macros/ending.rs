//! However a body ends, the slot is given back behind it, and the caller gets what the body gave.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use dflock::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::log::Log;
use crate::fixture::{Fixture as House, server};

#[derive(Clone, Copy, Debug)]
enum End {
    Value,
    Return,
    Question,
    Failure,
}

#[derive(Debug)]
enum Failure {
    OfTheBody(u8),
    OfTheSlot(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::OfTheSlot(error)
    }
}

impl From<u8> for Failure {
    fn from(number: u8) -> Self {
        Self::OfTheBody(number)
    }
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn ends(house: &House, end: End) -> Result<u32, Failure> {
    assert_eq!(house.holders("pool"), 1);
    sleep(Duration::from_secs(1)).await;
    match end {
        End::Value => {}
        End::Return => return Ok(2),
        End::Question => Err(3)?,
        End::Failure => return Err(Failure::OfTheBody(4)),
    }
    assert_eq!(house.holders("pool"), 1);
    Ok(1)
}

#[tokio::test(start_paused = true)]
async fn the_slot_is_free_again_when_the_function_returns() {
    let house = House::new().await;
    for end in [End::Value, End::Return, End::Question, End::Failure] {
        let ended = house.client.clone().scope(ends(&house, end)).await;
        assert_eq!(house.holders("pool"), 0, "{end:?}");
        let number = ended.or_else(|failure| match failure {
            Failure::OfTheBody(number) => Ok(number.into()),
            Failure::OfTheSlot(error) => Err(error),
        });
        assert_eq!(number.unwrap(), end as u32 + 1);
    }
    // in order, so that the connection serves the next
    assert_eq!(house.server.stats().connections, 1);
}

/// Tells that its body runs, and never ends.
#[dflock::semaphore(key = "pool", limit = 1)]
async fn hangs(runs: Arc<Notify>, then: fn()) -> Result<(), Error> {
    runs.notify_one();
    then();
    pending().await
}

/// Comes back when the body runs.
async fn start(house: &House, then: fn()) -> JoinHandle<Result<(), Error>> {
    let runs = Arc::new(Notify::new());
    let task = tokio::spawn(house.client.clone().scope(hangs(runs.clone(), then)));
    runs.notified().await;
    task
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_cancellation_free_the_slot() {
    // also where the server does not look at who hangs up
    for auto_release in [true, false] {
        let house = House::with_config(server().auto_release(auto_release).build()).await;
        let panicked = start(&house, || panic!("with a slot in hand"))
            .await
            .await
            .unwrap_err();
        assert!(panicked.is_panic());
        sleep(Duration::from_millis(1)).await;
        assert_eq!(house.holders("pool"), 0);

        let task = start(&house, || {}).await;
        assert_eq!(house.holders("pool"), 1);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        sleep(Duration::from_millis(1)).await;
        assert_eq!(house.holders("pool"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_stands_in_line_and_is_cancelled_leaves_it() {
    let house = House::new().await;
    let held = house
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let waiting = house.client.clone().scope(ends(&house, End::Value));
    assert!(
        tokio::time::timeout(Duration::from_secs(1), waiting)
            .await
            .is_err()
    );
    sleep(Duration::from_millis(1)).await;
    assert_eq!((house.holders("pool"), house.waiters("pool")), (1, 0));
    held.release().await.unwrap();
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn freezes(house: &House, result: Result<u32, Failure>) -> Result<u32, Failure> {
    house.server.faults().freeze();
    result
}

// T43, P03
#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_logged_and_hides_nothing() {
    for result in [Ok(1), Err(Failure::OfTheBody(2))] {
        let house = House::new().await;
        let log = Log::listen();
        let expected = format!("{result:?}");
        let ended = house.client.clone().scope(freezes(&house, result)).await;
        assert_eq!(format!("{ended:?}"), expected);
        let warnings = log.warnings();
        assert!(
            warnings.iter().any(|line| line.contains("release failed")),
            "{warnings:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_in_order_is_not_logged() {
    let house = House::new().await;
    let log = Log::listen();
    house
        .client
        .clone()
        .scope(ends(&house, End::Value))
        .await
        .unwrap();
    assert_eq!(log.warnings(), [""; 0]);
}

#[dflock::semaphore(key = "pool", limit = 2)]
async fn of_another_limit() -> anyhow::Result<()> {
    unreachable!("there is no slot")
}

#[tokio::test(start_paused = true)]
async fn no_slot_is_an_error_and_the_body_does_not_run() {
    let house = House::new().await;
    let held = house
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let error = house
        .client
        .clone()
        .scope(of_another_limit())
        .await
        .unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::LimitMismatch { .. })),
        "{error}"
    );

    let Err(Failure::OfTheSlot(error)) = house.client.clone().scope(ends(&house, End::Value)).await
    else {
        panic!("the slot is taken")
    };
    assert!(error.is_timeout());
    held.release().await.unwrap();

    house.server.faults().refuse_connections(true);
    house.server.faults().disconnect_all();
    let Err(Failure::OfTheSlot(error)) = house.client.clone().scope(ends(&house, End::Value)).await
    else {
        panic!("there is no server")
    };
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}
