//! `permits`: functions that hold several slots.

use dflock::{Client, Error, Held};

use crate::fixture::Fixture;

const LIMIT: u32 = 4;

#[dflock::semaphore(
    key = "pool",
    limit = LIMIT,
    permits = permits,
    client = client,
    acquire_timeout = "2s",
    slot = held
)]
async fn holding(client: &Client, permits: u32) -> Result<u32, Error> {
    assert_eq!(held.tokens().count(), permits as usize);
    Ok(held.permits())
}

#[dflock::semaphore(key = "pool", limit = 4, permits = 3, client = client, when_busy = skip)]
async fn skipping(client: &Client) -> Result<Option<u8>, Error> {
    Ok(Some(7))
}

#[tokio::test(start_paused = true)]
async fn a_call_holds_its_permits_all_or_none() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    for permits in 1..=LIMIT {
        assert_eq!(holding(client, permits).await.unwrap(), permits);
        assert_eq!(fixture.holders("pool"), 0);
    }
    assert_eq!(skipping(client).await.unwrap(), Some(7));
    let pool = client.semaphore("pool", LIMIT).unwrap();
    let _others = pool.acquire_many(2).await.unwrap();
    assert_eq!(skipping(client).await.unwrap(), None);
    assert!(holding(client, 3).await.unwrap_err().is_timeout());
    assert_eq!(holding(client, 2).await.unwrap(), 2);
    assert_eq!(fixture.holders("pool"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_is_an_error_of_the_call() {
    let fixture = Fixture::new().await;
    for permits in [0, LIMIT + 1] {
        let error = holding(&fixture.client, permits).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error}");
    }
    assert_eq!(fixture.server.stats().connections, 0);
}

/// The slot of a body is a plain one without `permits`.
#[tokio::test(start_paused = true)]
async fn with_slot_holds_one_permit() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", LIMIT).unwrap();
    let permits = pool.with_slot(async |held: &Held| held.permits()).await;
    assert_eq!(permits.unwrap(), 1);
}
