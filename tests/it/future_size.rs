//! Sizes of the futures that run a body: that of the body and a constant.
//!
//! An `async fn` that takes a future and awaits it has room for it twice: its size doubles with each
//! call inside of a call.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;

use dflock::tower::SlotLayer;
use dflock::{Error, Held, Semaphore};
use tokio::task::yield_now;
use tower::{Layer, Service, service_fn};

use crate::fixture::Fixture as House;

/// Most bytes that a future of ours has besides the body that it runs.
const OWN: usize = 1024;

/// Checks that a future that runs `body` is at most a tenth larger, besides a constant.
fn check(what: &str, future: usize, body: usize) {
    assert!(
        future <= body + body / 10 + OWN,
        "{what}: {future} bytes to run a body of {body}"
    );
}

/// A body of at least `N` bytes.
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
    let house = House::new().await;
    let held = house
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
async fn run_has_room_for_its_body_once() {
    for_each_size!(check_run);
}

async fn check_with_slot<const N: usize>() {
    let house = House::new().await;
    let (pool, lock) = (
        house.client.semaphore("pool", 1).unwrap(),
        house.client.lock("lock").unwrap(),
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
    // the body owns what it works with
    let bytes = [1; N];
    let plain_body = async move {
        yield_now().await;
        black_box(&bytes).len()
    };
    let owned = async move |_: &_| {
        yield_now().await;
        black_box(&bytes).len()
    };
    check(
        "with_slot that moves",
        size_of_val(&pool.with_slot(owned)),
        size_of_val(&plain_body),
    );
    assert_eq!(pool.with_slot(owned).await.unwrap(), N);
}

#[tokio::test(start_paused = true)]
async fn with_slot_has_room_for_its_body_once() {
    for_each_size!(check_with_slot);
}

async fn check_scope<const N: usize>() {
    let house = House::new().await;
    check(
        "scope",
        size_of_val(&house.client.scope(body::<N>())),
        size_of_val(&body::<N>()),
    );
}

#[tokio::test(start_paused = true)]
async fn a_scope_has_room_for_its_body_once() {
    for_each_size!(check_scope);
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn of_a_semaphore<const N: usize>(bytes: [u8; N]) -> Result<usize, Error> {
    yield_now().await;
    Ok(black_box(&bytes).len())
}

#[dflock::lock(key = "pool", on_lost = finish)]
async fn of_a_lock<const N: usize>(bytes: [u8; N]) -> Result<usize, Error> {
    yield_now().await;
    Ok(black_box(&bytes).len())
}

async fn plain<const N: usize>(bytes: [u8; N]) -> Result<usize, Error> {
    yield_now().await;
    Ok(black_box(&bytes).len())
}

async fn check_annotated<const N: usize>() {
    let house = House::new().await;
    let size = size_of_val(&plain([1; N]));
    check("semaphore", size_of_val(&of_a_semaphore([1; N])), size);
    check("lock", size_of_val(&of_a_lock([1; N])), size);
    assert_eq!(house.client.scope(of_a_semaphore([1; N])).await.unwrap(), N);
}

#[tokio::test(start_paused = true)]
async fn an_annotated_function_has_room_for_its_arguments_once() {
    for_each_size!(check_annotated);
}

async fn check_layer<const N: usize>() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
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
async fn the_layer_for_tower_has_room_for_the_service_inside_once() {
    for_each_size!(check_layer);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_is_small() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
    check("acquire", size_of_val(&pool.acquire()), 0);
}

/// Futures inside of each other.
trait Nested {
    fn future(&self) -> impl Future;

    /// The sizes of the futures, from the innermost on.
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
macro_rules! eight {
    ($call:ident, $with:expr) => {
        eight!(@ $call, $with, . . . . . . . .)
    };
    (@ $call:ident, $with:expr,) => { Innermost };
    (@ $call:ident, $with:expr, . $($rest:tt)*) => { $call($with, eight!(@ $call, $with, $($rest)*)) };
}

#[tokio::test(start_paused = true)]
async fn each_level_of_nested_calls_adds_a_constant() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 8).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let (slots, runs) = (eight!(WithSlot, &pool), eight!(Run, &held));
    for (what, sizes) in [("with_slot", slots.sizes()), ("run", runs.sizes())] {
        assert_eq!(sizes.len(), 1 + 8);
        assert!(
            sizes.windows(2).all(|pair| pair[1] <= pair[0] + OWN),
            "{what}: {sizes:?}"
        );
    }
    held.release().await.unwrap();
    slots.future().await;
    assert_eq!(house.holders("pool"), 0);
}
