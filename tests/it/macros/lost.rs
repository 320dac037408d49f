//! Bodies whose slot is lost.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use dflock::Error;
use tokio::time::{Instant, sleep};

use super::log::Log;
use crate::fixture::Fixture;

/// Sets the flag when it is dropped.
struct SetOnDrop<'a>(&'a mut bool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        *self.0 = true;
    }
}

#[dflock::semaphore(key = "pool", limit = 1, lease_ttl = "10s")]
async fn loses_slot_and_hangs(fixture: &Fixture, stopped: &mut bool) -> anyhow::Result<()> {
    let _stopped = SetOnDrop(stopped);
    fixture.server.faults().expire("pool");
    pending().await
}

// G12, N8
#[tokio::test(start_paused = true)]
async fn a_lost_slot_cancels_the_body_and_the_caller_gets_the_loss() {
    let fixture = Fixture::new().await;
    let (mut stopped, began) = (false, Instant::now());
    let error = fixture
        .client
        .clone()
        .scope(loses_slot_and_hangs(&fixture, &mut stopped))
        .await
        .unwrap_err();
    assert!(error.downcast::<Error>().unwrap().is_lost());
    assert!(stopped);
    assert!(
        began.elapsed() <= Duration::from_secs(5),
        "the next renewal reports the loss"
    );
}

#[dflock::semaphore(key = "pool", limit = 1, lease_ttl = "10s", on_lost = cancel)]
async fn blocks_the_executor(result: anyhow::Result<u32>) -> anyhow::Result<u32> {
    // Longer than the lease, in one poll: the body cannot be stopped.
    let mut advance = pin!(tokio::time::advance(Duration::from_secs(20)));
    poll_fn(|cx| Poll::Ready(advance.as_mut().poll(cx).is_ready())).await;
    result
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_made_without_the_slot_is_discarded() {
    let fixture = Fixture::new().await;
    let log = Log::start();
    let error = fixture
        .client
        .clone()
        .scope(blocks_the_executor(Ok(1)))
        .await
        .unwrap_err();
    assert!(error.downcast::<Error>().unwrap().is_lost());
    let warnings = log.warnings();
    assert!(
        warnings.iter().any(|line| line.contains("value discarded")),
        "{warnings:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_body_takes_precedence_over_the_loss() {
    let fixture = Fixture::new().await;
    let log = Log::start();
    let error = fixture
        .client
        .clone()
        .scope(blocks_the_executor(Err(anyhow::anyhow!(
            "error of the body"
        ))))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "error of the body");
    let warnings = log.warnings();
    assert!(
        warnings.iter().any(|line| line.contains("release failed")),
        "the loss is logged: {warnings:?}"
    );
}

#[dflock::lock(key = "nightly", lease_ttl = "10s", on_lost = finish, slot = held)]
async fn finishes_after_loss(fixture: &Fixture, result: Result<u32, Error>) -> Result<u32, Error> {
    fixture.server.faults().expire("nightly");
    held.lost().await;
    sleep(Duration::from_mins(1)).await;
    assert!(held.is_lost());
    result
}

#[tokio::test(start_paused = true)]
async fn with_on_lost_finish_the_caller_gets_the_result_of_the_body() {
    let fixture = Fixture::new().await;
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(finishes_after_loss(&fixture, Ok(7)))
            .await
            .unwrap(),
        7
    );
    assert_eq!(
        fixture.server.stats().connections,
        0,
        "the connection of a lost slot is not reused"
    );
    let error = dflock::ConfigError::NoServers.into();
    let error = fixture
        .client
        .clone()
        .scope(finishes_after_loss(&fixture, Err(error)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Config(_)),
        "the error of the body: {error}"
    );
}

#[dflock::semaphore(key = "pool", limit = 1, on_lost = finish)]
async fn keeps_its_slot(fixture: &Fixture) -> Result<u64, Error> {
    sleep(Duration::from_mins(1)).await;
    Ok(fixture.holders("pool"))
}

#[tokio::test(start_paused = true)]
async fn with_on_lost_finish_the_slot_is_released() {
    let fixture = Fixture::new().await;
    for _ in 0..2 {
        assert_eq!(
            fixture
                .client
                .clone()
                .scope(keeps_its_slot(&fixture))
                .await
                .unwrap(),
            1
        );
        assert_eq!(fixture.holders("pool"), 0);
    }
    assert_eq!(fixture.server.stats().connections, 1);
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn loses_slot(fixture: &Fixture, result: anyhow::Result<u32>) -> anyhow::Result<u32> {
    fixture.server.faults().expire("pool");
    result
}

#[dflock::semaphore(key = "pool", limit = 1, on_lost = finish)]
async fn loses_slot_and_finishes(fixture: &Fixture) -> Result<u32, Error> {
    fixture.server.faults().expire("pool");
    Ok(7)
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_the_release_reports_is_a_loss() {
    let fixture = Fixture::new().await;
    let scoped = fixture.client.clone();
    let error = scoped
        .clone()
        .scope(loses_slot(&fixture, Ok(1)))
        .await
        .unwrap_err();
    assert!(error.downcast::<Error>().unwrap().is_lost());
    let error = scoped
        .clone()
        .scope(loses_slot(
            &fixture,
            Err(anyhow::anyhow!("error of the body")),
        ))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "error of the body");
    assert_eq!(
        scoped
            .scope(loses_slot_and_finishes(&fixture))
            .await
            .unwrap(),
        7
    );
}
