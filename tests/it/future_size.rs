//! Sizes of futures that run a body: at most that of the body and a constant.
//!
//! An `async fn` that takes a future and awaits it reserves space for it twice. So its size would
//! double with each nested call.

use std::any::type_name_of_val;
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;

use dflock::tower::SlotLayer;
use dflock::{Error, Held, Semaphore};
use tokio::task::yield_now;
use tower::{Layer, Service, service_fn};

use crate::fixture::Fixture;

/// Maximum size of a future in addition to its body, in bytes.
const MAX_OVERHEAD: usize = 1024;

/// Asserts that a future is at most a tenth and a constant larger than its body.
fn check(name: &str, future: usize, body: usize) {
    assert!(
        future <= body + body / 10 + MAX_OVERHEAD,
        "{name}: {future} bytes for a body of {body} bytes"
    );
}

/// Returns a future of at least `N` bytes.
async fn body<const N: usize>() -> usize {
    let bytes = [1; N];
    yield_now().await;
    black_box(&bytes).len()
}

/// Runs a check with bodies of 16 B to 16 KiB.
macro_rules! for_each_size {
    ($check:ident) => {{
        $check::<16>().await;
        $check::<1024>().await;
        $check::<16_384>().await;
    }};
}

async fn check_run<const N: usize>() {
    let fixture = Fixture::new().await;
    let held = fixture
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    check(
        "run",
        size_of_val(&held.run(body::<N>())),
        size_of_val(&body::<N>()),
    );
    assert_eq!(held.run(body::<N>()).await.unwrap(), N);
}

#[tokio::test(start_paused = true)]
async fn run_reserves_space_for_its_body_once() {
    for_each_size!(check_run);
}

// The names of types are part of symbols. With names that grow by a factor for each call, eight calls
// made symbols of 600 MB.
#[tokio::test(start_paused = true)]
async fn a_run_inside_of_a_run_does_not_double_the_name_of_its_type() {
    let fixture = Fixture::new().await;
    let held = fixture.client.semaphore("pool", 1).unwrap();
    let held = held.acquire().await.unwrap();
    let one = held.run(body::<1>());
    let two = held.run(held.run(body::<1>()));
    let three = held.run(held.run(held.run(body::<1>())));
    let [one, two, three] = [
        type_name_of_val(&one),
        type_name_of_val(&two),
        type_name_of_val(&three),
    ]
    .map(str::len);
    assert!(three - two < 2 * (two - one), "{one}, {two}, {three}");
}

async fn check_with_slot<const N: usize>() {
    let fixture = Fixture::new().await;
    let (pool, lock) = (
        fixture.client.semaphore("pool", 1).unwrap(),
        fixture.client.lock("lock").unwrap(),
    );
    let size = size_of_val(&body::<N>());
    check(
        "with_slot",
        size_of_val(&pool.with_slot(async |_| body::<N>().await)),
        size,
    );
    check(
        "with_slot of a lock",
        size_of_val(&lock.with_slot(async |_| body::<N>().await)),
        size,
    );
    check(
        "try_with_slot",
        size_of_val(&pool.try_with_slot(async |_| body::<N>().await)),
        size,
    );
    // A body that owns its data.
    let bytes = [1; N];
    let plain_body = async move {
        yield_now().await;
        black_box(&bytes).len()
    };
    let owned_body = async move |_: &_| {
        yield_now().await;
        black_box(&bytes).len()
    };
    check(
        "with_slot with an owned body",
        size_of_val(&pool.with_slot(owned_body)),
        size_of_val(&plain_body),
    );
    assert_eq!(pool.with_slot(owned_body).await.unwrap(), N);
}

#[tokio::test(start_paused = true)]
async fn with_slot_reserves_space_for_its_body_once() {
    for_each_size!(check_with_slot);
}

async fn check_scope<const N: usize>() {
    let fixture = Fixture::new().await;
    check(
        "scope",
        size_of_val(&fixture.client.scope(body::<N>())),
        size_of_val(&body::<N>()),
    );
}

#[tokio::test(start_paused = true)]
async fn scope_reserves_space_for_its_body_once() {
    for_each_size!(check_scope);
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn with_semaphore<const N: usize>(bytes: [u8; N]) -> Result<usize, Error> {
    yield_now().await;
    Ok(black_box(&bytes).len())
}

#[dflock::lock(key = "pool", on_lost = finish)]
async fn with_lock<const N: usize>(bytes: [u8; N]) -> Result<usize, Error> {
    yield_now().await;
    Ok(black_box(&bytes).len())
}

async fn plain<const N: usize>(bytes: [u8; N]) -> Result<usize, Error> {
    yield_now().await;
    Ok(black_box(&bytes).len())
}

async fn check_annotated<const N: usize>() {
    let fixture = Fixture::new().await;
    let size = size_of_val(&plain([1; N]));
    check("semaphore", size_of_val(&with_semaphore([1; N])), size);
    check("lock", size_of_val(&with_lock([1; N])), size);
    assert_eq!(
        fixture.client.scope(with_semaphore([1; N])).await.unwrap(),
        N
    );
}

#[tokio::test(start_paused = true)]
async fn an_annotated_function_reserves_space_for_its_arguments_once() {
    for_each_size!(check_annotated);
}

async fn check_layer<const N: usize>() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let work = async |bytes: [u8; N]| {
        yield_now().await;
        Ok::<_, Infallible>(black_box(&bytes).len())
    };
    let size = size_of_val(&work([1; N]));
    let mut service = SlotLayer::new(move |_: &[u8; N]| Ok(pool.clone())).layer(service_fn(work));
    let response = service.call([1; N]);
    check("the layer", size_of_val(&*response), size);
    assert_eq!(response.await.unwrap(), N);
}

#[tokio::test(start_paused = true)]
async fn the_tower_layer_reserves_space_for_its_inner_service_once() {
    for_each_size!(check_layer);
}

#[tokio::test(start_paused = true)]
async fn the_future_of_acquire_is_small() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    check("acquire", size_of_val(&pool.acquire()), 0);
}

/// A chain of nested futures.
trait Nested {
    fn future(&self) -> impl Future;

    /// Returns the sizes of the futures, starting with the innermost.
    fn sizes(&self) -> Vec<usize>;
}

struct Innermost;

impl Nested for Innermost {
    fn future(&self) -> impl Future {
        body::<16>()
    }

    fn sizes(&self) -> Vec<usize> {
        vec![size_of_val(&self.future())]
    }
}

struct WithSlot<'a, N>(&'a Semaphore, N);

impl<N: Nested> Nested for WithSlot<'_, N> {
    fn future(&self) -> impl Future {
        self.0.with_slot(async |_| self.1.future().await)
    }

    fn sizes(&self) -> Vec<usize> {
        [self.1.sizes(), vec![size_of_val(&self.future())]].concat()
    }
}

struct Run<'a, N>(&'a Held, N);

impl<N: Nested> Nested for Run<'_, N> {
    fn future(&self) -> impl Future {
        self.0.run(self.1.future())
    }

    fn sizes(&self) -> Vec<usize> {
        [self.1.sizes(), vec![size_of_val(&self.future())]].concat()
    }
}

/// Nests eight calls.
macro_rules! nest_eight {
    ($call:ident, $with:expr) => {
        nest_eight!(@ $call, $with, . . . . . . . .)
    };
    (@ $call:ident, $with:expr,) => { Innermost };
    (@ $call:ident, $with:expr, . $($rest:tt)*) => {
        $call($with, nest_eight!(@ $call, $with, $($rest)*))
    };
}

#[tokio::test(start_paused = true)]
async fn each_level_of_nested_calls_adds_a_constant() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 8).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let (slots, runs) = (nest_eight!(WithSlot, &pool), nest_eight!(Run, &held));
    for (name, sizes) in [("with_slot", slots.sizes()), ("run", runs.sizes())] {
        assert_eq!(sizes.len(), 1 + 8);
        assert!(
            sizes
                .windows(2)
                .all(|pair| pair[1] <= pair[0] + MAX_OVERHEAD),
            "{name}: {sizes:?}"
        );
    }
    held.release().await.unwrap();
    slots.future().await;
    assert_eq!(fixture.holders("pool"), 0);
}
