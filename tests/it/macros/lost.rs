//! What becomes of a body whose slot is lost.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use dflock::Error;
use tokio::time::{Instant, sleep};

use super::log::Log;
use crate::fixture::Fixture as House;

/// Tells when it is dropped.
struct Flag<'a>(&'a mut bool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        *self.0 = true;
    }
}

#[dflock::semaphore(key = "pool", limit = 1, lease_ttl = "10s")]
async fn stops(house: &House, stopped: &mut bool) -> anyhow::Result<()> {
    let _stopped = Flag(stopped);
    house.server.faults().expire("pool");
    pending().await
}

// G12, N8
#[tokio::test(start_paused = true)]
async fn a_lost_slot_stops_the_body_and_the_caller_is_told() {
    let house = House::new().await;
    let (mut stopped, began) = (false, Instant::now());
    let error = house
        .client
        .clone()
        .scope(stops(&house, &mut stopped))
        .await
        .unwrap_err();
    assert!(error.downcast::<Error>().unwrap().is_lost());
    assert!(stopped);
    assert!(
        began.elapsed() <= Duration::from_secs(5),
        "the next renewal tells"
    );
}

#[dflock::semaphore(key = "pool", limit = 1, lease_ttl = "10s", on_lost = cancel)]
async fn keeps_the_executor_busy(result: anyhow::Result<u32>) -> anyhow::Result<u32> {
    // longer than the lease, and in one poll: nobody gets to stop it
    let mut advance = pin!(tokio::time::advance(Duration::from_secs(20)));
    poll_fn(|cx| Poll::Ready(advance.as_mut().poll(cx).is_ready())).await;
    result
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_made_without_the_slot_is_given_up() {
    let house = House::new().await;
    let log = Log::listen();
    let error = house
        .client
        .clone()
        .scope(keeps_the_executor_busy(Ok(1)))
        .await
        .unwrap_err();
    assert!(error.downcast::<Error>().unwrap().is_lost());
    let warnings = log.warnings();
    assert!(
        warnings.iter().any(|line| line.contains("value given up")),
        "{warnings:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_failed_by_itself_says_so_whatever_became_of_the_slot() {
    let house = House::new().await;
    let log = Log::listen();
    let error = house
        .client
        .clone()
        .scope(keeps_the_executor_busy(Err(anyhow::anyhow!("of its own"))))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "of its own");
    let warnings = log.warnings();
    assert!(
        warnings.iter().any(|line| line.contains("release failed")),
        "the loss is told: {warnings:?}"
    );
}

#[dflock::lock(key = "nightly", lease_ttl = "10s", on_lost = finish, slot = held)]
async fn finishes(house: &House, result: Result<u32, Error>) -> Result<u32, Error> {
    house.server.faults().expire("nightly");
    held.lost().await;
    sleep(Duration::from_mins(1)).await;
    assert!(held.is_lost());
    result
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_to_finish_does_and_the_caller_gets_what_it_gives() {
    let house = House::new().await;
    assert_eq!(
        house
            .client
            .clone()
            .scope(finishes(&house, Ok(7)))
            .await
            .unwrap(),
        7
    );
    assert_eq!(
        house.server.stats().connections,
        0,
        "what is lost is not used again"
    );
    let error = dflock::ConfigError::NoServers.into();
    let error = house
        .client
        .clone()
        .scope(finishes(&house, Err(error)))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "the body's own: {error}");
}

#[dflock::semaphore(key = "pool", limit = 1, on_lost = finish)]
async fn keeps_its_slot(house: &House) -> Result<u64, Error> {
    sleep(Duration::from_mins(1)).await;
    Ok(house.holders("pool"))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_to_finish_gives_its_slot_back_like_any_other() {
    let house = House::new().await;
    for _ in 0..2 {
        assert_eq!(
            house
                .client
                .clone()
                .scope(keeps_its_slot(&house))
                .await
                .unwrap(),
            1
        );
        assert_eq!(house.holders("pool"), 0);
    }
    assert_eq!(house.server.stats().connections, 1);
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn is_robbed(house: &House, result: anyhow::Result<u32>) -> anyhow::Result<u32> {
    house.server.faults().expire("pool");
    result
}

#[dflock::semaphore(key = "pool", limit = 1, on_lost = finish)]
async fn is_robbed_and_finishes(house: &House) -> Result<u32, Error> {
    house.server.faults().expire("pool");
    Ok(7)
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_only_the_release_tells_of_is_one() {
    let house = House::new().await;
    let scoped = house.client.clone();
    let error = scoped
        .clone()
        .scope(is_robbed(&house, Ok(1)))
        .await
        .unwrap_err();
    assert!(error.downcast::<Error>().unwrap().is_lost());
    let error = scoped
        .clone()
        .scope(is_robbed(&house, Err(anyhow::anyhow!("of its own"))))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "of its own");
    assert_eq!(
        scoped.scope(is_robbed_and_finishes(&house)).await.unwrap(),
        7
    );
}
