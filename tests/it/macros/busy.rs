//! `when_busy`: functions that do not run when no slot is free.

use std::time::Duration;

use dflock::{Client, Error};
use tokio::time::Instant;

use crate::fixture::{Fixture, acquire_pool};

#[dflock::semaphore(key = "pool", limit = 1, client = client, when_busy = skip)]
async fn skipping(client: &Client, rows: Vec<u8>) -> Result<Vec<u8>, Error> {
    Ok(rows)
}

#[dflock::lock(key = "lock", client = client, when_busy = skip, on_lost = finish)]
async fn skipping_lock(client: &Client) -> Result<Option<&'static str>, Error> {
    Ok(Some("ran"))
}

#[dflock::semaphore(
    key = "pool",
    limit = 1,
    client = client,
    acquire_timeout = "2s",
    when_busy = error
)]
async fn waiting(client: &Client) -> Result<(), Error> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_skipped_call_returns_the_default_at_once() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    assert_eq!(skipping(client, vec![7]).await.unwrap(), [7]);
    assert_eq!(skipping_lock(client).await.unwrap(), Some("ran"));

    let held = acquire_pool(client).await;
    let lock = client.lock("lock").unwrap().acquire().await.unwrap();
    let started = Instant::now();
    assert_eq!(skipping(client, vec![7]).await.unwrap(), Vec::<u8>::new());
    assert_eq!(skipping_lock(client).await.unwrap(), None);
    assert_eq!(started.elapsed(), Duration::ZERO);
    held.release().await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(skipping(client, vec![7]).await.unwrap(), [7]);
}

#[tokio::test(start_paused = true)]
async fn a_skipping_function_returns_other_errors() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let held = client
        .semaphore("pool", 2)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let error = skipping(client, vec![7]).await.unwrap_err();
    assert!(matches!(error, Error::LimitMismatch { .. }), "{error:?}");
    held.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_function_without_skip_waits_for_its_timeout() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let held = acquire_pool(client).await;
    let started = Instant::now();
    assert!(waiting(client).await.unwrap_err().is_timeout());
    assert!(started.elapsed() >= Duration::from_secs(2));
    held.release().await.unwrap();
}
