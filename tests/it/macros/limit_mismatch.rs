//! `on_limit_mismatch`: annotated functions with another limit than that of the server.

use dflock::{Client, Error};

use super::log::Log;
use crate::fixture::Fixture;

#[dflock::semaphore(
    key = "pool",
    limit = 5,
    client = client,
    on_limit_mismatch = adopt,
    slot = held
)]
async fn adopting(client: &Client) -> Result<u32, Error> {
    Ok(held.limit())
}

// Each call builds a semaphore, so the semaphore cannot remember the limit.
#[tokio::test(start_paused = true)]
async fn calls_adopt_the_limit_of_the_server_with_one_warning_for_each_change() {
    let log = Log::start();
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let acquire = async |limit| {
        client
            .semaphore("pool", limit)
            .unwrap()
            .acquire()
            .await
            .unwrap()
    };
    let held = acquire(8).await;
    for _ in 0..3 {
        assert_eq!(adopting(client).await.unwrap(), 8);
    }
    // The own limit is tried again, and refused again.
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    assert_eq!(adopting(client).await.unwrap(), 8);
    assert_eq!(log.warnings().len(), 1, "{:?}", log.warnings());
    held.release().await.unwrap();

    tokio::time::sleep(std::time::Duration::from_secs(66)).await;
    let held = acquire(9).await;
    assert_eq!(adopting(client).await.unwrap(), 9);
    assert_eq!(log.warnings().len(), 2, "{:?}", log.warnings());
    let warning = &log.warnings()[1];
    for part in ["limit adopted", "ours=5", "theirs=9", "key=\"pool\""] {
        assert!(warning.contains(part), "{warning}");
    }
    held.release().await.unwrap();
}
