//! Tests of the tracing spans and events.
//!
//! A separate test binary, because tracing caches for the whole process which spans and events have
//! no subscriber. These tests need all of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot continue has failed"
)]

mod notes;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use dflock::server::Server;
use dflock::tower::SlotLayer;
use dflock::{Client, Enqueued, Held, Semaphore};
use notes::{Fields, Notes};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt, service_fn};
use tracing::{Event, Instrument, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer};

const SECOND: Duration = Duration::from_secs(1);

struct House {
    server: Server,
    client: Client,
}

impl House {
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

fn pool(house: &House) -> Semaphore {
    Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(4 * SECOND)
        .client(house.client.clone())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_acquire_and_its_hold_are_told_from_beginning_to_end() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let held = pool(&house).acquire().await.unwrap();
    assert_eq!(
        notes.told().await,
        [
            "acquire: DEBUG connection opened server",
            "acquire: DEBUG slot acquired key=pool server token wait=0",
            "acquire key=pool server token wait=0 outcome=granted",
        ]
    );
    // The first renewal may come much earlier than it is due, because the task renews on its own
    // schedule.
    held.renew().await.unwrap();
    assert_eq!(
        notes.told().await,
        ["hold: DEBUG renewed key=pool server token margin=4"]
    );
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        notes.told().await,
        ["hold: DEBUG renewed key=pool server token margin=2"]
    );
    held.release().await.unwrap();
    assert_eq!(
        notes.told().await,
        ["hold key=pool server token wait=0 held=3 outcome=released"]
    );
}

#[tokio::test(start_paused = true)]
async fn both_are_children_of_the_span_that_asked_and_what_runs_with_a_slot_runs_in_its_hold() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let asked = async {
        pool(&house)
            .with_slot(async |_| info!("at work"))
            .await
            .unwrap();
    };
    asked.instrument(info_span!("request")).await;
    let told = notes.told().await;
    assert_eq!(notes.links(), [("hold", "acquire")]);
    assert_eq!(
        told[2..],
        [
            "request:acquire key=pool server token wait=0 outcome=granted",
            "hold: INFO at work",
            "request:hold key=pool server token wait=0 held=0 outcome=released",
            "request",
        ]
    );
}

#[dflock::lock(key = "pool", client = house.client)]
async fn annotated(house: &House) -> Result<(), dflock::Error> {
    info!("at work");
    Ok(())
}

#[dflock::lock(key = "pool", client = house.client, on_lost = finish)]
async fn annotated_to_finish(house: &House) -> Result<(), dflock::Error> {
    info!("at work");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_an_annotated_function_does_it_does_in_its_hold() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    annotated(&house).await.unwrap();
    assert_eq!(notes.told().await[3], "hold: INFO at work");
    annotated_to_finish(&house).await.unwrap();
    assert_eq!(notes.told().await[2], "hold: INFO at work");
}

/// Ways to acquire a slot that may outlive the span in which it is requested.
#[derive(Clone, Copy, Debug)]
enum Way {
    Acquire,
    AcquireWithin,
    TryAcquire,
    Enqueue,
}

impl Way {
    async fn take(self, house: &House) -> Semaphore<Held> {
        match self {
            Self::Acquire => pool(house).acquire().await.unwrap(),
            Self::AcquireWithin => pool(house).acquire_within(SECOND).await.unwrap(),
            Self::TryAcquire => pool(house).try_acquire().await.unwrap(),
            Self::Enqueue => pool(house).enqueue().await.unwrap().wait().await.unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_is_closed_before_the_slot_that_was_requested_in_it_is_released() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    for way in [
        Way::Acquire,
        Way::AcquireWithin,
        Way::TryAcquire,
        Way::Enqueue,
    ] {
        let held = way.take(&house).instrument(info_span!("request")).await;
        let told = notes.told().await;
        let granted = "request:acquire key=pool server token wait=0 outcome=granted";
        assert_eq!(told[told.len() - 2..], [granted, "request"], "{way:?}");
        assert_eq!(
            notes.links(),
            [("hold", "acquire"), ("hold", "request")],
            "{way:?}"
        );
        held.release().await.unwrap();
        let released = "hold key=pool server token wait=0 held=0 outcome=released";
        assert_eq!(notes.told().await, [released], "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_is_closed_before_the_slot_that_was_waited_for_in_it_is_released() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let held = pool(&house).acquire().await.unwrap();
    notes.told().await;
    notes.links();
    let request = async {
        let Enqueued::Queued(queued) = pool(&house).enqueue().await.unwrap() else {
            panic!("the slot is taken")
        };
        drop(held);
        queued.wait().await.unwrap()
    };
    let held = request.instrument(info_span!("request")).await;
    assert_eq!(notes.told().await.pop().as_deref(), Some("request"));
    assert_eq!(notes.links(), [("hold", "acquire"), ("hold", "request")]);
    held.release().await.unwrap();
    assert_eq!(
        notes.told().await,
        ["hold key=pool server token wait=0 held=0 outcome=released"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_run_with_a_slot_stays_in_the_span_of_its_caller() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let request = async {
        let held = pool(&house).acquire().await.unwrap();
        held.run(async { info!("at work") }).await.unwrap();
    };
    request.instrument(info_span!("request")).await;
    assert!(
        notes
            .told()
            .await
            .contains(&"request: INFO at work".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn the_hold_of_an_annotated_function_and_of_a_layer_is_a_child_of_the_span_that_called() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let released = "request:hold key=pool server token wait=0 held=0 outcome=released".to_owned();
    annotated(&house)
        .instrument(info_span!("request"))
        .await
        .unwrap();
    assert!(notes.told().await.contains(&released));
    let pool = pool(&house);
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
    let told = notes.told().await;
    assert!(
        told.contains(&released) && told.contains(&"hold: INFO at work".to_owned()),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_place_in_line_is_told_and_a_handle_that_is_dropped() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let held = pool(&house).acquire().await.unwrap();
    notes.told().await;
    let Enqueued::Queued(queued) = pool(&house).enqueue().await.unwrap() else {
        panic!("the slot is taken")
    };
    assert_eq!(
        notes.told().await,
        [
            "acquire: DEBUG connection opened server",
            "acquire: DEBUG queued key=pool server"
        ]
    );
    sleep(SECOND).await;
    drop(held);
    assert_eq!(
        notes.told().await,
        [
            "hold: DEBUG slot dropped",
            "hold key=pool server token wait=0 held=1 outcome=dropped",
            "acquire: DEBUG slot acquired key=pool server token wait=1",
            "acquire key=pool server token wait=1 outcome=granted",
        ]
    );
    drop(queued);
    assert_eq!(
        notes.told().await,
        [
            "hold: DEBUG slot dropped",
            "hold key=pool server token wait=1 held=0 outcome=dropped"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_renewal_is_a_warning_and_so_is_a_loss() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let held = pool(&house).acquire().await.unwrap();
    held.renew().await.unwrap();
    notes.told().await;
    // The next renewal has about 2 s, and its reply takes more than three quarters of them.
    house
        .server
        .faults()
        .delay_replies(Duration::from_millis(1700));
    sleep(Duration::from_millis(3800)).await;
    assert_eq!(
        notes.told().await,
        ["hold: WARN slow renewal key=pool server token margin=0"]
    );
    house.server.faults().disconnect("pool");
    held.lost().await;
    assert_eq!(
        notes.told().await,
        [
            "hold: WARN slot lost key=pool server token reason=its connection ended",
            "hold key=pool server token wait=0 held=4 outcome=lost",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_slot_that_nobody_took_over_is_a_warning_too() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let held = pool(&house).acquire().await.unwrap();
    let Enqueued::Queued(queued) = pool(&house).enqueue().await.unwrap() else {
        panic!("the slot is taken")
    };
    held.release().await.unwrap();
    sleep(SECOND).await;
    assert!(queued.is_granted());
    notes.told().await;
    house.server.faults().disconnect("pool");
    let warning = "hold: WARN slot lost key=pool server token reason=its connection ended";
    assert_eq!(
        notes.told().await,
        [
            warning,
            "hold key=pool server token wait=0 held=1 outcome=lost"
        ]
    );
    assert!(queued.wait().await.unwrap_err().is_lost());
    assert!(notes.told().await.is_empty());
}

type Todo = Box<dyn FnOnce() + Send>;

/// What another thread does while somebody is told of a grant, and whether it was done by then.
#[derive(Clone, Default)]
struct Meanwhile {
    todo: Arc<Mutex<Option<Todo>>>,
    done: Arc<Mutex<Option<bool>>>,
}

impl<S: Subscriber> Layer<S> for Meanwhile {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        if line.starts_with(" slot acquired")
            && let Some(todo) = self.todo.lock().unwrap().take()
        {
            let (done, is_done) = mpsc::channel();
            thread::spawn(move || {
                todo();
                done.send(())
            });
            *self.done.lock().unwrap() = Some(is_done.recv_timeout(10 * SECOND).is_ok());
        }
    }
}

// A subscriber may look at the slot or give it up, and does not wait for a lock.
#[tokio::test(start_paused = true)]
async fn who_is_told_of_a_grant_holds_nobody_up() {
    let meanwhile = Meanwhile::default();
    let (notes, _guard) = Notes::begin_with(meanwhile.clone());
    let house = House::new().await;
    for leaves in [false, true] {
        let held = pool(&house).acquire().await.unwrap();
        let Enqueued::Queued(queued) = pool(&house).enqueue().await.unwrap() else {
            panic!("the slot is taken")
        };
        let queued = Arc::new(Mutex::new(Some(queued)));
        let theirs = queued.clone();
        let look = move || {
            let mut queued = theirs.lock().unwrap();
            assert!(!queued.as_ref().unwrap().is_granted(), "the event comes before the grant is visible");
            if leaves {
                *queued = None;
            }
        };
        *meanwhile.todo.lock().unwrap() = Some(Box::new(look));
        held.release().await.unwrap();
        sleep(SECOND).await;
        assert_eq!(meanwhile.done.lock().unwrap().take(), Some(true));
        drop(queued);
        let told = notes.told().await;
        let count = |begin, end| {
            told.iter()
                .filter(|line| line.starts_with(begin) && line.ends_with(end))
                .count()
        };
        assert_eq!(
            (
                count("hold: ", "slot dropped"),
                count("hold key", "outcome=dropped")
            ),
            (1, 1),
            "{told:?}"
        );
        assert!(
            house
                .server
                .stats()
                .semaphores
                .iter()
                .all(|pool| pool.holders == 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_says_how_it_ended() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let _held = pool(&house).acquire().await.unwrap();
    notes.told().await;
    pool(&house).acquire_within(2 * SECOND).await.unwrap_err();
    let last = notes.told().await.pop();
    assert_eq!(
        last.as_deref(),
        Some("acquire key=pool server wait=2 outcome=timeout")
    );
}

// The client is at the end of the queue then.
#[tokio::test(start_paused = true)]
async fn a_place_in_the_queue_that_is_lost_is_a_warning() {
    let (notes, _guard) = Notes::begin();
    let house = House::new().await;
    let held = pool(&house).acquire().await.unwrap();
    let waiter = tokio::spawn(pool(&house).acquire());
    sleep(SECOND).await;
    notes.told().await;
    house.server.faults().disconnect_all();
    held.lost().await;
    waiter.await.unwrap().unwrap().release().await.unwrap();
    let told = notes.told().await;
    let warnings: Vec<_> = told
        .iter()
        .filter(|line| line.contains("place in the queue"))
        .collect();
    let [warning] = warnings[..] else {
        panic!("{told:?}")
    };
    let begin = "acquire: WARN place in the queue lost key=pool server error=acquire \"pool\" on";
    assert!(
        warning.starts_with(begin) && warning.contains("the connection ended"),
        "{warning}"
    );
}

// The keep-alive task runs on another thread and reacts to the end immediately.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_a_hold_says_how() {
    let (notes, _guard) = Notes::begin();
    let server = Server::start().await.unwrap();
    let house = House {
        client: server.client(),
        server,
    };
    for _ in 0..300 {
        pool(&house)
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        drop(pool(&house).acquire().await.unwrap().close());
    }
    let told = notes.told().await;
    let ends = |outcome| {
        told.iter()
            .filter(|line| line.starts_with("hold ") && line.ends_with(outcome))
            .count()
    };
    assert_eq!(
        (ends("outcome=released"), ends("outcome=closed")),
        (300, 300)
    );
}
