//! The layer for tower.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use dflock::tower::{BoxError, SlotLayer};
use dflock::{ConfigError, Error, Held, Semaphore};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::fixture::Fixture as House;

const SECOND: Duration = Duration::from_secs(1);

/// What a request asks for.
#[derive(Default)]
struct Ask {
    tenant: &'static str,
    fence: Option<u64>,
}

fn of(tenant: &'static str) -> Ask {
    Ask {
        tenant,
        fence: None,
    }
}

/// The semaphore of a tenant.
fn of_tenant(
    house: &House,
    limit: u32,
) -> impl Fn(&Ask) -> Result<Semaphore, ConfigError> + Clone + use<> {
    let client = house.client.clone();
    move |ask| client.semaphore(ask.tenant, limit)
}

#[tokio::test(start_paused = true)]
async fn services_that_know_nothing_of_each_other_share_the_slots_of_a_key() {
    let house = House::new().await;
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counted, seen) = (now.clone(), most.clone());
    let work = service_fn(move |ask: Ask| {
        let (now, most) = (counted.clone(), seen.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(SECOND).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, BoxError>(ask.tenant)
        }
    });
    let mut requests = JoinSet::new();
    let began = Instant::now();
    for _ in 0..3 {
        let service = SlotLayer::new(of_tenant(&house, 2)).layer(work.clone());
        requests.spawn(service.clone().oneshot(of("acme")));
        requests.spawn(service.oneshot(of("acme")));
    }
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "acme");
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(house.holders("acme"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_key_is_of_the_request() {
    let house = House::new().await;
    let _taken = house
        .client
        .semaphore("acme", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let service = SlotLayer::new(of_tenant(&house, 1))
        .layer(service_fn(async |ask: Ask| Ok::<_, BoxError>(ask.tenant)));
    assert_eq!(service.clone().oneshot(of("other")).await.unwrap(), "other");
    let error = service.clone().oneshot(of("acme")).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_timeout());
    let error = service.oneshot(of("")).await.unwrap_err();
    assert!(
        matches!(
            error.downcast_ref(),
            Some(Error::Config(ConfigError::Key { .. }))
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_slot_stops_the_service_inside() {
    let house = House::new().await;
    let begun = Arc::new(Notify::new());
    let guard = Arc::new(());
    let (tell, alive) = (begun.clone(), Arc::downgrade(&guard));
    let work = service_fn(move |_: Ask| {
        let (begun, guard) = (tell.clone(), guard.clone());
        async move {
            begun.notify_one();
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, BoxError>(())
        }
    });
    let request = tokio::spawn(
        SlotLayer::new(of_tenant(&house, 1))
            .layer(work)
            .oneshot(of("acme")),
    );
    begun.notified().await;
    house.server.faults().disconnect("acme");
    let error = timeout(SECOND, request)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_lost());
    assert_eq!(alive.strong_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_from_inside_comes_out_as_it_is_and_gives_the_slot_back() {
    let house = House::new().await;
    let service = SlotLayer::new(of_tenant(&house, 1))
        .layer(service_fn(async |_: Ask| Err::<(), _>(std::fmt::Error)));
    for _ in 0..2 {
        let error = service.clone().oneshot(of("acme")).await.unwrap_err();
        assert!(error.is::<std::fmt::Error>());
        assert_eq!(house.holders("acme"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_leaves_the_line_and_gives_its_slot_back() {
    let house = House::new().await;
    let work = service_fn(async |_: Ask| std::future::pending::<Result<(), BoxError>>().await);
    let mut service = SlotLayer::new(of_tenant(&house, 1)).layer(work);
    let first = tokio::spawn(service.ready().await.unwrap().call(of("acme")));
    sleep(SECOND).await;
    let second = tokio::spawn(service.ready().await.unwrap().call(of("acme")));
    sleep(SECOND).await;
    assert_eq!((house.holders("acme"), house.waiters("acme")), (1, 1));
    second.abort();
    first.abort();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((house.holders("acme"), house.waiters("acme")), (0, 0));
}

/// A service that panics when a clone of it is called that was not polled ready.
#[derive(Default)]
struct Fussy {
    ready: bool,
}

impl Clone for Fussy {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Ask> for Fussy {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Ask) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called, but not ready");
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_that_was_ready_is_the_one_that_serves() {
    let house = House::new().await;
    let mut service = SlotLayer::new(of_tenant(&house, 1)).layer(Fussy::default());
    for _ in 0..2 {
        service
            .ready()
            .await
            .unwrap()
            .call(of("acme"))
            .await
            .unwrap();
    }
    // and it is as busy as what is inside of it
    let mut service = ServiceBuilder::new()
        .layer(SlotLayer::new(of_tenant(&house, 1)))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Fussy::default());
    let call = service.ready().await.unwrap().call(of("acme"));
    assert!(timeout(SECOND, service.ready()).await.is_err());
    call.await.unwrap();
    service.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_service_needs_to_know_of_its_slot_is_written_into_the_request() {
    let house = House::new().await;
    let layer = SlotLayer::new(of_tenant(&house, 1))
        .on_acquired(|ask: &mut Ask, held: &Held| ask.fence = held.fence());
    let service = layer.layer(service_fn(async |ask: Ask| Ok::<_, BoxError>(ask.fence)));
    let first = service.clone().oneshot(of("acme")).await.unwrap();
    let second = service.oneshot(of("acme")).await.unwrap();
    assert!(first.is_some() && second > first, "{first:?}, {second:?}");
}
