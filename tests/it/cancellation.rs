//! Cancellation of every operation at each of its polls. No slot, connection or task remains.

use std::future::{pending, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Error, Semaphore};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Time for which another client holds the slot. A grant after it needs confirmation, and the lease
/// is longer.
const HOLD_TIME: Duration = Duration::from_millis(700);

const LEASE: Duration = Duration::from_secs(1);

/// Operations on a slot, each from acquisition to release.
const OPERATIONS: [(&str, Operation); 5] = [
    ("acquire, renew, release", |pool, _| {
        Box::pin(async move {
            let held = pool.acquire().await?;
            held.renew().await?;
            held.release().await.map(drop)
        })
    }),
    ("enqueue, wait, release", |pool, _| {
        Box::pin(async move {
            pool.enqueue()
                .await?
                .wait()
                .await?
                .release()
                .await
                .map(drop)
        })
    }),
    ("enqueue, do something else, wait", |pool, time| {
        Box::pin(async move {
            let enqueued = pool.enqueue().await?;
            for _ in 0..8 {
                sleep(time / 8).await;
            }
            enqueued.wait().await.map(drop)
        })
    }),
    ("run", |pool, time| {
        Box::pin(async move { pool.acquire().await?.run(sleep(time)).await })
    }),
    ("with_slot", |pool, time| {
        Box::pin(async move { pool.with_slot(async |_| sleep(time).await).await })
    }),
];

/// An operation whose own work takes the given time.
type Operation = fn(Semaphore, Duration) -> OperationFuture;

type OperationFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Cancels a future after a number of polls and returns whether it had completed before.
type Cancellation = fn(usize, OperationFuture) -> Pin<Box<dyn Future<Output = bool>>>;

#[tokio::test(start_paused = true)]
async fn dropping_an_operation_leaves_nothing() {
    assert_leaves_nothing(|polls, mut future| {
        Box::pin(async move { poll(polls, &mut future).await })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_during_an_operation_leaves_nothing() {
    assert_leaves_nothing(|polls, mut future| {
        let panics = async move {
            if !poll(polls, &mut future).await {
                resume_unwind(Box::new("planned panic"));
            }
        };
        Box::pin(async move { tokio::spawn(panics).await.is_ok() })
    })
    .await;
}

// Covers bugs P16, G05, G09. The keep-alive task ends with the aborted task.
#[tokio::test(start_paused = true)]
async fn aborting_the_task_of_an_operation_leaves_nothing() {
    assert_leaves_nothing(|polls, future| {
        Box::pin(async move {
            let (task, completed) = spawn_polls(polls, future);
            let completed = completed.await.unwrap();
            task.abort();
            let _ = task.await;
            completed
        })
    })
    .await;
}

/// Runs over sockets, because a paused clock allows only one runtime.
#[test]
fn shutting_down_the_runtime_of_an_operation_leaves_nothing() {
    let outside = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = outside.block_on(Server::start()).unwrap();
    let pool = || server.client().semaphore("pool", 1).unwrap();
    for (name, operation) in OPERATIONS {
        for polls in 0.. {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let completed = runtime.block_on(async {
                spawn_polls(polls, operation(pool(), Duration::from_millis(2)))
                    .1
                    .await
                    .unwrap()
            });
            // Dropping the runtime ends the task and the keep-alive task.
            drop(runtime);
            // A leaked slot would be held for longer than this acquire waits.
            let next = outside
                .block_on(pool().acquire())
                .unwrap_or_else(|error| panic!("{name}, after {polls} polls: {error}"));
            outside.block_on(next.release()).unwrap();
            if completed {
                break;
            }
        }
    }
}

/// Runs each operation with a free and with a taken slot. Cancels it after one poll, after two
/// polls, and so on until it completes.
async fn assert_leaves_nothing(cancel: Cancellation) {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    for auto_release in [true, false] {
        let server = Server::builder()
            .auto_release(auto_release)
            .build()
            .start_in_memory()
            .unwrap();
        let client = || {
            server
                .client_builder()
                .connector(server.connector())
                .build()
                .unwrap()
        };
        // The server of the previous iteration has stopped after this delay.
        sleep(Duration::from_millis(1)).await;
        let before = tasks();
        for (name, operation) in OPERATIONS {
            for is_taken in [false, true] {
                for polls in 0.. {
                    let other = if is_taken {
                        Some(pool(client()).acquire().await.unwrap())
                    } else {
                        None
                    };
                    let release = tokio::spawn(async move {
                        sleep(HOLD_TIME).await;
                        drop(other);
                    });
                    let completed = cancel(polls, operation(pool(client()), 2 * LEASE)).await;
                    release.await.unwrap();
                    // Without auto-release, a slot outlives its connection and may be granted after
                    // the cancellation.
                    sleep(if auto_release {
                        Duration::from_millis(1)
                    } else {
                        LEASE + Duration::from_secs(1)
                    })
                    .await;
                    let stats = server.stats();
                    let case = format!(
                        "{name}, taken: {is_taken}, auto-release: {auto_release}, {polls} polls"
                    );
                    assert!(
                        stats.semaphores.is_empty(),
                        "{case}: {:?}",
                        stats.semaphores
                    );
                    assert_eq!((stats.connections, tasks()), (0, before), "{case}");
                    if completed {
                        // The operation was cancelled at each of its awaits.
                        assert!(polls >= 3, "{case}");
                        break;
                    }
                }
            }
        }
    }
}

fn pool(client: Client) -> Semaphore {
    Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(LEASE)
        .client(client)
        .build()
        .unwrap()
}

/// Spawns a task that polls the future at most `polls` times, reports whether it completed, and
/// keeps it.
fn spawn_polls(
    polls: usize,
    mut future: OperationFuture,
) -> (JoinHandle<()>, oneshot::Receiver<bool>) {
    let (sender, completed) = oneshot::channel();
    let task = tokio::spawn(async move {
        sender.send(poll(polls, &mut future).await).unwrap();
        pending::<()>().await;
    });
    (task, completed)
}

/// Polls the future at most `polls` times and returns whether it completed.
async fn poll(polls: usize, future: &mut OperationFuture) -> bool {
    let mut remaining = polls;
    poll_fn(|cx| {
        if remaining == 0 {
            return Poll::Ready(false);
        }
        remaining -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done.map(|()| true).unwrap()),
            Poll::Pending if remaining == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
