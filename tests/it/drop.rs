//! Slots are never leaked: not by drop, panic, abort or the end of the runtime.

use std::time::Duration;

use dflock::server::Server;
use dflock::{Enqueued, Semaphore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::fixture::{Fixture, server};

/// Limit of every wait. It is longer than a hand-over and shorter than a lease.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_dropped_slot_goes_to_the_next_waiter_with_and_without_auto_release() {
    for auto_release in [true, false] {
        let fixture = Fixture::with_config(server().auto_release(auto_release).build()).await;
        let pool = fixture.client.semaphore("pool", 1).unwrap();
        let held = pool.clone().acquire().await.unwrap();
        let next = tokio::spawn(pool.acquire());
        sleep(Duration::from_millis(1)).await;
        drop(held);
        let start_time = tokio::time::Instant::now();
        next.await.unwrap().unwrap().release().await.unwrap();
        assert!(
            start_time.elapsed() < Duration::from_millis(5),
            "{auto_release}"
        );
    }
}

// A drop releases the slot without waiting for the next coop budget of its task.
#[tokio::test(start_paused = true)]
async fn hundreds_of_slots_dropped_together_are_all_released() {
    let fixture = Fixture::with_config(server().auto_release(false).build()).await;
    let pool = fixture.client.semaphore("pool", 300).unwrap();
    let mut holds = Vec::new();
    for _ in 0..300 {
        holds.push(pool.clone().acquire().await.unwrap());
    }
    drop(holds);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.holders("pool"), 0);
}

#[tokio::test(start_paused = true)]
async fn close_sends_no_release() {
    let fixture = Fixture::with_config(server().auto_release(false).build()).await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let idle = pool.acquire().await.unwrap().close();
    sleep(Duration::from_millis(1)).await;
    // The server was not told, and keeps the slot until the lease expires.
    assert_eq!(fixture.holders("pool"), 1);
    sleep(Duration::from_secs(34)).await;
    idle.try_acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancelled_operations_leave_nothing() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    for polls in 0..12 {
        let held = pool.clone().acquire().await.unwrap();
        cancel_after(polls, pool.clone().acquire()).await;
        cancel_after(polls, pool.clone().enqueue()).await;
        cancel_after(polls, held.renew()).await;
        cancel_after(polls, held.release()).await;
        let held = pool.clone().acquire().await.unwrap();
        let Enqueued::Queued(queued) = pool.clone().enqueue().await.unwrap() else {
            panic!("the slot is taken")
        };
        cancel_after(polls, queued.wait()).await;
        drop(held);
        cancel_after(polls, pool.with_slot(async |held| held.lost().await)).await;
        cancel_after(polls, pool.clone().acquire()).await;
        // The next client holds the slot alone.
        let held = pool.clone().acquire().await.unwrap();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(
            (fixture.holders("pool"), fixture.waiters("pool")),
            (1, 0),
            "after {polls} polls"
        );
        held.release().await.unwrap();
    }
    assert_eq!(fixture.server.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn leaving_the_queue_ends_the_keep_alive_task() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for time in [0, 1, 1000] {
        let queued = pool.clone().enqueue().await.unwrap();
        sleep(Duration::from_millis(time)).await;
        drop(queued);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(tasks(), before, "cancelled after {time} ms");
    }
    held.release().await.unwrap();
}

/// Polls `future` at most `polls` times with other tasks running in between, and drops it.
async fn cancel_after<F: Future>(polls: usize, future: F) {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let ready =
            std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready()))
                .await;
        if ready {
            return;
        }
        tokio::task::yield_now().await;
    }
}

// The executor of the holder does not run when the hold is dropped.
#[test]
fn dropping_a_slot_outside_its_executor_releases_it() {
    let outside = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = outside
        .block_on(Server::builder().auto_release(false).build().start())
        .unwrap();
    let client = server.client();
    let stopped = runtime();
    let held = stopped
        .block_on(client.semaphore("pool", 1).unwrap().acquire())
        .unwrap();
    // The `stopped` runtime no longer runs any task.
    drop(held);
    outside
        .block_on(async { client.semaphore("pool", 1).unwrap().acquire().await })
        .unwrap();
    drop(stopped);
}

// Covers bug T22.
#[test]
fn slots_are_lost_when_their_runtime_ends() {
    let outside = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = outside.block_on(Server::start()).unwrap();
    let pool = server.client().semaphore("pool", 1).unwrap();
    let stopped_runtime = runtime();
    let held = stopped_runtime.block_on(pool.clone().acquire()).unwrap();
    let queued = stopped_runtime.block_on(pool.clone().enqueue()).unwrap();
    drop(stopped_runtime);
    assert!(held.is_lost());
    outside.block_on(async {
        let next = pool.acquire().await.unwrap();
        assert!(queued.wait().await.is_err());
        next.check().unwrap();
    });
    drop(held);
}

#[tokio::test]
async fn a_panic_frees_the_slot_over_a_real_socket() {
    let server = Server::start().await.unwrap();
    let pool = server.client().semaphore("pool", 1).unwrap();
    let held = pool.acquire().await.unwrap();
    let next = waiter(&server).await;
    let panicked = tokio::spawn(async move {
        let _held = held;
        panic!("planned panic");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(next.wait_for_grant().await.starts_with("ok "));
}

#[tokio::test]
async fn an_aborted_task_frees_the_slot_over_a_real_socket() {
    let server = Server::start().await.unwrap();
    let pool: Semaphore = server.client().semaphore("pool", 1).unwrap();
    let (held, holds) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let slot = pool.acquire().await.unwrap();
        held.send(()).unwrap();
        slot.lost().await
    });
    holds.await.unwrap();
    let next = waiter(&server).await;
    task.abort();
    assert!(next.wait_for_grant().await.starts_with("ok "));
}

/// Independent client that waits in the queue of `pool`.
struct Waiter(BufReader<TcpStream>);

/// Returns a waiter that is already in the queue, so that the next release hands the slot to it.
async fn waiter(server: &Server) -> Waiter {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(b"sl\npool\n60 1\n").await.unwrap();
    let queued_on_server = async {
        while server
            .stats()
            .semaphores
            .iter()
            .all(|pool| pool.waiters == 0)
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(TEST_TIMEOUT, queued_on_server)
        .await
        .expect("the server has no waiter in the queue");
    Waiter(BufReader::new(stream))
}

impl Waiter {
    async fn wait_for_grant(mut self) -> String {
        let mut reply = String::new();
        timeout(TEST_TIMEOUT, self.0.read_line(&mut reply))
            .await
            .expect("the slot is not handed over")
            .unwrap();
        reply
    }
}

// Covers bug G09. The grant had arrived and was not read.
#[tokio::test(start_paused = true)]
async fn an_unread_grant_is_released_with_auto_release_off() {
    for enqueue in [false, true] {
        let fixture = Fixture::with_config(server().auto_release(false).build()).await;
        let pool = fixture.client.semaphore("pool", 1).unwrap();
        fixture
            .server
            .faults()
            .delay_replies(Duration::from_secs(1));
        let mut acquire = Box::pin(async {
            if enqueue {
                drop(pool.clone().enqueue().await);
            } else {
                drop(pool.clone().acquire().await);
            }
        });
        assert!(
            timeout(Duration::from_millis(500), &mut acquire)
                .await
                .is_err()
        );
        sleep(Duration::from_secs(5)).await;
        assert_eq!(fixture.holders("pool"), 1);
        drop(acquire);
        fixture.server.faults().delay_replies(Duration::ZERO);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(fixture.holders("pool"), 0, "enqueue {enqueue}");
    }
}
