//! Leader election.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dflock::{Error, Leader, Leadership, Lock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};

use crate::fixture::{Fixture, server};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn is_leading(leadership: &watch::Receiver<Leadership>) -> bool {
    matches!(*leadership.borrow(), Leadership::Leading { .. })
}

impl Fixture {
    fn lock(&self) -> Lock {
        self.client.lock("leader").unwrap()
    }

    fn lock_holders(&self) -> usize {
        self.server.stats().locks.len()
    }
}

/// The bodies that run at the moment, and the largest number that ran at the same time.
#[derive(Clone, Default)]
struct Bodies {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Bodies {
    /// Counts a body until the returned guard is dropped.
    fn start(&self) -> Running {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(running, Ordering::Relaxed);
        Running(self.clone())
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

struct Running(Bodies);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_runs_while_the_lock_is_held_and_its_value_ends_the_candidacy() {
    let fixture = Fixture::new().await;
    let lead = fixture.lock().lead(async |leader: &Leader| {
        // Longer than the default lease.
        sleep(100 * SECOND).await;
        leader.check().unwrap();
        (leader.key().to_owned(), *leader.token())
    });
    let mut leadership = lead.watch();
    assert_eq!(*leadership.borrow(), Leadership::Candidate);
    let lead = tokio::spawn(lead);
    leadership.changed().await.unwrap();
    assert!(is_leading(&leadership));
    let Leadership::Leading { token, .. } = leadership.borrow().clone() else {
        unreachable!("it leads");
    };
    assert_eq!(fixture.lock_holders(), 1);
    let value = lead.await.unwrap().unwrap();
    assert_eq!(value, ("leader".to_owned(), token));
    assert_eq!(*leadership.borrow(), Leadership::Ended);
    assert_eq!(fixture.lock_holders(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_campaigns_for_longer_than_the_timeout_of_one_acquire() {
    let fixture = Fixture::new().await;
    let other = fixture.lock().acquire().await.unwrap();
    let lock = Lock::builder()
        .key("leader")
        .acquire_timeout(2 * SECOND)
        .client(fixture.client.clone())
        .build()
        .unwrap();
    let lead = lock.lead(async |_: &Leader| Instant::now());
    let leadership = lead.watch();
    let lead = tokio::spawn(lead);
    sleep(60 * SECOND).await;
    assert_eq!(*leadership.borrow(), Leadership::Candidate);
    let released_at = Instant::now();
    other.release().await.unwrap();
    let led_at = lead.await.unwrap().unwrap();
    // The longest pause between two campaigns.
    assert!(led_at - released_at <= SECOND, "{:?}", led_at - released_at);
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_the_body_has_ended_before_the_next_campaign() {
    let fixture = Fixture::new().await;
    let bodies = Bodies::default();
    let mut terms = 0;
    let counted = bodies.clone();
    let lead = fixture.lock().lead(async |leader: &Leader| {
        let _running = counted.start();
        terms += 1;
        if terms < 4 {
            pending::<()>().await;
        }
        (terms, leader.is_lost())
    });
    let leadership = lead.watch();
    let mut lead = pin!(lead);
    for _ in 0..3 {
        assert!(timeout(SECOND, &mut lead).await.is_err());
        assert!(is_leading(&leadership));
        fixture.server.faults().disconnect("leader");
        // Other programs are told before the next campaign, after a pause of at most 100 ms.
        let mut changes = leadership.clone();
        let lost = changes.wait_for(|state| *state == Leadership::Candidate);
        tokio::select! {
            _ = &mut lead => panic!("the body has not returned"),
            lost = timeout(SECOND, lost) => drop(lost.unwrap().unwrap()),
        }
        assert_eq!(bodies.running(), 0);
    }
    assert_eq!(lead.await.unwrap(), (4, false));
    assert_eq!(bodies.most.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_resigns_is_a_candidate_again_behind_the_others() {
    let fixture = Fixture::new().await;
    let (sender, mut terms) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for candidate in 0..3 {
        let sender = sender.clone();
        tasks.spawn(fixture.lock().lead(async move |leader: &Leader| {
            sender.send(candidate).unwrap();
            sleep(SECOND).await;
            leader.resign();
            // Not reached again: the body is dropped here.
            sleep(SECOND).await;
            sender.send(99).unwrap();
        }));
        sleep(MILLI).await;
    }
    let mut order = Vec::new();
    for _ in 0..9 {
        order.push(timeout(2 * SECOND, terms.recv()).await.unwrap().unwrap());
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    tasks.shutdown().await;
    sleep(MILLI).await;
    assert_eq!(fixture.lock_holders(), 0);
}

#[tokio::test(start_paused = true)]
async fn values_of_terms_that_ended_before_are_discarded() {
    let fixture = Fixture::new().await;
    let mut terms = 0;
    let lead = fixture.lock().lead(async |leader: &Leader| {
        terms += 1;
        match terms {
            1 => leader.resign(),
            // The executor does not run for longer than the lease.
            2 => advance(100 * SECOND).await,
            _ => {}
        }
        terms
    });
    assert_eq!(lead.await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn at_most_one_of_many_candidates_leads_while_leaders_fail() {
    let fixture = Fixture::new().await;
    let bodies = Bodies::default();
    let mut tasks = JoinSet::new();
    let mut watches: Vec<watch::Receiver<Leadership>> = Vec::new();
    for _ in 0..5 {
        let bodies = bodies.clone();
        let lead = fixture.lock().lead(async move |_: &Leader| {
            // The server closes a connection and grants the lock to the next candidate in one
            // instant. The order in which their tasks run in it is not defined.
            sleep(MILLI).await;
            let _running = bodies.start();
            pending::<()>().await;
        });
        watches.push(lead.watch());
        tasks.spawn(lead);
    }
    let mut leaders = 0;
    for term in 0..40 {
        sleep(200 * MILLI).await;
        assert_eq!(watches.iter().filter(|watch| is_leading(watch)).count(), 1);
        leaders += bodies.running();
        match term % 3 {
            0 => fixture.server.faults().disconnect("leader"),
            1 => fixture.server.faults().disconnect_all(),
            _ => {
                fixture.server.faults().refuse_connections(true);
                fixture.server.faults().disconnect_all();
                sleep(SECOND).await;
                assert_eq!(bodies.running(), 0);
                fixture.server.faults().refuse_connections(false);
                sleep(2 * SECOND).await;
            }
        }
    }
    assert_eq!((leaders, bodies.most.load(Ordering::Relaxed)), (40, 1));
    tasks.shutdown().await;
    assert!(
        watches
            .iter()
            .all(|watch| *watch.borrow() == Leadership::Ended)
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_candidacy_ends_the_body_and_frees_the_lock() {
    let fixture = Fixture::new().await;
    let bodies = Bodies::default();
    let counted = bodies.clone();
    let mut lead = Box::pin(fixture.lock().lead(async move |_: &Leader| {
        let _running = counted.start();
        pending::<()>().await;
    }));
    let leadership = lead.watch();
    assert!(timeout(SECOND, &mut lead).await.is_err());
    assert_eq!((fixture.lock_holders(), bodies.running()), (1, 1));
    drop(lead);
    assert_eq!(bodies.running(), 0);
    assert_eq!(*leadership.borrow(), Leadership::Ended);
    sleep(MILLI).await;
    assert_eq!(fixture.lock_holders(), 0);

    let never_polled = fixture.lock().lead(async |_: &Leader| ());
    let leadership = never_polled.watch();
    drop(never_polled);
    assert_eq!(*leadership.borrow(), Leadership::Ended);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_can_change_ends_the_candidacy() {
    let fixture = Fixture::with_config(server().auth_token("secret").build()).await;
    let client = fixture
        .server
        .client_builder()
        .auth("wrong")
        .connector(fixture.server.connector())
        .build()
        .unwrap();
    let lead = client.lock("leader").unwrap().lead(async |_: &Leader| ());
    let leadership = lead.watch();
    let error = timeout(60 * SECOND, lead).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Auth { .. }), "{error:?}");
    assert_eq!(*leadership.borrow(), Leadership::Ended);
}
