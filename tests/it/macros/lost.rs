//! What becomes of a body whose slot is lost.

use std::future::pending;
use std::time::Duration;

use dflock::Error;
use tokio::time::{Instant, sleep};

use crate::house::House;

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
    let error = house.client.clone().scope(stops(&house, &mut stopped)).await.unwrap_err();
    assert!(error.downcast::<Error>().unwrap().is_lost());
    assert!(stopped);
    assert!(began.elapsed() <= Duration::from_secs(5), "the next renewal tells");
}

#[dflock::semaphore(key = "pool", limit = 1, lease_ttl = "10s", on_lost = cancel)]
async fn in_the_same_moment(house: &House) -> Result<(), Error> {
    house.server.faults().freeze();
    // longer than the lease, and the executor does not get to see it
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_value_of_a_body_whose_slot_was_lost_is_given_up() {
    let house = House::new().await;
    assert!(house.client.clone().scope(in_the_same_moment(&house)).await.unwrap_err().is_lost());
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
    assert_eq!(house.client.clone().scope(finishes(&house, Ok(7))).await.unwrap(), 7);
    assert_eq!(house.server.stats().connections, 0, "what is lost is not used again");
    let error = dflock::ConfigError::NoServers.into();
    let error = house.client.clone().scope(finishes(&house, Err(error))).await.unwrap_err();
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
        assert_eq!(house.client.clone().scope(keeps_its_slot(&house)).await.unwrap(), 1);
        assert_eq!(house.holders("pool"), 0);
    }
    assert_eq!(house.server.stats().connections, 1);
}
