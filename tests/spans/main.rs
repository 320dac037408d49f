//! Tests of the tracing spans and events.
//!
//! A separate test binary, because tracing caches for the whole process which spans and events have
//! no subscriber. These tests need all of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot continue has failed"
)]

mod recorder;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use dflock::server::Server;
use dflock::tower::SlotLayer;
use dflock::{Client, Enqueued, Held, Semaphore};
use recorder::{Fields, Recorder};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt, service_fn};
use tracing::{Event, Instrument, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer};

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    server: Server,
    client: Client,
}

impl Fixture {
    async fn new() -> Self {
        let server = Server::start().await.unwrap();
        let client = server
            .client_builder()
            .connector(server.connector())
            .build()
            .unwrap();
        Self { server, client }
    }
}

fn semaphore(fixture: &Fixture) -> Semaphore {
    Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(4 * SECOND)
        .client(fixture.client.clone())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_acquire_and_its_hold_emit_spans_and_events_from_beginning_to_end() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let held = semaphore(&fixture).acquire().await.unwrap();
    assert_eq!(
        recorder.lines().await,
        [
            "acquire: DEBUG connection opened server",
            "acquire: DEBUG slot acquired key=pool server token wait=0",
            "acquire key=pool server token wait=0 outcome=granted",
        ]
    );
    // The jitter of the first renewal is large. Renewing explicitly leaves only later renewals,
    // which have a small jitter.
    held.renew().await.unwrap();
    assert_eq!(
        recorder.lines().await,
        ["hold: DEBUG renewed key=pool server token margin=4"]
    );
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        recorder.lines().await,
        ["hold: DEBUG renewed key=pool server token margin=2"]
    );
    held.release().await.unwrap();
    assert_eq!(
        recorder.lines().await,
        ["hold key=pool server token wait=0 held=3 outcome=released"]
    );
}

#[tokio::test(start_paused = true)]
async fn with_slot_creates_child_spans_of_the_current_span_and_runs_its_body_in_the_hold() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let request = async {
        semaphore(&fixture)
            .with_slot(async |_| info!("at work"))
            .await
            .unwrap();
    };
    request.instrument(info_span!("request")).await;
    let lines = recorder.lines().await;
    assert_eq!(recorder.links(), [("hold", "acquire")]);
    assert_eq!(
        lines[2..],
        [
            "request:acquire key=pool server token wait=0 outcome=granted",
            "hold: INFO at work",
            "request:hold key=pool server token wait=0 held=0 outcome=released",
            "request",
        ]
    );
}

#[dflock::lock(key = "pool", client = fixture.client)]
async fn annotated(fixture: &Fixture) -> Result<(), dflock::Error> {
    info!("at work");
    Ok(())
}

#[dflock::lock(key = "pool", client = fixture.client, on_lost = finish)]
async fn annotated_to_finish(fixture: &Fixture) -> Result<(), dflock::Error> {
    info!("at work");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_annotated_function_runs_in_the_span_of_its_hold() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    annotated(&fixture).await.unwrap();
    assert_eq!(recorder.lines().await[3], "hold: INFO at work");
    annotated_to_finish(&fixture).await.unwrap();
    assert_eq!(recorder.lines().await[2], "hold: INFO at work");
}

/// Ways to acquire a slot that may outlive the span in which it is requested.
#[derive(Clone, Copy, Debug)]
enum AcquireMethod {
    Acquire,
    AcquireWithin,
    TryAcquire,
    Enqueue,
}

impl AcquireMethod {
    async fn acquire(self, fixture: &Fixture) -> Semaphore<Held> {
        match self {
            Self::Acquire => semaphore(fixture).acquire().await.unwrap(),
            Self::AcquireWithin => semaphore(fixture).acquire_within(SECOND).await.unwrap(),
            Self::TryAcquire => semaphore(fixture).try_acquire().await.unwrap(),
            Self::Enqueue => semaphore(fixture)
                .enqueue()
                .await
                .unwrap()
                .wait()
                .await
                .unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_of_an_acquire_closes_before_its_slot_is_released() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    for method in [
        AcquireMethod::Acquire,
        AcquireMethod::AcquireWithin,
        AcquireMethod::TryAcquire,
        AcquireMethod::Enqueue,
    ] {
        let held = method
            .acquire(&fixture)
            .instrument(info_span!("request"))
            .await;
        let lines = recorder.lines().await;
        let granted = "request:acquire key=pool server token wait=0 outcome=granted";
        assert_eq!(lines[lines.len() - 2..], [granted, "request"], "{method:?}");
        assert_eq!(
            recorder.links(),
            [("hold", "acquire"), ("hold", "request")],
            "{method:?}"
        );
        held.release().await.unwrap();
        let released = "hold key=pool server token wait=0 held=0 outcome=released";
        assert_eq!(recorder.lines().await, [released], "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_wait_closes_before_its_slot_is_released() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let held = semaphore(&fixture).acquire().await.unwrap();
    recorder.lines().await;
    recorder.links();
    let request = async {
        let Enqueued::Queued(queued) = semaphore(&fixture).enqueue().await.unwrap() else {
            panic!("the slot is held")
        };
        drop(held);
        queued.wait().await.unwrap()
    };
    let held = request.instrument(info_span!("request")).await;
    assert_eq!(recorder.lines().await.pop().as_deref(), Some("request"));
    assert_eq!(recorder.links(), [("hold", "acquire"), ("hold", "request")]);
    held.release().await.unwrap();
    assert_eq!(
        recorder.lines().await,
        ["hold key=pool server token wait=0 held=0 outcome=released"]
    );
}

#[tokio::test(start_paused = true)]
async fn run_keeps_the_span_of_its_caller() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let request = async {
        let held = semaphore(&fixture).acquire().await.unwrap();
        held.run(async { info!("at work") }).await.unwrap();
    };
    request.instrument(info_span!("request")).await;
    assert!(
        recorder
            .lines()
            .await
            .contains(&"request: INFO at work".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn the_hold_of_an_annotated_function_and_of_a_layer_is_a_child_of_the_caller_span() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let released = "request:hold key=pool server token wait=0 held=0 outcome=released".to_owned();
    annotated(&fixture)
        .instrument(info_span!("request"))
        .await
        .unwrap();
    assert!(recorder.lines().await.contains(&released));
    let pool = semaphore(&fixture);
    let work = service_fn(async |()| {
        info!("at work");
        Ok::<_, Infallible>(())
    });
    let service = SlotLayer::new(move |(): &()| Ok(pool.clone())).layer(work);
    service
        .oneshot(())
        .instrument(info_span!("request"))
        .await
        .unwrap();
    let lines = recorder.lines().await;
    assert!(
        lines.contains(&released) && lines.contains(&"hold: INFO at work".to_owned()),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn enqueuing_and_dropping_a_handle_emit_events() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let held = semaphore(&fixture).acquire().await.unwrap();
    recorder.lines().await;
    let Enqueued::Queued(queued) = semaphore(&fixture).enqueue().await.unwrap() else {
        panic!("the slot is held")
    };
    assert_eq!(
        recorder.lines().await,
        [
            "acquire: DEBUG connection opened server",
            "acquire: DEBUG queued key=pool server"
        ]
    );
    sleep(SECOND).await;
    drop(held);
    assert_eq!(
        recorder.lines().await,
        [
            "hold: DEBUG slot dropped",
            "hold key=pool server token wait=0 held=1 outcome=dropped",
            "acquire: DEBUG slot acquired key=pool server token wait=1",
            "acquire key=pool server token wait=1 outcome=granted",
        ]
    );
    drop(queued);
    assert_eq!(
        recorder.lines().await,
        [
            "hold: DEBUG slot dropped",
            "hold key=pool server token wait=1 held=0 outcome=dropped"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_renewal_is_a_warning_and_so_is_a_loss() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let held = semaphore(&fixture).acquire().await.unwrap();
    held.renew().await.unwrap();
    recorder.lines().await;
    // The next renewal has about 2 s, and its reply takes more than three quarters of them.
    fixture
        .server
        .faults()
        .delay_replies(Duration::from_millis(1700));
    sleep(Duration::from_millis(3800)).await;
    assert_eq!(
        recorder.lines().await,
        ["hold: WARN slow renewal key=pool server token margin=0"]
    );
    fixture.server.faults().disconnect("pool");
    held.lost().await;
    assert_eq!(
        recorder.lines().await,
        [
            "hold: WARN slot lost key=pool server token reason=its connection ended",
            "hold key=pool server token wait=0 held=4 outcome=lost",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_granted_slot_that_was_not_collected_is_a_warning() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let held = semaphore(&fixture).acquire().await.unwrap();
    let Enqueued::Queued(queued) = semaphore(&fixture).enqueue().await.unwrap() else {
        panic!("the slot is held")
    };
    held.release().await.unwrap();
    sleep(SECOND).await;
    assert!(queued.is_granted());
    recorder.lines().await;
    fixture.server.faults().disconnect("pool");
    let warning = "hold: WARN slot lost key=pool server token reason=its connection ended";
    assert_eq!(
        recorder.lines().await,
        [
            warning,
            "hold key=pool server token wait=0 held=1 outcome=lost"
        ]
    );
    assert!(queued.wait().await.unwrap_err().is_lost());
    assert!(recorder.lines().await.is_empty());
}

type Action = Box<dyn FnOnce() + Send>;

/// Layer that runs an action on another thread while it handles a grant event. It records whether
/// the action finished meanwhile.
#[derive(Clone, Default)]
struct ReentrantLayer {
    action: Arc<Mutex<Option<Action>>>,
    done: Arc<Mutex<Option<bool>>>,
}

impl<S: Subscriber> Layer<S> for ReentrantLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        if line.starts_with(" slot acquired")
            && let Some(action) = self.action.lock().unwrap().take()
        {
            let (done, is_done) = mpsc::channel();
            thread::spawn(move || {
                action();
                done.send(())
            });
            *self.done.lock().unwrap() = Some(is_done.recv_timeout(10 * SECOND).is_ok());
        }
    }
}

// A subscriber may look at the slot or give it up, and does not wait for a lock.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_uses_the_slot_during_its_grant_event_does_not_deadlock() {
    let layer = ReentrantLayer::default();
    let (recorder, _guard) = Recorder::start_with(layer.clone());
    let fixture = Fixture::new().await;
    for drops in [false, true] {
        let held = semaphore(&fixture).acquire().await.unwrap();
        let Enqueued::Queued(queued) = semaphore(&fixture).enqueue().await.unwrap() else {
            panic!("the slot is held")
        };
        let queued = Arc::new(Mutex::new(Some(queued)));
        let shared = queued.clone();
        let action = move || {
            let mut queued = shared.lock().unwrap();
            assert!(
                !queued.as_ref().unwrap().is_granted(),
                "the event comes before the grant is visible"
            );
            if drops {
                *queued = None;
            }
        };
        *layer.action.lock().unwrap() = Some(Box::new(action));
        held.release().await.unwrap();
        sleep(SECOND).await;
        assert_eq!(layer.done.lock().unwrap().take(), Some(true));
        drop(queued);
        let lines = recorder.lines().await;
        let count = |begin, end| {
            lines
                .iter()
                .filter(|line| line.starts_with(begin) && line.ends_with(end))
                .count()
        };
        assert_eq!(
            (
                count("hold: ", "slot dropped"),
                count("hold key", "outcome=dropped")
            ),
            (1, 1),
            "{lines:?}"
        );
        assert!(
            fixture
                .server
                .stats()
                .semaphores
                .iter()
                .all(|pool| pool.holders == 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_of_an_acquire_that_times_out_records_the_outcome() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let _held = semaphore(&fixture).acquire().await.unwrap();
    recorder.lines().await;
    semaphore(&fixture)
        .acquire_within(2 * SECOND)
        .await
        .unwrap_err();
    let last = recorder.lines().await.pop();
    assert_eq!(
        last.as_deref(),
        Some("acquire key=pool server wait=2 outcome=timeout")
    );
}

// The client is at the end of the queue then.
#[tokio::test(start_paused = true)]
async fn losing_the_place_in_the_queue_is_a_warning() {
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let held = semaphore(&fixture).acquire().await.unwrap();
    let waiter = tokio::spawn(semaphore(&fixture).acquire());
    sleep(SECOND).await;
    recorder.lines().await;
    fixture.server.faults().disconnect_all();
    held.lost().await;
    waiter.await.unwrap().unwrap().release().await.unwrap();
    let lines = recorder.lines().await;
    let warnings: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("place in the queue"))
        .collect();
    let [warning] = warnings[..] else {
        panic!("{lines:?}")
    };
    let begin = "acquire: WARN place in the queue lost key=pool server error=acquire \"pool\" on";
    assert!(
        warning.starts_with(begin) && warning.contains("the connection ended"),
        "{warning}"
    );
}

// The keep-alive task runs on another thread and reacts to the end immediately.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_span_of_a_hold_records_whether_it_was_released_or_closed() {
    let (recorder, _guard) = Recorder::start();
    let server = Server::start().await.unwrap();
    let fixture = Fixture {
        client: server.client(),
        server,
    };
    for _ in 0..300 {
        semaphore(&fixture)
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        drop(semaphore(&fixture).acquire().await.unwrap().close());
    }
    let lines = recorder.lines().await;
    let ends = |outcome| {
        lines
            .iter()
            .filter(|line| line.starts_with("hold ") && line.ends_with(outcome))
            .count()
    };
    assert_eq!(
        (ends("outcome=released"), ends("outcome=closed")),
        (300, 300)
    );
}

/// Returns the new warnings.
async fn warnings(recorder: &Recorder) -> Vec<String> {
    let lines = recorder.lines().await.into_iter();
    lines.filter(|line| line.contains("WARN")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_its_own_slots_emits_a_warning() {
    const WARNING: &str =
        "WARN the task waits for a slot of a key whose slots it holds all itself key=pool server";
    let (recorder, _guard) = Recorder::start();
    let fixture = Fixture::new().await;
    let client = fixture.client.clone();
    let pool = client.semaphore("pool", 2).unwrap();
    let short = Duration::from_millis(10);
    let expected = format!("{WARNING} limit=2");
    let task = tokio::spawn({
        let (recorder, pool) = (recorder.clone(), pool.clone());
        async move {
            let first = pool.clone().acquire().await.unwrap();
            let second = pool.clone().acquire().await.unwrap();
            assert!(warnings(&recorder).await.is_empty());
            // Once for each wait.
            for _ in 0..2 {
                pool.clone().acquire_within(short).await.unwrap_err();
                assert_eq!(warnings(&recorder).await, [&*expected]);
            }
            // Nothing waits here.
            pool.clone().try_acquire().await.unwrap_err();
            // Other keys, and the lock of the same name.
            client.lock("pool").unwrap().acquire().await.unwrap();
            client
                .semaphore("other", 2)
                .unwrap()
                .acquire()
                .await
                .unwrap();
            assert!(warnings(&recorder).await.is_empty());
            let Enqueued::Queued(queued) = pool.clone().enqueue().await.unwrap() else {
                panic!("no slot was free");
            };
            assert!(warnings(&recorder).await.is_empty());
            queued.wait_within(short).await.unwrap_err();
            assert_eq!(warnings(&recorder).await, [&*expected]);
            // Another task waits for this one, which is no deadlock by itself.
            let other = tokio::spawn(pool.clone().acquire_within(short));
            other.await.unwrap().unwrap_err();
            assert!(warnings(&recorder).await.is_empty());
            // A slot that was given up in any way does not count.
            second.release().await.unwrap();
            let third = pool.clone().acquire().await.unwrap();
            drop(third);
            let fourth = pool.clone().acquire().await.unwrap();
            let fourth = fourth.close().acquire().await.unwrap();
            assert!(warnings(&recorder).await.is_empty());
            // A slot counts for the task that waited for its place in the queue.
            let Enqueued::Queued(queued) = pool.clone().enqueue().await.unwrap() else {
                panic!("no slot was free");
            };
            drop(fourth);
            let fifth = queued.wait().await.unwrap();
            pool.clone().acquire_within(short).await.unwrap_err();
            assert_eq!(warnings(&recorder).await, [&*expected]);
            drop((first, fifth));
        }
    });
    task.await.unwrap();
    // A body, and an annotated function.
    let lock = fixture.client.lock("nightly").unwrap();
    let inner = lock.clone();
    tokio::spawn(async move {
        let inner = async |_: &Held| inner.clone().acquire_within(short).await.is_err();
        assert!(lock.with_slot(inner).await.unwrap());
    })
    .await
    .unwrap();
    assert_eq!(
        warnings(&recorder).await,
        [format!(
            "hold: {} limit=1",
            WARNING.replace("pool", "nightly")
        )]
    );
    // Outside of a task there is no id to tell by.
    let _held = (pool.clone().acquire().await, pool.clone().acquire().await);
    pool.acquire_within(short).await.unwrap_err();
    assert!(warnings(&recorder).await.is_empty());
}
