//! What each argument does.

use std::sync::Arc;
use std::time::Duration;

use dflock::{Client, ConfigError, Error, LostReason};
use tokio::time::{Instant, sleep};

use crate::fixture::Fixture as House;

#[dflock::semaphore(key = "report:{tenant}:{day:02}:{{x}}", limit = 3, slot = held)]
async fn template(tenant: &str, day: u8) -> Result<String, Error> {
    Ok(held.key().to_owned())
}

#[dflock::lock(key = ["a", "b"].join(separator), slot = held)]
async fn expression(separator: &str) -> Result<String, Error> {
    Ok(held.key().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_key_is_a_template_or_an_expression() {
    let house = House::new().await;
    let client = &house.client;
    assert_eq!(
        client.clone().scope(template("acme", 7)).await.unwrap(),
        "report:acme:07:{x}"
    );
    assert_eq!(client.clone().scope(expression("/")).await.unwrap(), "a/b");
}

// T16, N10, G28, P32: refused before anything is sent
#[tokio::test(start_paused = true)]
async fn what_only_shows_when_it_runs_is_an_error() {
    let house = House::new().await;
    let error = house
        .client
        .clone()
        .scope(expression("\n"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Config(ConfigError::Key { .. })),
        "{error}"
    );
    let shop = Shop {
        client: Arc::new(house.client.clone()),
        limit: 0,
        wait: Duration::ZERO,
        ratio: 0.5,
    };
    let error = shop.of_fields().await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    let error = Shop {
        limit: 1,
        ratio: f64::NAN,
        ..shop
    }
    .of_fields()
    .await
    .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert_eq!(house.server.stats().connections, 0);
}

struct Shop {
    client: Arc<Client>,
    limit: u32,
    wait: Duration,
    ratio: f64,
}

impl Shop {
    #[dflock::semaphore(
        key = "pool", client = self.client, limit = self.limit, acquire_timeout = self.wait, renew_ratio = self.ratio, slot = held
    )]
    async fn of_fields(&self) -> Result<u32, Error> {
        held.check()?;
        Ok(self.limit)
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_that_is_named_goes_before_that_of_the_task() {
    let (named, scoped) = (House::new().await, House::new().await);
    let shop = Shop {
        client: Arc::new(named.client.clone()),
        limit: 5,
        wait: Duration::ZERO,
        ratio: 0.5,
    };
    assert_eq!(
        scoped.client.clone().scope(shop.of_fields()).await.unwrap(),
        5
    );
    assert_eq!(
        (
            named.server.stats().connections,
            scoped.server.stats().connections
        ),
        (1, 0)
    );
}

#[dflock::lock(key = "pool", acquire_timeout = "2s")]
async fn patient() -> Result<(), Error> {
    Ok(())
}

#[dflock::lock(key = "pool", acquire_timeout = Duration::ZERO)]
async fn impatient() -> Result<(), Error> {
    Ok(())
}

// T32
#[tokio::test(start_paused = true)]
async fn a_wait_is_as_long_as_it_says() {
    let house = House::new().await;
    let held = house.client.lock("pool").unwrap().acquire().await.unwrap();
    let began = Instant::now();
    assert!(
        house
            .client
            .clone()
            .scope(impatient())
            .await
            .unwrap_err()
            .is_timeout()
    );
    assert_eq!(began.elapsed().as_secs(), 0);
    assert!(
        house
            .client
            .clone()
            .scope(patient())
            .await
            .unwrap_err()
            .is_timeout()
    );
    assert_eq!(began.elapsed().as_secs(), 2);
    held.release().await.unwrap();
    house.client.clone().scope(impatient()).await.unwrap();
}

#[dflock::semaphore(key = "pool", limit = 1, lease_ttl = "1m30s", slot = held)]
async fn leased() -> Result<Duration, Error> {
    // kept for as long as the body runs
    sleep(Duration::from_mins(5)).await;
    held.check()?;
    Ok(held.lease())
}

#[dflock::semaphore(key = "pool", limit = 1, slot = held)]
async fn of_the_server() -> Result<Duration, Error> {
    Ok(held.lease())
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_as_long_as_it_says_and_else_as_the_server_says() {
    let house = House::new().await;
    assert_eq!(
        house
            .client
            .clone()
            .scope(leased())
            .await
            .unwrap()
            .as_secs(),
        90
    );
    assert_eq!(
        house
            .client
            .clone()
            .scope(of_the_server())
            .await
            .unwrap()
            .as_secs(),
        33
    );
}

#[dflock::lock(key = "pool", lease_ttl = "10s", renew_ratio = 0.2, slot = held)]
async fn renewed_early(after: Duration) -> Result<Duration, Error> {
    sleep(after).await;
    Ok(held.remaining())
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_after_the_part_of_it_that_is_said() {
    let house = House::new().await;
    let remaining = house
        .client
        .clone()
        .scope(renewed_early(Duration::from_millis(2200)))
        .await
        .unwrap();
    assert!(remaining > Duration::from_secs(8), "{remaining:?}");
}

#[dflock::semaphore(key = "pool", limit = 2, slot = held)]
async fn seen(house: &House) -> Result<(String, Option<u64>), Error> {
    let before = held.remaining();
    sleep(Duration::from_secs(1)).await;
    assert!(held.remaining() < before);
    held.renew().await?;
    assert!(held.remaining() >= before);
    house.server.faults().disconnect("pool");
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    Ok((held.token().as_str().to_owned(), held.fence()))
}

#[tokio::test(start_paused = true)]
async fn the_body_sees_its_slot() {
    let house = House::new().await;
    let client = house
        .server
        .client_builder()
        .connector(house.server.connector())
        .fencing(true)
        .build()
        .unwrap();
    assert!(client.scope(finish_seen(&house)).await.unwrap().1.is_some());
}

#[dflock::semaphore(key = "other", limit = 2, on_lost = finish, slot = held)]
async fn finish_seen(house: &House) -> Result<(String, Option<u64>), Error> {
    assert_eq!(held.key(), "other");
    assert!(seen(house).await.unwrap_err().is_lost());
    Ok((held.token().as_str().to_owned(), held.fence()))
}

mod reexport {
    pub(super) mod locks {
        pub(crate) use dflock::*;
    }
}

#[reexport::locks::lock(key = "pool", crate = reexport::locks, slot = held)]
async fn through_a_reexport() -> Result<String, Error> {
    Ok(held.key().to_owned())
}

#[tokio::test(start_paused = true)]
async fn dflock_may_have_another_name() {
    let house = House::new().await;
    assert_eq!(
        house
            .client
            .clone()
            .scope(through_a_reexport())
            .await
            .unwrap(),
        "pool"
    );
}

/// Notes that it was asked, and answers.
fn asked<T>(log: &std::sync::Mutex<Vec<&'static str>>, what: &'static str, answer: T) -> T {
    log.lock().unwrap().push(what);
    answer
}

#[dflock::semaphore(limit = asked(log, "limit", 1), key = asked(log, "key", "pool"), client = *asked(log, "client", client))]
async fn evaluated(
    log: &std::sync::Mutex<Vec<&'static str>>,
    client: &Client,
) -> Result<(), Error> {
    asked(log, "body", ());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn expressions_are_evaluated_once_and_in_their_order_before_the_body() {
    let house = House::new().await;
    let log = std::sync::Mutex::default();
    let future = evaluated(&log, &house.client);
    assert!(
        log.lock().unwrap().is_empty(),
        "nothing happens before the future is polled"
    );
    future.await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["limit", "key", "client", "body"]);
}
