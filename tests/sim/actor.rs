//! Simulated user: acquires, holds, loses and releases slots. Half of its operations are cancelled.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::ready;
use std::time::Duration;

use dflock::{Client, Error, Held, Leader, Leadership, Lock, Lost, LostReason};
use tokio::time::{Instant, sleep, timeout};

use super::cancellation::Cancellation;
use super::fault_injector::advance_time;
use super::history::Event;
use super::resource::{EnqueuedResource, Resource};
use super::rng::Rng;
use super::run::Simulation;
use super::tracked_body::TrackedBody;
use super::tracked_hold::TrackedHold;

/// Tolerance for the resolution of timers.
const SLACK: Duration = Duration::from_millis(5);

/// Name of an acquire so short that it can time out while connecting, without any fault.
pub(super) const SHORT_ACQUIRE: &str = "short acquire";

/// Name of an acquire of several keys, which may have little time left for the last one.
pub(super) const ACQUIRE_ALL: &str = "acquire_all";

/// Name of a candidacy.
const LEAD: &str = "lead";

/// Operations that a close of the client ends.
const WAITS: [&str; 4] = ["acquire", SHORT_ACQUIRE, "enqueue", "wait"];

#[derive(Clone)]
pub(super) struct Actor {
    pub(super) simulation: Arc<Simulation>,
    pub(super) index: usize,
    pub(super) client: Client,
    /// Semaphores and locks, one for each key.
    pub(super) resources: Vec<Resource>,
    pub(super) rng: Rng,
}

impl Actor {
    pub(super) async fn run(mut self) {
        let end = self.simulation.history.start() + self.simulation.plan.length;
        while Instant::now() < end {
            sleep(self.rng.log_uniform(1..=4000)).await;
            let cancellation = Cancellation::random(&mut self.rng);
            let jump = self.rng.percent(5).then(|| self.rng.log_uniform(20..=4000));
            let mut actor = self.clone();
            actor.rng = Rng::new(self.rng.next_u64(), 2);
            let (simulation, index) = (Arc::clone(&self.simulation), self.index);
            if !Box::pin(cancellation.run(pause_while_busy(simulation, index, actor.step()))).await
            {
                self.simulation
                    .history
                    .record(Event::Cancelled { client: self.index });
                if let Some(time) = jump {
                    // The code that dropped the future blocks the executor.
                    advance_time(&self.simulation, time);
                }
            }
        }
    }

    async fn step(mut self) {
        match self.rng.range(0..=99) {
            0..=49 => self.acquire().await,
            50..=69 => self.enqueue().await,
            70..=84 => self.with_slot().await,
            85..=94 => self.acquire_all().await,
            _ => self.ping().await,
        }
    }

    fn random_wait(&mut self) -> Duration {
        match self.rng.range(0..=3) {
            0 => Duration::ZERO,
            1 => self.rng.millis(1..=1999),
            2 => Duration::from_secs(self.rng.range(1..=5)),
            _ => Duration::from_secs(self.rng.range(10..=30)),
        }
    }

    async fn acquire(mut self) {
        let resource = self.rng.pick(&self.resources);
        let wait = self.random_wait();
        let plan = &self.simulation.plan.clients[self.index];
        // The wait limits the whole call. The client measures it on its clock, which may be 1 % slow.
        let limit = if wait.is_zero() {
            plan.connect_timeout + plan.socket_timeout
        } else {
            wait + plan.socket_timeout.min(Duration::from_secs(1))
        };
        let allowed = limit.mul_f64(1.01);
        let is_short = !wait.is_zero() && wait < 4 * self.simulation.plan.longest_latency();
        let operation = if is_short { SHORT_ACQUIRE } else { "acquire" };
        let limit = resource.limit();
        if limit == 1 || self.rng.percent(50) {
            let acquire = resource.acquire_within(wait);
            if let Some(held) = self.run_timed(operation, allowed, acquire).await {
                self.hold(held).await;
            }
            return;
        }
        let permits = u32::try_from(self.rng.range(2..=limit.into())).expect("at most four");
        let acquire = resource.acquire_many_within(permits, wait);
        if let Some(held) = self.run_timed(operation, allowed, acquire).await {
            if held.permits() != permits {
                self.simulation.history.record(Event::Violation(format!(
                    "{} permits were acquired in place of {permits}",
                    held.permits()
                )));
            }
            self.hold(held).await;
        }
    }

    /// Acquires slots of all keys of one kind, given in a random order.
    async fn acquire_all(mut self) {
        let first = self.rng.pick(&self.resources);
        let mut resources: Vec<_> = self
            .resources
            .iter()
            .filter(|resource| resource.is_same_kind(&first))
            .cloned()
            .collect();
        for index in (1..resources.len()).rev() {
            resources.swap(index, self.rng.index(index + 1));
        }
        let wait = self.random_wait();
        let plan = &self.simulation.plan.clients[self.index];
        let limit = if wait.is_zero() {
            let keys = u32::try_from(resources.len()).expect("at most three");
            keys * (plan.connect_timeout + plan.socket_timeout)
        } else {
            wait + plan.socket_timeout.min(Duration::from_secs(1))
        };
        let acquire = Resource::acquire_all_within(&resources, wait);
        let Some(all) = self
            .run_timed(ACQUIRE_ALL, limit.mul_f64(1.01), acquire)
            .await
        else {
            return;
        };
        let mut tracked: Vec<_> = all
            .into_iter()
            .map(|held| TrackedHold::new(&self.simulation, self.index, held))
            .collect();
        self.simulation.history.record(Event::AcquiredAll {
            slots: tracked.iter().map(TrackedHold::slot).collect(),
        });
        sleep(self.rng.log_uniform(1..=10_000)).await;
        while !tracked.is_empty() {
            let held = tracked.swap_remove(self.rng.index(tracked.len()));
            if self.rng.percent(70) {
                self.run_timed("release", plan.socket_timeout, held.release())
                    .await;
            }
        }
    }

    async fn enqueue(mut self) {
        let resource = self.rng.pick(&self.resources);
        let plan = &self.simulation.plan.clients[self.index];
        let allowed = plan.connect_timeout + 3 * plan.socket_timeout;
        let queued = match self.run_timed("enqueue", allowed, resource.enqueue()).await {
            Some(EnqueuedResource::Acquired(held)) => return self.hold(held).await,
            Some(EnqueuedResource::Queued(queued)) => queued,
            None => return,
        };
        if self.rng.percent(70) {
            sleep(self.rng.log_uniform(1..=30_000)).await;
        }
        match self.rng.range(0..=9) {
            0 => queued.close(),
            1 => drop(queued),
            _ => {
                let wait = self.rng.log_uniform(1..=30_000);
                if let Some(held) = self.run_timed("wait", wait, queued.wait_within(wait)).await {
                    self.hold(held).await;
                }
            }
        }
    }

    async fn with_slot(mut self) {
        let resource = self.rng.pick(&self.resources);
        let time = self.rng.log_uniform(1..=30_000);
        if let Resource::Lock(lock) = &resource
            && self.rng.percent(50)
        {
            let lock = lock.clone();
            return self.lead(lock, time).await;
        }
        let (simulation, index) = (Arc::clone(&self.simulation), self.index);
        let worked = resource.with_slot(async move |held: &Held| {
            TrackedBody::new(&simulation, index, held)
                .run(sleep(time))
                .await;
        });
        self.record("with_slot", worked.await);
    }

    /// Leads until a term has lasted for `time`, which halves with each term: the longest hold may
    /// be shorter. Some leaders resign once before.
    async fn lead(mut self, lock: Lock, mut time: Duration) {
        let mut resigns = self.rng.percent(30);
        let (simulation, index) = (Arc::clone(&self.simulation), self.index);
        let lead = lock.lead(async move |leader: &Leader| {
            let work = sleep(time);
            time /= 2;
            let body = TrackedBody::new(&simulation, index, leader);
            body.run(work).await;
            if std::mem::take(&mut resigns) {
                leader.resign();
            }
        });
        let leadership = lead.watch();
        self.record(LEAD, lead.await);
        if *leadership.borrow() != Leadership::Ended {
            self.simulation.history.record(Event::Violation(
                "the candidacy has ended, but its state is another".to_owned(),
            ));
        }
    }

    async fn ping(self) {
        let plan = &self.simulation.plan.clients[self.index];
        let servers = u32::try_from(self.simulation.plan.servers).expect("at most three");
        let allowed = servers * (plan.connect_timeout + 2 * plan.socket_timeout);
        self.run_timed("ping", allowed, self.client.ping()).await;
    }

    async fn hold(mut self, held: Resource<Held>) {
        let tracked = TrackedHold::new(&self.simulation, self.index, held);
        for _ in 0..self.rng.range(0..=3) {
            let time = self.rng.log_uniform(1..=30_000);
            let since = self.simulation.history.start().elapsed();
            let notified = match self.rng.range(0..=10) {
                0..=4 => tokio::select! {
                    biased;
                    _ = tracked.lost() => true,
                    () = sleep(time) => false,
                },
                5 | 6 => tracked.run_tracked(sleep(time)).await.is_err(),
                7 => {
                    sleep(time).await;
                    false
                }
                8 => {
                    // A cancelled call leaves a renewal in flight.
                    let _ = timeout(self.rng.millis(0..=60), tracked.renew()).await;
                    false
                }
                _ => {
                    let allowed = tracked
                        .lease()
                        .min(self.simulation.plan.read_timeout)
                        .mul_f64(1.01);
                    self.run_timed("renew", allowed, tracked.renew())
                        .await
                        .is_none()
                }
            };
            if notified {
                tracked.record_notified(since);
                if !tracked.is_lost() {
                    self.simulation.history.record(Event::Violation(
                        "`lost()` resolved, but `is_lost()` is false".to_owned(),
                    ));
                }
                break;
            }
        }
        match self.rng.range(0..=9) {
            0..=5 => {
                let allowed = self.simulation.plan.clients[self.index].socket_timeout;
                self.run_timed("release", allowed, tracked.release()).await;
            }
            6 => tracked.close(),
            7 => {
                drop(tracked);
                advance_time(&self.simulation, self.rng.log_uniform(1..=2000));
            }
            _ => drop(tracked),
        }
    }

    /// Runs `future`, and records an error or an excessive duration. Durations during which a
    /// program was suspended are not checked.
    async fn run_timed<T>(
        &self,
        operation: &'static str,
        allowed: Duration,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let (began, pauses) = (
            Instant::now(),
            self.simulation.pauses.load(Ordering::Relaxed),
        );
        let result = future.await;
        let took = began.elapsed();
        let allowed = match self.simulation.closes[self.index].get() {
            // A close ends all waits at once.
            Some(closed) if WAITS.contains(&operation) => {
                allowed.min(closed.saturating_duration_since(began))
            }
            _ => allowed,
        };
        if took > allowed + SLACK && pauses == self.simulation.pauses.load(Ordering::Relaxed) {
            self.simulation.history.record(Event::Slow {
                client: self.index,
                operation,
                took,
                allowed,
            });
        }
        self.record(operation, result)
    }

    fn record<T>(&self, operation: &'static str, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| {
                self.simulation.history.record(Event::Failed {
                    client: self.index,
                    operation,
                    why: error_kind(&error),
                });
            })
            .ok()
    }
}

/// Runs `operation`, but does not poll it while the client is busy.
pub(super) async fn pause_while_busy(
    simulation: Arc<Simulation>,
    index: usize,
    operation: impl Future<Output = ()>,
) {
    let mut operation = std::pin::pin!(operation);
    std::future::poll_fn(|cx| {
        ready!(simulation.net.poll_not_busy(index, cx));
        operation.as_mut().poll(cx)
    })
    .await;
}

/// Returns the kind of an error.
pub(super) fn error_kind(error: &Error) -> &'static str {
    match error {
        Error::Config(_) => "config",
        Error::Timeout { .. } => "timeout",
        Error::Lost(Lost {
            reason: LostReason::Overdue,
            ..
        }) => "overdue",
        Error::Lost(_) => "lost",
        Error::LeaseExpired { .. } => "lease expired",
        Error::LimitMismatch { .. } => "limit mismatch",
        Error::Refused { .. } => "refused",
        Error::Connect { .. } => "connect",
        Error::ConnectTimeout { .. } => "connect timeout",
        Error::Unresponsive { .. } => "unresponsive",
        Error::Disconnected { .. } => "disconnected",
        Error::Protocol { .. } => "protocol",
        Error::Closed { .. } => "closed",
        _ => "other",
    }
}
