//! Bodies that run with a slot are dropped before their result is returned.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use dflock::{Error, Held};

use crate::fixture::{Fixture, acquire_pool};

/// A guard that tells whether it was dropped.
#[derive(Clone, Default)]
struct Dropped(Arc<AtomicBool>);

impl Dropped {
    fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Guard(Dropped);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn run_drops_its_body_when_the_slot_is_lost() {
    let fixture = Fixture::new().await;
    let held = acquire_pool(&fixture.client).await;
    let dropped = Dropped::default();
    let guard = dropped.guard();
    let mut run = pin!(held.run(async {
        let _guard = guard;
        pending::<()>().await;
    }));
    fixture.server.faults().expire("pool");
    assert!((&mut run).await.unwrap_err().is_lost());
    assert!(dropped.is_set());
}

// a future may own guards until it is dropped, not only until it is ready
#[tokio::test(start_paused = true)]
async fn run_drops_its_body_when_it_is_ready() {
    let fixture = Fixture::new().await;
    let held = acquire_pool(&fixture.client).await;
    let dropped = Dropped::default();
    let guard = dropped.guard();
    let mut run = pin!(held.run(poll_fn(move |_| Poll::Ready(guard.0.is_set()))));
    assert!(!(&mut run).await.unwrap());
    assert!(dropped.is_set());
}

#[tokio::test(start_paused = true)]
async fn with_slot_drops_its_body_when_the_slot_is_lost() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let dropped = Dropped::default();
    let guard = dropped.guard();
    let expire = || fixture.server.faults().expire("pool");
    let mut run = pin!(pool.with_slot(async |_: &Held| {
        let _guard = guard;
        expire();
        pending::<()>().await;
    }));
    assert!((&mut run).await.unwrap_err().is_lost());
    assert!(dropped.is_set());
}

#[dflock::semaphore(key = "pool", limit = 1)]
async fn annotated(fixture: &Fixture, guard: Guard) -> Result<(), Error> {
    let _guard = guard;
    fixture.server.faults().expire("pool");
    pending().await
}

#[tokio::test(start_paused = true)]
async fn an_annotated_function_drops_its_body_when_the_slot_is_lost() {
    let fixture = Fixture::new().await;
    let dropped = Dropped::default();
    let mut run = pin!(
        fixture
            .client
            .clone()
            .scope(annotated(&fixture, dropped.guard()))
    );
    assert!((&mut run).await.unwrap_err().is_lost());
    assert!(dropped.is_set());
}
