//! Completion of a body: the slot is freed, and the caller gets the result of the body.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use dflock::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::log::Log;
use crate::fixture::{Fixture, acquire_pool, server};

/// A way in which a body returns.
#[derive(Clone, Copy, Debug)]
enum Exit {
    Value,
    Return,
    QuestionMark,
    Error,
}

#[derive(Debug)]
enum Failure {
    Body(u8),
    Slot(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Slot(error)
    }
}

impl From<u8> for Failure {
    fn from(number: u8) -> Self {
        Self::Body(number)
    }
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn exits_with(fixture: &Fixture, exit: Exit) -> Result<u32, Failure> {
    assert_eq!(fixture.holders("pool"), 1);
    sleep(Duration::from_secs(1)).await;
    match exit {
        Exit::Value => {}
        Exit::Return => return Ok(2),
        Exit::QuestionMark => Err(3)?,
        Exit::Error => return Err(Failure::Body(4)),
    }
    assert_eq!(fixture.holders("pool"), 1);
    Ok(1)
}

#[tokio::test(start_paused = true)]
async fn the_slot_is_released_before_the_function_returns() {
    let fixture = Fixture::new().await;
    for exit in [Exit::Value, Exit::Return, Exit::QuestionMark, Exit::Error] {
        let result = fixture
            .client
            .clone()
            .scope(exits_with(&fixture, exit))
            .await;
        assert_eq!(fixture.holders("pool"), 0, "{exit:?}");
        let number = result.or_else(|failure| match failure {
            Failure::Body(number) => Ok(number.into()),
            Failure::Slot(error) => Err(error),
        });
        assert_eq!(number.unwrap(), exit as u32 + 1);
    }
    // The slots were released, so all calls used the same connection.
    assert_eq!(fixture.server.stats().connections, 1);
}

/// Notifies `runs` when its body runs, and never returns.
#[dflock::semaphore(key = "pool", limit = 1)]
async fn hangs(runs: Arc<Notify>, then: fn()) -> Result<(), Error> {
    runs.notify_one();
    then();
    pending().await
}

/// Spawns [`hangs`] and waits until its body runs.
async fn spawn_hanging(fixture: &Fixture, then: fn()) -> JoinHandle<Result<(), Error>> {
    let runs = Arc::new(Notify::new());
    let task = tokio::spawn(fixture.client.clone().scope(hangs(runs.clone(), then)));
    runs.notified().await;
    task
}

#[tokio::test(start_paused = true)]
async fn panic_and_cancellation_free_the_slot() {
    // With auto-release off, only a release frees the slot, and not the end of the connection.
    for auto_release in [true, false] {
        let fixture = Fixture::with_config(server().auto_release(auto_release).build()).await;
        let panicked = spawn_hanging(&fixture, || panic!("with a held slot"))
            .await
            .await
            .unwrap_err();
        assert!(panicked.is_panic());
        sleep(Duration::from_millis(1)).await;
        assert_eq!(fixture.holders("pool"), 0);

        let task = spawn_hanging(&fixture, || {}).await;
        assert_eq!(fixture.holders("pool"), 1);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        sleep(Duration::from_millis(1)).await;
        assert_eq!(fixture.holders("pool"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_leaves_the_queue() {
    let fixture = Fixture::new().await;
    let held = acquire_pool(&fixture.client).await;
    let waiting = fixture
        .client
        .clone()
        .scope(exits_with(&fixture, Exit::Value));
    assert!(
        tokio::time::timeout(Duration::from_secs(1), waiting)
            .await
            .is_err()
    );
    sleep(Duration::from_millis(1)).await;
    assert_eq!((fixture.holders("pool"), fixture.waiters("pool")), (1, 0));
    held.release().await.unwrap();
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn freezes(fixture: &Fixture, result: Result<u32, Failure>) -> Result<u32, Failure> {
    fixture.server.faults().freeze();
    result
}

// T43, P03
#[tokio::test(start_paused = true)]
async fn a_failed_release_is_logged_and_does_not_change_the_result() {
    for result in [Ok(1), Err(Failure::Body(2))] {
        let fixture = Fixture::new().await;
        let log = Log::start();
        let expected = format!("{result:?}");
        let returned = fixture
            .client
            .clone()
            .scope(freezes(&fixture, result))
            .await;
        assert_eq!(format!("{returned:?}"), expected);
        let warnings = log.warnings();
        assert!(
            warnings.iter().any(|line| line.contains("release failed")),
            "{warnings:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_successful_release_is_not_logged() {
    let fixture = Fixture::new().await;
    let log = Log::start();
    fixture
        .client
        .clone()
        .scope(exits_with(&fixture, Exit::Value))
        .await
        .unwrap();
    assert_eq!(log.warnings(), [""; 0]);
}

#[dflock::semaphore(key = "pool", limit = 2)]
async fn with_another_limit() -> anyhow::Result<()> {
    unreachable!("the acquire fails")
}

#[tokio::test(start_paused = true)]
async fn a_failed_acquire_is_an_error_and_the_body_does_not_run() {
    let fixture = Fixture::new().await;
    let held = acquire_pool(&fixture.client).await;
    let error = fixture
        .client
        .clone()
        .scope(with_another_limit())
        .await
        .unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::LimitMismatch { .. })),
        "{error}"
    );

    let Err(Failure::Slot(error)) = fixture
        .client
        .clone()
        .scope(exits_with(&fixture, Exit::Value))
        .await
    else {
        panic!("the slot is taken")
    };
    assert!(error.is_timeout());
    held.release().await.unwrap();

    fixture.server.faults().refuse_connections(true);
    fixture.server.faults().disconnect_all();
    let Err(Failure::Slot(error)) = fixture
        .client
        .clone()
        .scope(exits_with(&fixture, Exit::Value))
        .await
    else {
        panic!("there is no server")
    };
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}
