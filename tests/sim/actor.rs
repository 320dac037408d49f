//! Simulated user: acquires, holds, loses and releases slots. Half of its operations are cancelled.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::ready;
use std::time::Duration;

use dflock::{Client, Enqueued, Error, Held};
use tokio::time::{Instant, sleep, timeout};

use super::body::Body;
use super::chaos::jump;
use super::cut::Cut;
use super::dice::Dice;
use super::history::What;
use super::holding::Holding;
use super::pool::Pool;
use super::run::Stage;

/// Tolerance for the resolution of timers.
const SLACK: Duration = Duration::from_millis(5);

/// Name of an acquire so short that it can time out while connecting, without any fault.
pub(super) const HASTY: &str = "hasty acquire";

#[derive(Clone)]
pub(super) struct Actor {
    pub(super) stage: Arc<Stage>,
    pub(super) index: usize,
    pub(super) client: Client,
    /// Semaphores and locks, one for each key.
    pub(super) pools: Vec<Pool>,
    pub(super) dice: Dice,
}

impl Actor {
    pub(super) async fn live(mut self) {
        let ends = self.stage.history.begun() + self.stage.plan.length;
        while Instant::now() < ends {
            sleep(self.dice.spread(1..=4000)).await;
            let cut = Cut::throw(&mut self.dice);
            let then = self.dice.percent(5).then(|| self.dice.spread(20..=4000));
            let mut act = self.clone();
            act.dice = Dice::new(self.dice.throw(), 2);
            let (stage, index) = (Arc::clone(&self.stage), self.index);
            if !Box::pin(cut.run(unless_busy(stage, index, act.act()))).await {
                self.stage.history.note(What::Cut { client: self.index });
                if let Some(time) = then {
                    // The code that dropped the future blocks the executor.
                    jump(&self.stage, time);
                }
            }
        }
    }

    async fn act(mut self) {
        match self.dice.between(0..=99) {
            0..=49 => self.acquire().await,
            50..=74 => self.enqueue().await,
            75..=94 => self.with_slot().await,
            _ => self.ping().await,
        }
    }

    async fn acquire(mut self) {
        let pool = self.dice.pick(&self.pools);
        let wait = match self.dice.between(0..=3) {
            0 => Duration::ZERO,
            1 => self.dice.millis(1..=1999),
            2 => Duration::from_secs(self.dice.between(1..=5)),
            _ => Duration::from_secs(self.dice.between(10..=30)),
        };
        let plan = &self.stage.plan.clients[self.index];
        // The wait limits the whole call, on a clock that may be slow.
        let allowed = if wait.is_zero() {
            plan.connect_timeout + plan.socket_timeout
        } else {
            (wait + plan.socket_timeout.min(Duration::from_secs(1))).mul_f64(1.01)
        };
        let is_hasty = !wait.is_zero() && wait < 4 * self.stage.plan.longest_latency();
        let what = if is_hasty { HASTY } else { "acquire" };
        if let Some(held) = self.timed(what, allowed, pool.acquire_within(wait)).await {
            self.hold(held).await;
        }
    }

    async fn enqueue(mut self) {
        let pool = self.dice.pick(&self.pools);
        let plan = &self.stage.plan.clients[self.index];
        let allowed = plan.connect_timeout + 3 * plan.socket_timeout;
        let queued = match self.timed("enqueue", allowed, pool.enqueue()).await {
            Some(Enqueued::Acquired(held)) => return self.hold(held).await,
            Some(Enqueued::Queued(queued)) => queued,
            None => return,
        };
        if self.dice.percent(70) {
            sleep(self.dice.spread(1..=30_000)).await;
        }
        match self.dice.between(0..=9) {
            0 => queued.close(),
            1 => drop(queued),
            _ => {
                let wait = self.dice.spread(1..=30_000);
                if let Some(held) = self.timed("wait", wait, queued.wait_within(wait)).await {
                    self.hold(held).await;
                }
            }
        }
    }

    async fn with_slot(mut self) {
        let pool = self.dice.pick(&self.pools);
        let time = self.dice.spread(1..=30_000);
        let (stage, index) = (Arc::clone(&self.stage), self.index);
        let worked = pool.with_slot(async move |held: &Held| {
            Body::new(&stage, index, held).work(sleep(time)).await;
        });
        self.note("with_slot", worked.await);
    }

    async fn ping(self) {
        let plan = &self.stage.plan.clients[self.index];
        let servers = u32::try_from(self.stage.plan.servers).expect("at most three");
        let allowed = servers * (plan.connect_timeout + 2 * plan.socket_timeout);
        self.timed("ping", allowed, self.client.ping()).await;
    }

    async fn hold(mut self, held: Pool<Held>) {
        let holding = Holding::new(&self.stage, self.index, held);
        for _ in 0..self.dice.between(0..=3) {
            let time = self.dice.spread(1..=30_000);
            let since = self.stage.history.begun().elapsed();
            let told = match self.dice.between(0..=10) {
                0..=4 => tokio::select! {
                    biased;
                    _ = holding.lost() => true,
                    () = sleep(time) => false,
                },
                5 | 6 => holding.work(sleep(time)).await.is_err(),
                7 => {
                    sleep(time).await;
                    false
                }
                8 => {
                    // A cancelled call leaves a renewal in flight.
                    let _ = timeout(self.dice.millis(0..=60), holding.renew()).await;
                    false
                }
                _ => {
                    let allowed = holding
                        .lease()
                        .min(self.stage.plan.read_timeout)
                        .mul_f64(1.01);
                    self.timed("renew", allowed, holding.renew())
                        .await
                        .is_none()
                }
            };
            if told {
                holding.note_told(since);
                if !holding.is_lost() {
                    self.stage.history.note(What::Wrong(
                        "`lost()` resolved, but `is_lost()` is false".to_owned(),
                    ));
                }
                break;
            }
        }
        match self.dice.between(0..=9) {
            0..=5 => {
                let allowed = self.stage.plan.clients[self.index].socket_timeout;
                self.timed("release", allowed, holding.release()).await;
            }
            6 => holding.close(),
            7 => {
                drop(holding);
                jump(&self.stage, self.dice.spread(1..=2000));
            }
            _ => drop(holding),
        }
    }

    /// Runs `future`, and records an error or an excessive duration. Durations during which a
    /// program was suspended are not checked.
    async fn timed<T>(
        &self,
        what: &'static str,
        allowed: Duration,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let (began, pauses) = (Instant::now(), self.stage.pauses.load(Ordering::Relaxed));
        let result = future.await;
        let took = began.elapsed();
        if took > allowed + SLACK && pauses == self.stage.pauses.load(Ordering::Relaxed) {
            self.stage.history.note(What::Slow {
                client: self.index,
                what,
                took,
                allowed,
            });
        }
        self.note(what, result)
    }

    fn note<T>(&self, what: &'static str, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| {
                self.stage.history.note(What::Failed {
                    client: self.index,
                    what,
                    why: name(&error),
                });
            })
            .ok()
    }
}

/// Runs `operation`, but does not poll it while the client is busy.
async fn unless_busy(stage: Arc<Stage>, index: usize, act: impl Future<Output = ()>) {
    let mut act = std::pin::pin!(act);
    std::future::poll_fn(|cx| {
        ready!(stage.net.poll_idle(index, cx));
        act.as_mut().poll(cx)
    })
    .await;
}

/// Returns the kind of an error.
pub(super) fn name(error: &Error) -> &'static str {
    match error {
        Error::Config(_) => "config",
        Error::Timeout { .. } => "timeout",
        Error::Lost(_) => "lost",
        Error::LeaseExpired { .. } => "lease expired",
        Error::LimitMismatch { .. } => "limit mismatch",
        Error::Refused { .. } => "refused",
        Error::Connect { .. } => "connect",
        Error::ConnectTimeout { .. } => "connect timeout",
        Error::Unresponsive { .. } => "unresponsive",
        Error::Disconnected { .. } => "disconnected",
        Error::Protocol { .. } => "protocol",
        _ => "other",
    }
}
