//! Combinations with other attributes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use dflock::Error;
use tokio::time::sleep;

use super::log::Log;
use crate::fixture::Fixture;

#[async_trait::async_trait]
trait Store: Send + Sync {
    async fn load(&self, id: u32) -> Result<u64, Error>;

    #[dflock::semaphore(key = "provided:{id}", limit = 2, slot = held)]
    async fn provided(&self, fixture: &Fixture, id: u32) -> anyhow::Result<u64> {
        held.check()?;
        assert_eq!(fixture.holders("provided:7"), 1);
        Ok(self.load(id).await?)
    }
}

struct Disk {
    fixture: Fixture,
    region: String,
}

#[async_trait::async_trait]
impl Store for Disk {
    #[dflock::semaphore(
        key = format!("{}:{id}", self.region),
        limit = 2,
        client = self.fixture.client
    )]
    async fn load(&self, id: u32) -> Result<u64, Error> {
        if id == 0 {
            return Ok(0);
        }
        tokio::task::yield_now().await;
        Ok(self.fixture.holders("eu:7"))
    }
}

#[tokio::test(start_paused = true)]
async fn methods_of_trait_objects_hold_a_slot() {
    let fixture = Fixture::new().await;
    let disk: Box<dyn Store> = Box::new(Disk {
        fixture: Fixture::new().await,
        region: "eu".into(),
    });
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(disk.provided(&fixture, 7))
            .await
            .unwrap(),
        1
    );
    assert_eq!(disk.load(7).await.unwrap(), 1);
    assert_eq!(disk.load(0).await.unwrap(), 0);
    assert_eq!(fixture.holders("provided:7"), 0);
}

#[tracing::instrument(name = "work", skip_all, ret)]
#[dflock::semaphore(key = "pool", limit = 1)]
async fn instrument_above(fixture: &Fixture) -> Result<u64, Error> {
    Ok(fixture.holders("pool"))
}

#[dflock::semaphore(key = "pool", limit = 1)]
#[tracing::instrument(name = "work", skip_all, ret)]
async fn instrument_below(fixture: &Fixture) -> Result<u64, Error> {
    tokio::task::yield_now().await;
    Ok(fixture.holders("pool"))
}

#[tokio::test(start_paused = true)]
async fn an_attribute_above_applies_to_the_body_and_one_below_includes_the_wait() {
    let fixture = Fixture::new().await;
    assert_eq!(
        spans(&fixture, instrument_above(&fixture)).await,
        ["acquire", "hold", "work"]
    );
    assert_eq!(
        spans(&fixture, instrument_below(&fixture)).await,
        ["work", "acquire", "hold"]
    );
}

/// Runs `call`, which has to wait for its slot. Returns its spans in order.
async fn spans(
    fixture: &Fixture,
    call: impl Future<Output = Result<u64, Error>>,
) -> Vec<&'static str> {
    let held = fixture
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let log = Log::start();
    let mut call = pin!(fixture.client.clone().scope(call));
    tokio::select! {
        _ = &mut call => unreachable!("the slot is taken"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    let waiting = log.spans();
    assert_eq!(fixture.waiters("pool"), 1);
    held.release().await.unwrap();
    assert_eq!(call.await.unwrap(), 1);
    assert_eq!(fixture.holders("pool"), 0);
    let spans = log.spans();
    assert!(
        spans.starts_with(&waiting) && waiting.ends_with(&["acquire"]),
        "{waiting:?}, {spans:?}"
    );
    spans
}

#[dflock::lock(key = "test", client = leaked_client().await, slot = held)]
#[tokio::test(start_paused = true)]
async fn a_test_holds_a_lock() -> Result<(), Error> {
    assert_eq!(held.key(), "test");
    sleep(Duration::from_mins(1)).await;
    Ok(held.check()?)
}

/// Returns a client whose server lives as long as the runtime.
async fn leaked_client() -> dflock::Client {
    let fixture = Fixture::new().await;
    let client = fixture.client.clone();
    std::mem::forget(fixture);
    client
}
