//! With other attributes.

use dflock::Error;

use crate::house::House;

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
    let disk: Box<dyn Store> = Box::new(Disk { house: House::new().await, region: "eu".into() });
    assert_eq!(house.client.clone().scope(disk.provided(&house, 7)).await.unwrap(), 1);
    assert_eq!(disk.load(7).await.unwrap(), 1);
    assert_eq!(disk.load(0).await.unwrap(), 0);
    assert_eq!(house.holders("provided:7"), 0);
}

#[tracing::instrument(skip_all, ret)]
#[dflock::semaphore(key = "pool", limit = 1)]
async fn instrumented_over(house: &House) -> Result<u64, Error> {
    Ok(house.holders("pool"))
}

#[dflock::semaphore(key = "pool", limit = 1)]
#[tracing::instrument(skip_all, ret)]
async fn instrumented_under(house: &House) -> Result<u64, Error> {
    tokio::task::yield_now().await;
    Ok(house.holders("pool"))
}

#[tokio::test(start_paused = true)]
async fn a_span_goes_around_it_or_into_it() {
    let house = House::new().await;
    assert_eq!(house.client.clone().scope(instrumented_over(&house)).await.unwrap(), 1);
    assert_eq!(house.client.clone().scope(instrumented_under(&house)).await.unwrap(), 1);
    assert_eq!(house.holders("pool"), 0);
}

#[dflock::lock(key = "test", client = of_this_runtime().await, slot = held)]
#[tokio::test(start_paused = true)]
async fn a_test_holds_a_lock() -> Result<(), Error> {
    assert_eq!(held.key(), "test");
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    Ok(held.check()?)
}

/// A client whose server lives for as long as the runtime.
async fn of_this_runtime() -> dflock::Client {
    let house = House::new().await;
    let client = house.client.clone();
    std::mem::forget(house);
    client
}
