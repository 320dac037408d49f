//! Functions with unusual signatures.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use dflock::Error;

use crate::fixture::Fixture;

#[dflock::semaphore(key = "nested", limit = 3)]
async fn nested(fixture: &Fixture, depth: u32) -> Result<u64, Error> {
    match depth {
        0 => Ok(fixture.holders("nested")),
        _ => Box::pin(nested(fixture, depth - 1)).await,
    }
}

#[dflock::semaphore(key = "boxed", limit = 3)]
fn boxed(
    fixture: &Fixture,
    depth: u32,
) -> Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + '_>> {
    Box::pin(async move {
        if depth == 0 {
            Ok(fixture.holders("boxed"))
        } else {
            boxed(fixture, depth - 1).await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn each_recursive_call_holds_a_slot() {
    let fixture = Fixture::new().await;
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(nested(&fixture, 2))
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(boxed(&fixture, 2))
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        (fixture.holders("nested"), fixture.holders("boxed")),
        (0, 0)
    );
    // One call more than there are slots.
    assert!(
        fixture
            .client
            .clone()
            .scope(nested(&fixture, 3))
            .await
            .unwrap_err()
            .is_timeout()
    );
}

#[dflock::lock(key = "inner")]
async fn inner() -> Result<(), Error> {
    tokio::task::yield_now().await;
    Ok(())
}

#[dflock::lock(key = "middle")]
async fn middle() -> Result<(), Error> {
    inner().await
}

#[dflock::lock(key = "outer")]
async fn outer() -> Result<(), Error> {
    middle().await
}

#[dflock::lock(key = "outermost", on_lost = finish)]
async fn outermost() -> Result<(), Error> {
    outer().await
}

#[test]
fn nested_calls_do_not_make_the_future_larger() {
    let (single, nested) = (size_of_val(&inner()), size_of_val(&outermost()));
    assert!(
        nested <= single + single / 4,
        "one call: {single} bytes, four nested: {nested} bytes"
    );
}

#[dflock::semaphore(key = "returned", limit = 1)]
fn returned(fixture: &Fixture) -> impl Future<Output = Result<u64, Error>> + Send {
    let before = fixture.holders("returned");
    async move { Ok(before + fixture.holders("returned")) }
}

#[tokio::test(start_paused = true)]
async fn the_future_of_a_plain_function_holds_a_slot_while_it_runs() {
    let fixture = Fixture::new().await;
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(returned(&fixture))
            .await
            .unwrap(),
        1
    );
    assert_eq!(fixture.holders("returned"), 0);
}

struct Point {
    x: u32,
    y: u32,
}

#[dflock::semaphore(key = "{x}:{shown}:{left}", limit = N, slot = held)]
async fn generic<T, const N: u32>(
    Point { x, y }: Point,
    (left, _): (&str, T),
    shown: impl Display + Send,
) -> Result<impl Display, Error>
where
    T: Send,
{
    Ok(format!("{} {y}", held.key()))
}

#[tokio::test(start_paused = true)]
async fn arguments_and_body_can_use_generics_and_patterns() {
    let fixture = Fixture::new().await;
    let future = generic::<_, 3>(Point { x: 1, y: 2 }, ("left", 'c'), 7);
    assert_eq!(
        fixture
            .client
            .clone()
            .scope(future)
            .await
            .unwrap()
            .to_string(),
        "1:7:left 2"
    );
}

struct Counter {
    fixture: Fixture,
    calls: u32,
}

impl Counter {
    #[dflock::lock(key = "counter", client = self.fixture.client, slot = held)]
    async fn by_mutable_reference(&mut self) -> Result<&mut u32, Error> {
        self.calls += u32::from(!held.is_lost());
        Ok(&mut self.calls)
    }

    #[dflock::lock(key = "counter", client = self.fixture.client)]
    async fn by_value(self) -> Result<u32, Error> {
        Ok(self.calls)
    }

    #[dflock::lock(key = "counter", client = self.fixture.client)]
    async fn by_arc(self: Arc<Self>, more: u32) -> Result<u32, Error> {
        Ok(self.calls + more)
    }
}

#[tokio::test(start_paused = true)]
async fn methods_can_take_self_in_any_form() {
    let mut counter = Counter {
        fixture: Fixture::new().await,
        calls: 0,
    };
    *counter.by_mutable_reference().await.unwrap() += 10;
    assert_eq!(counter.calls, 11);
    assert_eq!(counter.by_value().await.unwrap(), 11);
    let counter = Arc::new(Counter {
        fixture: Fixture::new().await,
        calls: 1,
    });
    assert_eq!(tokio::spawn(counter.by_arc(2)).await.unwrap().unwrap(), 3);
}

trait Store {
    async fn load(&self) -> Result<u64, Error>;
}

impl Store for Fixture {
    #[dflock::semaphore(key = "store", limit = 1, client = self.client)]
    async fn load(&self) -> Result<u64, Error> {
        Ok(self.holders("store"))
    }
}

#[tokio::test(start_paused = true)]
async fn trait_methods_hold_a_slot() {
    assert_eq!(Fixture::new().await.load().await.unwrap(), 1);
}
