//! Arguments of the attributes.

use std::sync::Arc;
use std::time::Duration;

use dflock::{Client, ConfigError, Error, LostReason};
use tokio::time::{Instant, sleep};

use crate::fixture::Fixture;

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
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    assert_eq!(
        client.clone().scope(template("acme", 7)).await.unwrap(),
        "report:acme:07:{x}"
    );
    assert_eq!(client.clone().scope(expression("/")).await.unwrap(), "a/b");
}

// T16, N10, G28, P32: invalid values are refused before anything is sent.
#[tokio::test(start_paused = true)]
async fn an_invalid_value_of_an_expression_is_a_config_error() {
    let fixture = Fixture::new().await;
    let error = fixture
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
        client: Arc::new(fixture.client.clone()),
        limit: 0,
        wait: Duration::ZERO,
        ratio: 0.5,
    };
    let error = shop.with_fields().await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    let error = Shop {
        limit: 1,
        ratio: f64::NAN,
        ..shop
    }
    .with_fields()
    .await
    .unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert_eq!(fixture.server.stats().connections, 0);
}

struct Shop {
    client: Arc<Client>,
    limit: u32,
    wait: Duration,
    ratio: f64,
}

impl Shop {
    #[dflock::semaphore(
        key = "pool",
        client = self.client,
        limit = self.limit,
        acquire_timeout = self.wait,
        renew_ratio = self.ratio,
        slot = held
    )]
    async fn with_fields(&self) -> Result<u32, Error> {
        held.check()?;
        Ok(self.limit)
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_argument_overrides_the_client_of_the_scope() {
    let (named, scoped) = (Fixture::new().await, Fixture::new().await);
    let shop = Shop {
        client: Arc::new(named.client.clone()),
        limit: 5,
        wait: Duration::ZERO,
        ratio: 0.5,
    };
    assert_eq!(
        scoped
            .client
            .clone()
            .scope(shop.with_fields())
            .await
            .unwrap(),
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
async fn acquire_timeout_sets_the_longest_wait() {
    let fixture = Fixture::new().await;
    let held = fixture
        .client
        .lock("pool")
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let began = Instant::now();
    assert!(
        fixture
            .client
            .clone()
            .scope(impatient())
            .await
            .unwrap_err()
            .is_timeout()
    );
    assert_eq!(began.elapsed().as_secs(), 0);
    assert!(
        fixture
            .client
            .clone()
            .scope(patient())
            .await
            .unwrap_err()
            .is_timeout()
    );
    assert_eq!(began.elapsed().as_secs(), 2);
    held.release().await.unwrap();
    fixture.client.clone().scope(impatient()).await.unwrap();
}

#[dflock::semaphore(key = "pool", limit = 1, lease_ttl = "1m30s", slot = held)]
async fn own_lease() -> Result<Duration, Error> {
    // Longer than the lease, which is renewed while the body runs.
    sleep(Duration::from_mins(5)).await;
    held.check()?;
    Ok(held.lease())
}

#[dflock::semaphore(key = "pool", limit = 1, slot = held)]
async fn server_lease() -> Result<Duration, Error> {
    Ok(held.lease())
}

#[tokio::test(start_paused = true)]
async fn lease_ttl_defaults_to_that_server_lease() {
    let fixture = Fixture::new().await;
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(own_lease())
            .await
            .unwrap()
            .as_secs(),
        90
    );
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(server_lease())
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
async fn renew_ratio_sets_the_time_of_the_renewal() {
    let fixture = Fixture::new().await;
    let remaining = fixture
        .client
        .clone()
        .scope(renewed_early(Duration::from_millis(2200)))
        .await
        .unwrap();
    assert!(remaining > Duration::from_secs(8), "{remaining:?}");
}

#[dflock::semaphore(key = "pool", limit = 2, slot = held)]
async fn use_slot_until_lost(fixture: &Fixture) -> Result<(String, Option<u64>), Error> {
    let before = held.remaining();
    sleep(Duration::from_secs(1)).await;
    assert!(held.remaining() < before);
    held.renew().await?;
    assert!(held.remaining() >= before);
    fixture.server.faults().disconnect("pool");
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    Ok((held.token().as_str().to_owned(), held.fence()))
}

#[tokio::test(start_paused = true)]
async fn the_body_can_use_its_slot() {
    let fixture = Fixture::new().await;
    let client = fixture
        .server
        .client_builder()
        .connector(fixture.server.connector())
        .fencing(true)
        .build()
        .unwrap();
    assert!(
        client
            .scope(fence_after_inner_loss(&fixture))
            .await
            .unwrap()
            .1
            .is_some()
    );
}

#[dflock::semaphore(key = "other", limit = 2, on_lost = finish, slot = held)]
async fn fence_after_inner_loss(fixture: &Fixture) -> Result<(String, Option<u64>), Error> {
    assert_eq!(held.key(), "other");
    assert!(use_slot_until_lost(fixture).await.unwrap_err().is_lost());
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
async fn dflock_may_be_reexported() {
    let fixture = Fixture::new().await;
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(through_a_reexport())
            .await
            .unwrap(),
        "pool"
    );
}

/// Records the evaluation of `name` and returns `value`.
fn record<T>(log: &std::sync::Mutex<Vec<&'static str>>, name: &'static str, value: T) -> T {
    log.lock().unwrap().push(name);
    value
}

#[dflock::semaphore(
    limit = record(log, "limit", 1),
    key = record(log, "key", "pool"),
    client = *record(log, "client", client)
)]
async fn recorded(log: &std::sync::Mutex<Vec<&'static str>>, client: &Client) -> Result<(), Error> {
    record(log, "body", ());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn expressions_are_evaluated_once_in_source_order_before_the_body() {
    let fixture = Fixture::new().await;
    let log = std::sync::Mutex::default();
    let future = recorded(&log, &fixture.client);
    assert!(
        log.lock().unwrap().is_empty(),
        "the expressions are evaluated before the first poll"
    );
    future.await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["limit", "key", "client", "body"]);
}
