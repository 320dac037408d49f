//! With other attributes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use dflock::Error;
use tokio::time::sleep;

use super::log::Log;
use crate::fixture::Fixture as House;

#[async_trait::async_trait]
trait Store: Send + Sync {
    async fn load(&self, id: u32) -> Result<u64, Error>;

    #[dflock::semaphore(key = "provided:{id}", limit = 2, slot = held)]
    async fn provided(&self, house: &House, id: u32) -> anyhow::Result<u64> {
        held.check()?;
        assert_eq!(house.holders("provided:7"), 1);
        Ok(self.load(id).await?)
    }
}

struct Disk {
    house: House,
    region: String,
}

#[async_trait::async_trait]
impl Store for Disk {
    #[dflock::semaphore(key = format!("{}:{id}", self.region), limit = 2, client = self.house.client)]
    async fn load(&self, id: u32) -> Result<u64, Error> {
        if id == 0 {
            return Ok(0);
        }
        tokio::task::yield_now().await;
        Ok(self.house.holders("eu:7"))
    }
}

#[tokio::test(start_paused = true)]
async fn methods_of_trait_objects_hold_a_slot() {
    let house = House::new().await;
    let disk: Box<dyn Store> = Box::new(Disk {
        house: House::new().await,
        region: "eu".into(),
    });
    assert_eq!(
        house
            .client
            .clone()
            .scope(disk.provided(&house, 7))
            .await
            .unwrap(),
        1
    );
    assert_eq!(disk.load(7).await.unwrap(), 1);
    assert_eq!(disk.load(0).await.unwrap(), 0);
    assert_eq!(house.holders("provided:7"), 0);
}

#[tracing::instrument(name = "work", skip_all, ret)]
#[dflock::semaphore(key = "pool", limit = 1)]
async fn instrumented_over(house: &House) -> Result<u64, Error> {
    Ok(house.holders("pool"))
}

#[dflock::semaphore(key = "pool", limit = 1)]
#[tracing::instrument(name = "work", skip_all, ret)]
async fn instrumented_under(house: &House) -> Result<u64, Error> {
    tokio::task::yield_now().await;
    Ok(house.holders("pool"))
}

#[tokio::test(start_paused = true)]
async fn a_span_of_an_attribute_above_is_inside_the_slot_and_of_one_below_around_the_wait() {
    let house = House::new().await;
    assert_eq!(
        spans(&house, instrumented_over(&house)).await,
        ["acquire", "hold", "work"]
    );
    assert_eq!(
        spans(&house, instrumented_under(&house)).await,
        ["work", "acquire", "hold"]
    );
}

/// The spans of `call`, which has to wait for its slot, in their order.
async fn spans(house: &House, call: impl Future<Output = Result<u64, Error>>) -> Vec<&'static str> {
    let held = house
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let log = Log::listen();
    let mut call = pin!(house.client.clone().scope(call));
    tokio::select! {
        _ = &mut call => unreachable!("the slot is taken"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    let waiting = log.spans();
    assert_eq!(house.waiters("pool"), 1);
    held.release().await.unwrap();
    assert_eq!(call.await.unwrap(), 1);
    assert_eq!(house.holders("pool"), 0);
    let spans = log.spans();
    assert!(
        spans.starts_with(&waiting) && waiting.ends_with(&["acquire"]),
        "{waiting:?}, {spans:?}"
    );
    spans
}

#[dflock::lock(key = "test", client = of_this_runtime().await, slot = held)]
#[tokio::test(start_paused = true)]
async fn a_test_holds_a_lock() -> Result<(), Error> {
    assert_eq!(held.key(), "test");
    sleep(Duration::from_mins(1)).await;
    Ok(held.check()?)
}

/// A client whose server lives for as long as the runtime.
async fn of_this_runtime() -> dflock::Client {
    let house = House::new().await;
    let client = house.client.clone();
    std::mem::forget(house);
    client
}
