//! Executors that run a task inside `wake`: no lock is held while a waker is called.

use std::pin::pin;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use dflock::{Held, Semaphore};
use tokio::runtime::Builder;
use tokio::time::advance;

use crate::fixture::Fixture;

/// Waker that checks a hold whenever it is woken.
#[derive(Default)]
struct CheckingWaker(OnceLock<Arc<Semaphore<Held>>>);

impl Wake for CheckingWaker {
    fn wake(self: Arc<Self>) {
        if let Some(held) = self.0.get() {
            _ = (held.is_lost(), held.remaining());
        }
    }
}

/// Ends a hold while a waker that calls `check` is registered.
async fn assert_check_during_wake(end_hold: impl AsyncFnOnce(&Fixture, Arc<Semaphore<Held>>)) {
    let fixture = Fixture::new().await;
    let held = Arc::new(
        fixture
            .client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap(),
    );
    let checking = Arc::<CheckingWaker>::default();
    _ = checking.0.set(held.clone());
    let waker = Waker::from(checking);
    let other = held.clone();
    let mut lost = pin!(other.lost());
    assert!(
        lost.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    end_hold(&fixture, held).await;
    assert!(matches!(
        lost.poll(&mut Context::from_waker(Waker::noop())),
        Poll::Ready(_)
    ));
}

async fn run_all() {
    assert_check_during_wake(async |fixture, held| {
        fixture.server.faults().freeze();
        advance(Duration::from_mins(1)).await;
        assert!(held.is_lost());
    })
    .await;
    assert_check_during_wake(async |fixture, held| {
        fixture.server.faults().disconnect("pool");
        held.lost().await;
    })
    .await;
    assert_check_during_wake(async |fixture, held| {
        fixture.server.faults().expire("pool");
        held.renew().await.unwrap_err();
    })
    .await;
}

#[test]
fn a_waker_may_call_check_immediately() {
    let (sender, receiver) = mpsc::channel();
    // A deadlocked thread would never end, so the test runs on another thread.
    thread::spawn(move || {
        Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run_all());
        sender.send(())
    });
    receiver
        .recv_timeout(Duration::from_secs(30))
        .expect("the test deadlocks");
}
