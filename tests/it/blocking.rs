//! The API for programs without async, on threads over real sockets.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use dflock::blocking::{
    Client, Enqueued, Held, Queued, Semaphore, acquire_all, acquire_all_within,
};
use dflock::server::Server;
use dflock::{ConfigError, Error, Lock, LostReason};
use dflock_tests::etcd_cluster::shared_cluster;
use tokio::runtime::{Builder, Runtime};

const SECOND: Duration = Duration::from_secs(1);

/// An embedded server with its runtime, and a blocking client.
struct Fixture {
    client: Client,
    server: Server,
    _runtime: Runtime,
}

impl Fixture {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::start()).unwrap();
        let client = server.client_builder().build_blocking().unwrap();
        Self {
            client,
            server,
            _runtime: runtime,
        }
    }

    fn pool(&self) -> Semaphore {
        self.client.semaphore("pool", 1).unwrap()
    }

    fn holders(&self) -> u64 {
        let stats = self.server.stats();
        stats.semaphores.iter().map(|one| one.holders).sum()
    }

    fn waiters(&self) -> u64 {
        let stats = self.server.stats();
        stats.semaphores.iter().map(|one| one.waiters).sum()
    }
}

/// Waits until `condition` is true, which other threads make it.
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < 20 * SECOND, "the condition stays false");
        thread::sleep(Duration::from_millis(1));
    }
}

fn enqueue(pool: &Semaphore) -> Semaphore<Queued> {
    match pool.clone().enqueue().unwrap() {
        Enqueued::Queued(queued) => queued,
        Enqueued::Acquired(_) => panic!("a slot was free"),
    }
}

#[test]
fn every_state_has_the_api_of_the_async_one() {
    let fixture = Fixture::new();
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    assert_eq!((pool.key(), pool.limit()), ("pool", 1));
    let asynchronous = fixture.server.client().semaphore("pool", 1).unwrap();
    assert_eq!(format!("{pool:?}"), format!("{asynchronous:?}"));

    let held = pool.clone().acquire().unwrap();
    assert_eq!(
        (held.key(), held.limit(), fixture.holders()),
        ("pool", 1, 1)
    );
    assert_eq!(held.check(), Ok(()));
    assert!(held.remaining() <= held.lease());
    assert!(held.fence().is_some());
    held.renew().unwrap();
    assert!(pool.clone().try_acquire().unwrap_err().is_timeout());
    let short = pool.clone().acquire_within(Duration::from_millis(20));
    assert!(short.unwrap_err().is_timeout());

    let queued = enqueue(&pool);
    assert!(!queued.is_granted());
    assert_eq!((queued.key(), queued.limit()), ("pool", 1));
    let pool = queued.close();
    wait_until(|| fixture.waiters() == 0);
    let queued = enqueue(&pool);
    held.release().unwrap();
    let held = queued.wait().unwrap();
    assert_eq!(fixture.holders(), 1);
    held.close();
    wait_until(|| fixture.holders() == 0);

    let held = pool.clone().enqueue().unwrap().wait().unwrap();
    let queued = enqueue(&pool);
    assert!(queued.wait_within(Duration::ZERO).unwrap_err().is_timeout());
    assert_eq!(fixture.client.stats().unwrap()[0].semaphores[0].holders, 1);
    fixture.client.ping().unwrap();
    drop(held);
    wait_until(|| fixture.holders() == 0);
}

#[test]
fn several_permits_are_acquired_together_or_not_at_all() {
    let fixture = Fixture::new();
    let pool = fixture.client.semaphore("pool", 4).unwrap();
    let three = pool.clone().acquire_many(3).unwrap();
    assert_eq!((three.permits(), fixture.holders()), (3, 3));
    let tokens: HashSet<_> = three.tokens().copied().collect();
    assert_eq!(tokens.len(), 3);
    assert_eq!(three.tokens().next(), Some(three.token()));

    assert!(pool.clone().try_acquire_many(2).unwrap_err().is_timeout());
    let short = pool
        .clone()
        .acquire_many_within(2, Duration::from_millis(20));
    assert!(short.unwrap_err().is_timeout());
    wait_until(|| fixture.holders() == 3);
    let error = pool.clone().acquire_many(5).unwrap_err();
    assert!(
        matches!(error, Error::Config(ConfigError::Permits { .. })),
        "{error:?}"
    );

    three.release().unwrap();
    assert_eq!(fixture.holders(), 0);
    let all = pool.clone().acquire_many_within(4, 20 * SECOND).unwrap();
    assert_eq!(fixture.holders(), 4);
    drop(all);
    wait_until(|| fixture.holders() == 0);
    assert_eq!(pool.try_acquire_many(4).unwrap().permits(), 4);
}

#[test]
fn a_client_of_dflockd_has_no_holders_and_no_positions() {
    let fixture = Fixture::new();
    let held = fixture.pool().acquire().unwrap();
    let queued = enqueue(&fixture.pool());
    let client = &fixture.client;
    for error in [
        client.holders("pool").unwrap_err(),
        client.revoke("pool", held.token()).unwrap_err(),
        queued.position().unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                Error::Unsupported {
                    engine: "dflockd",
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn an_etcd_cluster_lists_its_holders_and_positions_and_revokes() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let members = cluster.addresses();
    let client = dflock::Client::builder()
        .servers(members.iter().map(|member| format!("etcd://{member}")))
        .etcd_prefix("blocking")
        .build_blocking()
        .unwrap();
    let pool = client.semaphore("operator", 2).unwrap();
    let held = pool.clone().acquire_many(2).unwrap();
    assert_eq!((held.permits(), held.tokens().count()), (2, 1));
    let queued = enqueue(&pool);
    assert_eq!(queued.position().unwrap(), 1);

    let holders = client.holders("operator").unwrap();
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0].token, *held.token());
    assert_eq!(holders[0].permits, 2);

    assert!(client.revoke("operator", held.token()).unwrap());
    assert!(!client.revoke("operator", held.token()).unwrap());
    let next = queued.wait_within(20 * SECOND).unwrap();
    assert_eq!(next.permits(), 1);
    let lost = held.lost_within(20 * SECOND).unwrap();
    assert_eq!(lost.reason, LostReason::Revoked);
    drop(next);
    client.close();
}

#[test]
fn threads_that_share_a_client_keep_the_limit() {
    let fixture = Fixture::new();
    let pool = fixture.client.semaphore("pool", 2).unwrap();
    let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let hold = |_: &Held| {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    };
                    pool.with_slot(hold).unwrap();
                }
            });
        }
    });
    assert_eq!(most.into_inner(), 2);
    assert_eq!(fixture.holders(), 0);
}

#[test]
fn a_drop_on_another_thread_frees_the_slot_while_this_thread_is_busy() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let held = pool.clone().acquire().unwrap();
    // Far less than the lease, after which the slot would be free without the drop.
    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || pool.acquire_within(5 * SECOND).map(drop))
    };
    wait_until(|| fixture.waiters() == 1);
    let dropper = thread::spawn(move || drop(held));
    // Busy: this thread calls nothing of dflock.
    while !waiter.is_finished() {
        std::hint::spin_loop();
    }
    dropper.join().unwrap();
    waiter.join().unwrap().unwrap();
}

#[test]
fn a_place_in_the_queue_is_kept_while_the_thread_is_busy() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let first = pool.clone().acquire().unwrap();
    let queued = enqueue(&pool);
    let third = {
        let pool = pool.clone();
        thread::spawn(move || pool.acquire().map(drop))
    };
    wait_until(|| fixture.waiters() == 2);
    drop(first);
    wait_until(|| queued.is_granted());
    let second = queued.wait().unwrap();
    assert_eq!((fixture.holders(), fixture.waiters()), (1, 1));
    drop(second);
    third.join().unwrap().unwrap();
}

#[test]
fn a_loss_is_reported_while_the_thread_is_busy() {
    let fixture = Fixture::new();
    let (sender, losses) = mpsc::channel();
    let held = dflock::Semaphore::builder()
        .key("pool")
        .limit(1)
        .on_lost(move |lost| sender.send(lost.reason).unwrap())
        .build_blocking(&fixture.client)
        .unwrap()
        .acquire()
        .unwrap();
    fixture.server.faults().disconnect("pool");
    // Busy: this thread calls nothing of dflock.
    let reason = loop {
        match losses.try_recv() {
            Ok(reason) => break reason,
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
            Err(TryRecvError::Disconnected) => panic!("no loss was reported"),
        }
    };
    assert_eq!(reason, LostReason::Disconnected);
    let lost = held.check().unwrap_err();
    assert_eq!(lost.reason, LostReason::Disconnected);
    assert_eq!(held.lost_within(Duration::ZERO), Some(lost));
    assert!(held.renew().unwrap_err().is_lost());
    assert!(held.release().unwrap_err().is_lost());
}

#[test]
fn a_lease_is_renewed_while_the_thread_is_busy() {
    let fixture = Fixture::new();
    let held = dflock::Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(2 * SECOND)
        .build_blocking(&fixture.client)
        .unwrap()
        .acquire()
        .unwrap();
    // Real time: the lease is one of the server on real sockets.
    thread::sleep(Duration::from_millis(2_500));
    held.check().unwrap();
    held.release().unwrap();
}

#[test]
fn a_wait_for_a_loss_ends_with_the_loss_or_with_its_time() {
    let fixture = Fixture::new();
    let held = fixture.pool().acquire().unwrap();
    let start = Instant::now();
    assert_eq!(held.lost_within(Duration::from_millis(30)), None);
    assert!(start.elapsed() >= Duration::from_millis(30));

    thread::scope(|scope| {
        let wait = || held.lost_within(60 * SECOND);
        let (first, second) = (scope.spawn(wait), scope.spawn(wait));
        fixture.server.faults().disconnect("pool");
        for waiter in [first, second] {
            assert_eq!(&*waiter.join().unwrap().unwrap().key, "pool");
        }
    });
    assert!(start.elapsed() < 30 * SECOND);
}

#[test]
fn with_slot_runs_the_body_on_this_thread_with_a_slot() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let value = pool.with_slot(|held| {
        assert_eq!(fixture.holders(), 1);
        // A call inside of the body is no call inside of a runtime.
        assert_eq!(pool.try_with_slot(|_| ()).unwrap(), None);
        held.renew().unwrap();
        (held.key().to_owned(), thread::current().id())
    });
    assert_eq!(value.unwrap(), ("pool".to_owned(), thread::current().id()));
    assert_eq!(fixture.holders(), 0);
    assert_eq!(pool.try_with_slot(|_| 7).unwrap(), Some(7));
}

#[test]
fn a_panic_of_the_body_frees_the_slot() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let body = |_: &Held| panic!("the body panics");
    let outcome = catch_unwind(AssertUnwindSafe(|| pool.with_slot(body)));
    outcome.unwrap_err();
    pool.acquire_within(5 * SECOND).unwrap();
}

#[test]
fn a_slot_that_is_lost_during_the_body_is_an_error() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let outcome = pool.with_slot(|held| {
        fixture.server.faults().disconnect("pool");
        held.lost_within(20 * SECOND).unwrap()
    });
    assert!(outcome.unwrap_err().is_lost());
    let other = fixture.client.lock("other").unwrap();
    let outcome = other.try_with_slot(|held| {
        fixture.server.faults().disconnect("other");
        held.lost_within(20 * SECOND).unwrap()
    });
    assert!(outcome.unwrap_err().is_lost());
}

#[test]
fn a_child_process_does_not_keep_the_slot() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let held = pool.clone().acquire().unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    // No release is sent: the server frees the slot at the end of the connection, which a copy of
    // the socket in the child would delay.
    held.close();
    let next = pool.acquire_within(5 * SECOND);
    child.kill().unwrap();
    child.wait().unwrap();
    next.unwrap();
}

/// Returns the message of the panic of `call`.
fn panic_message<T>(call: impl FnOnce() -> T) -> &'static str {
    let panic: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(|| drop(call()))).unwrap_err();
    panic.downcast_ref::<&str>().unwrap()
}

#[test]
fn every_call_that_waits_panics_inside_of_a_runtime() {
    let fixture = Fixture::new();
    let client = &fixture.client;
    // Calls that do not wait work in a runtime, as does the build of a client.
    let other = Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(async { fixture.server.client_builder().build_blocking().unwrap() });
    let free = client.semaphore("free", 1).unwrap();
    let lock = client.lock("lock").unwrap();
    let pool = client.semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().unwrap();
    let queued = || enqueue(&pool);
    let acquire = |key| client.lock(key).unwrap().acquire().unwrap();
    let all = |a, b| {
        let (a, b) = (client.lock(a).unwrap(), client.lock(b).unwrap());
        acquire_all([&a, &b]).unwrap()
    };
    let runtimes = [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap(),
    ];
    for runtime in &runtimes {
        let (first, second, released) = (queued(), queued(), acquire("released"));
        let (both, released_all) = (all("a", "b"), all("c", "d"));
        let messages = runtime.block_on(async {
            [
                panic_message(|| client.ping()),
                panic_message(|| client.stats()),
                panic_message(|| client.holders("pool")),
                panic_message(|| client.revoke("pool", held.token())),
                panic_message(|| other.close()),
                panic_message(|| other.close_within(SECOND)),
                panic_message(|| free.clone().acquire()),
                panic_message(|| free.clone().acquire_within(SECOND)),
                panic_message(|| free.clone().try_acquire()),
                panic_message(|| free.clone().acquire_many(1)),
                panic_message(|| free.clone().acquire_many_within(1, SECOND)),
                panic_message(|| free.clone().try_acquire_many(1)),
                panic_message(|| free.clone().enqueue()),
                panic_message(|| free.with_slot(|_| ())),
                panic_message(|| free.try_with_slot(|_| ())),
                panic_message(|| lock.lead(|_| ())),
                panic_message(|| acquire_all([&free])),
                panic_message(|| acquire_all_within([&free], SECOND)),
                panic_message(|| first.position()),
                panic_message(|| first.wait()),
                panic_message(|| second.wait_within(SECOND)),
                panic_message(|| held.renew()),
                panic_message(|| held.lost_within(SECOND)),
                panic_message(|| released.release()),
                panic_message(|| both.lost_within(SECOND)),
                panic_message(|| released_all.release()),
            ]
        });
        for (index, message) in messages.iter().enumerate() {
            assert!(message.contains("inside of an async runtime"), "{index}");
            assert!(message.contains("spawn_blocking"), "{index}: {message}");
        }
        assert!(!other.is_closed());
        held.check().unwrap();
        // The semaphores of the calls were dropped, with their slots and places in the queue.
        for key in ["c", "d", "released"] {
            client
                .lock(key)
                .unwrap()
                .acquire_within(5 * SECOND)
                .unwrap();
        }
        wait_until(|| fixture.waiters() == 0);
    }
}

#[test]
fn calls_may_wait_on_threads_that_may_block() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let cycle = move || pool.acquire()?.release();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let blocking = tokio::task::spawn_blocking(cycle.clone());
        blocking.await.unwrap().unwrap();
        let task = tokio::spawn(async { tokio::task::block_in_place(cycle).map(drop) });
        task.await.unwrap().unwrap();
    });
    let _entered = runtime.enter();
    fixture.pool().acquire().unwrap().release().unwrap();
}

#[test]
fn drops_inside_of_a_runtime_free_slots_and_do_not_panic() {
    let fixture = Fixture::new();
    let client = fixture.server.client_builder().build_blocking().unwrap();
    let held = client.semaphore("pool", 1).unwrap().acquire().unwrap();
    let queued = enqueue(&fixture.pool());
    let place = enqueue(&client.semaphore("pool", 1).unwrap());
    for runtime in [
        Builder::new_current_thread().build().unwrap(),
        Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap(),
    ] {
        runtime.block_on(async { drop(fixture.client.clone()) });
    }
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        // The last of them ends the thread of the client.
        drop(client);
        drop(place.close());
        drop(held);
    });
    queued.wait_within(5 * SECOND).unwrap();
    wait_until(|| fixture.waiters() == 0);
}

thread_local! {
    /// Dropped when its thread ends.
    static THREAD_END: RefCell<Option<Sender<()>>> = const { RefCell::new(None) };
}

#[test]
fn the_thread_ends_with_the_last_semaphore_of_the_client() {
    let fixture = Fixture::new();
    let (sender, thread_end) = mpsc::channel();
    let sender = Mutex::new(Some(sender));
    let client = fixture.server.client_builder().build_blocking().unwrap();
    let lost = dflock::Semaphore::builder()
        .key("lost")
        .limit(1)
        .on_lost(move |_| THREAD_END.set(sender.lock().unwrap().take()))
        .build_blocking(&client)
        .unwrap()
        .acquire()
        .unwrap();
    fixture.server.faults().disconnect("lost");
    lost.lost_within(20 * SECOND).unwrap();
    drop(lost);

    let held = client.semaphore("pool", 1).unwrap().acquire().unwrap();
    let clone = client.clone();
    drop(client);
    clone.ping().unwrap();
    drop(clone);
    held.renew().unwrap();
    let pool = held.release().unwrap();
    let still_runs = thread_end.recv_timeout(Duration::from_millis(50));
    assert_eq!(still_runs, Err(RecvTimeoutError::Timeout));
    drop(pool);
    let ended = thread_end.recv_timeout(20 * SECOND);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_slot_stays_taken_for_min_hold_after_the_client_is_dropped() {
    const MIN_HOLD: Duration = Duration::from_millis(500);
    let fixture = Fixture::new();
    let client = fixture.server.client_builder().build_blocking().unwrap();
    let pool = dflock::Semaphore::builder()
        .key("pool")
        .limit(1)
        .min_hold(MIN_HOLD)
        .build_blocking(&client)
        .unwrap();
    drop(client);
    let start = Instant::now();
    drop(pool.acquire().unwrap());
    assert!(start.elapsed() < MIN_HOLD, "the drop waited");
    let next = fixture.pool().acquire().unwrap();
    // The hold counts from its grant, a little after `start`.
    assert!(start.elapsed() >= MIN_HOLD);
    next.release().unwrap();
}

#[test]
fn close_ends_waits_and_waits_for_holds() {
    let fixture = Fixture::new();
    let pool = fixture.pool();
    let held = pool.clone().acquire().unwrap();
    let queued = enqueue(&pool);
    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || pool.acquire().map(drop))
    };
    wait_until(|| fixture.waiters() == 2);
    assert!(!fixture.client.close_within(Duration::from_millis(20)));
    assert!(fixture.client.is_closed());
    assert!(waiter.join().unwrap().unwrap_err().is_closed());
    assert!(queued.wait().unwrap_err().is_closed());
    assert!(pool.clone().acquire().unwrap_err().is_closed());
    held.check().unwrap();

    let client = fixture.client.clone();
    let close = thread::spawn(move || client.close());
    assert!(!close.is_finished());
    held.release().unwrap();
    close.join().unwrap();
    assert!(fixture.client.close_within(Duration::ZERO));
}

#[test]
fn slots_of_several_keys_are_acquired_together() {
    let fixture = Fixture::new();
    let client = &fixture.client;
    let (a, b) = (client.lock("a").unwrap(), client.lock("b").unwrap());
    let both = acquire_all([&b, &a]).unwrap();
    assert_eq!(both.len(), 2);
    assert!(both.iter().map(Semaphore::key).eq(["b", "a"]));
    assert!(!both.is_lost());
    assert_eq!(both.lost_within(Duration::from_millis(20)), None);
    both.release().unwrap();

    let taken = b.clone().acquire().unwrap();
    let busy = acquire_all_within([&a, &b], Duration::ZERO);
    assert!(busy.unwrap_err().is_timeout());
    // The server learns of the drop on another connection than the next request.
    drop(a.clone().acquire_within(5 * SECOND).unwrap());
    taken.release().unwrap();

    let both = acquire_all([&a, &b]).unwrap();
    fixture.server.faults().disconnect("b");
    assert_eq!(&*both.lost_within(20 * SECOND).unwrap().key, "b");
    assert!(both.check().is_err());
    let [held, _] = both.into_iter().collect::<Vec<_>>().try_into().unwrap();
    held.release().unwrap();

    let nothing: [&Semaphore; 0] = [];
    let error = acquire_all(nothing).unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::NoSemaphores)));
    let other = fixture.server.client_builder().build_blocking().unwrap();
    let error = acquire_all([&a, &other.lock("b").unwrap()]).unwrap_err();
    let different = matches!(error, Error::Config(ConfigError::DifferentClients { .. }));
    assert!(different, "{error}");
}

#[test]
fn a_leader_that_loses_the_lock_campaigns_again() {
    let fixture = Fixture::new();
    let lock = fixture.client.lock("leader").unwrap();
    let mut terms = 0;
    let value = lock.lead(|leader| {
        terms += 1;
        if terms == 1 {
            fixture.server.faults().disconnect("leader");
            leader.lost_within(20 * SECOND).unwrap();
        }
        leader.check().is_ok()
    });
    assert_eq!((value.unwrap(), terms), (true, 2));
    drop(lock.clone().try_acquire().unwrap());

    fixture.client.close();
    let closed = lock.lead(|_| panic!("a closed client leads"));
    assert!(closed.unwrap_err().is_closed());
}

#[test]
fn a_candidate_leads_after_the_leader() {
    let fixture = Fixture::new();
    let leader = fixture.client.lock("leader").unwrap().acquire().unwrap();
    // Several campaigns: each wait is far shorter than the term of the leader.
    let candidate = Lock::builder()
        .key("leader")
        .acquire_timeout(Duration::from_millis(20))
        .build_blocking(&fixture.client)
        .unwrap();
    let candidate = thread::spawn(move || candidate.lead(|leader| leader.check().is_ok()));
    thread::sleep(Duration::from_millis(100));
    assert!(!candidate.is_finished());
    leader.release().unwrap();
    assert!(candidate.join().unwrap().unwrap());
}
