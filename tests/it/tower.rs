//! Tower layer.

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

use crate::fixture::Fixture;

const SECOND: Duration = Duration::from_secs(1);

/// A request of a tenant.
#[derive(Default)]
struct Request {
    tenant: &'static str,
    fence: Option<u64>,
}

fn request(tenant: &'static str) -> Request {
    Request {
        tenant,
        fence: None,
    }
}

/// Returns a function that maps a request to the semaphore of its tenant.
fn tenant_semaphore(
    fixture: &Fixture,
    limit: u32,
) -> impl Fn(&Request) -> Result<Semaphore, ConfigError> + Clone + use<> {
    let client = fixture.client.clone();
    move |request| client.semaphore(request.tenant, limit)
}

#[tokio::test(start_paused = true)]
async fn independent_services_share_the_slots_of_a_key() {
    let fixture = Fixture::new().await;
    let (now, max) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now_in_service, max_in_service) = (now.clone(), max.clone());
    let work = service_fn(move |request: Request| {
        let (now, max) = (now_in_service.clone(), max_in_service.clone());
        async move {
            max.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(SECOND).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, BoxError>(request.tenant)
        }
    });
    let mut requests = JoinSet::new();
    let began = Instant::now();
    for _ in 0..3 {
        let service = SlotLayer::new(tenant_semaphore(&fixture, 2)).layer(work.clone());
        requests.spawn(service.clone().oneshot(request("acme")));
        requests.spawn(service.oneshot(request("acme")));
    }
    while let Some(response) = requests.join_next().await {
        assert_eq!(response.unwrap().unwrap(), "acme");
    }
    assert_eq!(max.load(Ordering::SeqCst), 2);
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(fixture.holders("acme"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lock_admits_one_request_at_once() {
    let fixture = Fixture::new().await;
    let lock = fixture.client.lock("acme").unwrap();
    let layer = {
        let lock = lock.clone();
        SlotLayer::new(move |_: &Request| Ok(lock.clone()))
    };
    let client = fixture.client.clone();
    let work = service_fn(move |request: Request| {
        let client = client.clone();
        async move {
            let second = client.lock("acme")?.try_acquire().await;
            assert!(second.unwrap_err().is_timeout());
            Ok::<_, BoxError>(request.tenant)
        }
    });
    let service = layer.layer(work);
    assert_eq!(service.oneshot(request("acme")).await.unwrap(), "acme");
    lock.try_acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_request_selects_the_key() {
    let fixture = Fixture::new().await;
    let _taken = fixture
        .client
        .semaphore("acme", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let service = SlotLayer::new(tenant_semaphore(&fixture, 1)).layer(service_fn(
        async |request: Request| Ok::<_, BoxError>(request.tenant),
    ));
    assert_eq!(
        service.clone().oneshot(request("other")).await.unwrap(),
        "other"
    );
    let error = service.clone().oneshot(request("acme")).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_timeout());
    let error = service.oneshot(request("")).await.unwrap_err();
    assert!(
        matches!(
            error.downcast_ref(),
            Some(Error::Config(ConfigError::Key { .. }))
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_slot_cancels_the_inner_service() {
    let fixture = Fixture::new().await;
    let started = Arc::new(Notify::new());
    let guard = Arc::new(());
    let (started_in_service, alive) = (started.clone(), Arc::downgrade(&guard));
    let work = service_fn(move |_: Request| {
        let (started, guard) = (started_in_service.clone(), guard.clone());
        async move {
            started.notify_one();
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, BoxError>(())
        }
    });
    let task = tokio::spawn(
        SlotLayer::new(tenant_semaphore(&fixture, 1))
            .layer(work)
            .oneshot(request("acme")),
    );
    started.notified().await;
    fixture.server.faults().disconnect("acme");
    let error = timeout(SECOND, task).await.unwrap().unwrap().unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_lost());
    assert_eq!(alive.strong_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_is_returned_and_the_slot_is_released() {
    let fixture = Fixture::new().await;
    let service = SlotLayer::new(tenant_semaphore(&fixture, 1))
        .layer(service_fn(async |_: Request| Err::<(), _>(std::fmt::Error)));
    for _ in 0..2 {
        let error = service.clone().oneshot(request("acme")).await.unwrap_err();
        assert!(error.is::<std::fmt::Error>());
        assert_eq!(fixture.holders("acme"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_leaves_the_queue_or_frees_its_slot() {
    let fixture = Fixture::new().await;
    let work = service_fn(async |_: Request| std::future::pending::<Result<(), BoxError>>().await);
    let mut service = SlotLayer::new(tenant_semaphore(&fixture, 1)).layer(work);
    let first = tokio::spawn(service.ready().await.unwrap().call(request("acme")));
    sleep(SECOND).await;
    let second = tokio::spawn(service.ready().await.unwrap().call(request("acme")));
    sleep(SECOND).await;
    assert_eq!((fixture.holders("acme"), fixture.waiters("acme")), (1, 1));
    second.abort();
    first.abort();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((fixture.holders("acme"), fixture.waiters("acme")), (0, 0));
}

/// A service that panics if it is called without being polled ready. Clones are not ready.
#[derive(Default)]
struct StrictService {
    ready: bool,
}

impl Clone for StrictService {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request> for StrictService {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called, but not ready");
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_that_was_polled_ready_is_called() {
    let fixture = Fixture::new().await;
    let mut service = SlotLayer::new(tenant_semaphore(&fixture, 1)).layer(StrictService::default());
    for _ in 0..2 {
        service
            .ready()
            .await
            .unwrap()
            .call(request("acme"))
            .await
            .unwrap();
    }
    // The layer is ready only if the inner service is.
    let mut service = ServiceBuilder::new()
        .layer(SlotLayer::new(tenant_semaphore(&fixture, 1)))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(StrictService::default());
    let call = service.ready().await.unwrap().call(request("acme"));
    assert!(timeout(SECOND, service.ready()).await.is_err());
    call.await.unwrap();
    service.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn on_acquired_can_write_the_fence_into_the_request() {
    let fixture = Fixture::new().await;
    let layer = SlotLayer::new(tenant_semaphore(&fixture, 1))
        .on_acquired(|request: &mut Request, held: &Held| request.fence = held.fence());
    let service = layer.layer(service_fn(async |request: Request| {
        Ok::<_, BoxError>(request.fence)
    }));
    let first = service.clone().oneshot(request("acme")).await.unwrap();
    let second = service.oneshot(request("acme")).await.unwrap();
    assert!(first.is_some() && second > first, "{first:?}, {second:?}");
}
