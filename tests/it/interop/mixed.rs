//! Rust and Python workers that share slots on `dflock serve`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::program::Program;
use super::python::{Python, interop};
use super::worker::{PythonWorker, Resource, Worker};

const POOL: Resource = Resource::Semaphore("pool", 3);
const LOCK: Resource = Resource::Lock("job");

#[tokio::test]
async fn slots_are_granted_in_order_of_arrival() {
    interop(async |python| assert_granted_in_order(python, POOL).await).await;
}

#[tokio::test]
async fn a_lock_is_granted_in_order_of_arrival() {
    interop(async |python| assert_granted_in_order(python, LOCK).await).await;
}

#[tokio::test]
async fn at_most_three_workers_hold_the_semaphore() {
    interop(async |python| assert_limit_holds(python, POOL).await).await;
}

#[tokio::test]
async fn at_most_one_worker_holds_the_lock() {
    interop(async |python| assert_limit_holds(python, LOCK).await).await;
}

/// Starts each worker after the server has queued the previous one. Each worker releases only on
/// command.
async fn assert_granted_in_order(python: &Python, resource: Resource) {
    let server = Program::dflock_serve(&[]).await;
    let client = server.client();
    let holders = HolderCount::new(resource.limit());
    let (granted, mut grants) = mpsc::unbounded_channel();
    let mut workers: Vec<_> = Worker::all(python, &server, resource);
    workers.extend(Worker::all(python, &server, resource));
    let (mut running, mut inside, count) = (JoinSet::new(), VecDeque::new(), workers.len());
    for (number, mut worker) in workers.into_iter().enumerate() {
        let (leave, leave_command) = oneshot::channel();
        inside.push_back(leave);
        let (granted, holders) = (granted.clone(), holders.clone());
        running.spawn(async move {
            let inside = async {
                holders.enter();
                granted.send(number).unwrap();
                leave_command.await.unwrap();
                holders.leave();
            };
            worker.cycle(inside).await;
        });
        if number < resource.limit() {
            assert_eq!(grants.recv().await, Some(number));
        } else {
            let queued = number as u64 + 1 - resource.limit() as u64;
            // The server emits no event when a waiter joins, so the test polls.
            while resource.waiters(&client).await != queued {
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
    assert_eq!(holders.inside.load(Ordering::SeqCst), resource.limit());
    for next in resource.limit().. {
        let Some(leave) = inside.pop_front() else {
            break;
        };
        leave.send(()).unwrap();
        if next < count {
            assert_eq!(grants.recv().await, Some(next));
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Runs all workers concurrently at full speed.
async fn assert_limit_holds(python: &Python, resource: Resource) {
    const CYCLES: usize = 15;
    let server = Program::dflock_serve(&[]).await;
    let holders = HolderCount::new(resource.limit());
    let mut running = JoinSet::new();
    for mut worker in Worker::all(python, &server, resource)
        .into_iter()
        .chain(Worker::all(python, &server, resource))
    {
        let holders = holders.clone();
        running.spawn(async move {
            for _ in 0..CYCLES {
                let inside = async {
                    holders.enter();
                    // The work lasts long enough for a surplus holder to be counted.
                    sleep(Duration::from_millis(2)).await;
                    holders.leave();
                };
                worker.cycle(inside).await;
            }
        });
    }
    let count = running.len();
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    assert_eq!(holders.entered.load(Ordering::SeqCst), count * CYCLES);
}

#[tokio::test]
async fn the_slot_of_a_killed_python_program_goes_to_rust() {
    interop(async |python| {
        let server = Program::dflock_serve(&[]).await;
        let lock = server.client().lock("job").unwrap();
        let mut worker = PythonWorker::start(python, &server, LOCK, "sync", false);
        worker.acquire().await;
        let dflock::Enqueued::Queued(queued) = lock.enqueue().await.unwrap() else {
            panic!("Python holds the lock")
        };
        worker.kill().await;
        queued.wait().await.unwrap().release().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_slot_of_a_dropped_rust_holder_goes_to_python() {
    interop(async |python| {
        let server = Program::dflock_serve(&[]).await;
        let client = server.client();
        let held = client.lock("job").unwrap().acquire().await.unwrap();
        let mut worker = PythonWorker::start(python, &server, LOCK, "async", true);
        let waiting = tokio::spawn(async move {
            worker.acquire().await;
            worker.release().await;
        });
        while LOCK.waiters(&client).await == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        drop(held);
        waiting.await.unwrap();
    })
    .await;
}

/// Counter of the workers that hold a slot.
///
/// A worker is counted after it has received its grant and until before it requests the release.
/// Every counted worker therefore holds a slot, and a count above the limit is a real violation.
#[derive(Clone)]
struct HolderCount {
    limit: usize,
    inside: Arc<AtomicUsize>,
    entered: Arc<AtomicUsize>,
}

impl HolderCount {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            inside: Arc::default(),
            entered: Arc::default(),
        }
    }

    fn enter(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(inside <= self.limit, "{inside} hold, of {}", self.limit);
        self.entered.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}
