//! Client process: several tasks acquire, hold and give up slots of several keys, and cancel some
//! of these operations.

use std::convert::Infallible;
use std::io::BufRead;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dflock::{Client, Enqueued, Error, Held, Queued, Semaphore};
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::now;
use dflock_tests::harness::program::end_with_parent;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::event::{Event, EventKind, Stall};
use crate::hold_monitor::{self, HoldMonitor};
use crate::key::{ETCD_KEYS, KEYS};
use crate::stall_monitor;

/// Number of tasks per key in one process.
pub(crate) const TASKS: u32 = 2;

/// Poll interval for slots that the hold monitor does not check.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Arguments of a client process.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// Separated by commas. With the scheme `etcd` they are members of one cluster.
    #[arg(long)]
    servers: String,
    /// In milliseconds.
    #[arg(long)]
    read_timeout: u64,
    #[arg(long)]
    seed: u64,
}

impl ClientArgs {
    pub(crate) fn run(self) -> HarnessResult<Infallible> {
        end_with_parent()?;
        // With a single thread, a blocking call blocks every task.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> HarnessResult<Infallible> {
        let read_timeout = Duration::from_millis(self.read_timeout);
        let client = Client::builder().servers(self.servers.split(','));
        let is_etcd = self.servers.starts_with("etcd://");
        let (client, keys) = if is_etcd {
            (client.build()?, &ETCD_KEYS)
        } else {
            let client = client
                .server_read_timeout(read_timeout)
                .heartbeat(read_timeout / 3)
                .connect_timeout(Duration::from_secs(1))
                .socket_timeout(Duration::from_secs(1));
            (client.build()?, &KEYS)
        };
        let monitor = HoldMonitor::start();
        for task in 0..TASKS {
            for (key, settings) in keys.iter().enumerate() {
                let semaphore = Semaphore::builder()
                    .key(settings.name)
                    .limit(settings.limit)
                    .lease_ttl(Duration::from_secs(settings.lease))
                    .acquire_timeout(Duration::from_secs(5))
                    .client(client.clone())
                    .build()?;
                let seed = self.seed.wrapping_add(u64::from(task) * 10 + key as u64);
                let worker = Worker {
                    monitor: monitor.clone(),
                    key,
                    holds: settings.holds,
                    semaphore,
                    rng: StdRng::seed_from_u64(seed),
                };
                tokio::spawn(worker.work());
            }
        }
        let report = |stall| hold_monitor::send(&Event::Stall(stall));
        tokio::spawn(stall_monitor::monitor(report));
        let mut commands = commands();
        while let Some(busy) = commands.recv().await {
            let from = now();
            // Blocks the executor intentionally.
            thread::sleep(busy);
            report(Stall {
                intentional: true,
                from,
                to: now(),
            });
        }
        std::process::exit(0)
    }
}

/// Returns the commands of the parent: durations to block the executor for, one number of
/// milliseconds per line.
fn commands() -> mpsc::UnboundedReceiver<Duration> {
    let (command, commands) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = line
                .parse()
                .map(|millis| command.send(Duration::from_millis(millis)));
        }
    });
    commands
}

struct Worker {
    monitor: Arc<HoldMonitor>,
    key: usize,
    /// Upper bounds of a short and of a long hold, in milliseconds.
    holds: [u64; 2],
    semaphore: Semaphore,
    rng: StdRng,
}

impl Worker {
    async fn work(mut self) {
        loop {
            // The server may be down, so a failed operation is repeated soon.
            let pause = if self.step().await.is_err() {
                20
            } else {
                self.rng.random_range(0..50)
            };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn step(&mut self) -> Result<(), Error> {
        let semaphore = self.semaphore.clone();
        match self.rng.random_range(0..10) {
            0..=2 => {
                let held = semaphore.acquire().await?;
                self.hold(held).await
            }
            3 => {
                let held = semaphore.try_acquire().await?;
                self.hold(held).await
            }
            // The caller cancels the acquire.
            4 => match timeout(self.millis(0..80), semaphore.acquire()).await {
                Ok(held) => self.hold(held?).await,
                Err(_) => Ok(()),
            },
            5..=7 => match semaphore.enqueue().await? {
                Enqueued::Acquired(held) => self.hold(held).await,
                Enqueued::Queued(queued) => {
                    // Longer than a lease.
                    let time = self.millis(0..3000);
                    self.poll_queued(&queued, time).await;
                    match self.rng.random_range(0..4) {
                        0 => drop(queued),
                        1 => drop(queued.close()),
                        _ => {
                            let held = queued.wait().await?;
                            self.hold(held).await?;
                        }
                    }
                    Ok(())
                }
            },
            // In most cases this is cancelled before it ends.
            _ => match timeout(self.hold_time(), self.run()).await {
                Ok(done) => done,
                Err(_) => Ok(()),
            },
        }
    }

    /// Holds a slot for a while, and then releases, closes or drops it.
    async fn hold(&mut self, held: Semaphore<Held>) -> Result<(), Error> {
        let time = self.hold_time();
        let held = self.monitor.watch(self.key, held);
        if self.rng.random_bool(0.3) {
            let _ = timeout(time, held.renew()).await;
        }
        tokio::select! {
            _ = held.lost() => {}
            () = sleep(time) => {}
        }
        let Some(held) = self.monitor.stop(held) else {
            return Ok(());
        };
        match self.rng.random_range(0..4) {
            0 | 1 => held.release().await.map(drop),
            2 => {
                held.close();
                Ok(())
            }
            _ => {
                drop(held);
                Ok(())
            }
        }
    }

    /// Stays in the queue for `time` without waiting, and polls whether the slot was granted.
    async fn poll_queued(&mut self, queued: &Semaphore<Queued>, time: Duration) {
        let name = format!("queued-{:x}", self.rng.random::<u64>());
        let end = now() + time;
        let mut is_granted = false;
        while now() < end {
            sleep(POLL_INTERVAL).await;
            let before = now();
            let was_granted = std::mem::replace(&mut is_granted, queued.is_granted());
            if is_granted && !was_granted {
                hold_monitor::report(&name, before, EventKind::Held { key: self.key });
            }
            if is_granted {
                hold_monitor::report(&name, before, EventKind::Confirmed { ends: None });
            } else if was_granted {
                return hold_monitor::report(&name, now(), EventKind::Lost);
            }
        }
        if is_granted {
            hold_monitor::report(&name, now(), EventKind::GivenUp);
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        let (key, time) = (self.key, self.hold_time());
        self.semaphore
            .with_slot(async move |held| {
                let _end = EndGuard(held);
                hold_monitor::report_start(key, held);
                let end = now() + time;
                while now() < end {
                    sleep(POLL_INTERVAL).await;
                    hold_monitor::check(held);
                }
            })
            .await
    }

    /// Returns a random duration for the next hold.
    fn hold_time(&mut self) -> Duration {
        let [short, long] = self.holds;
        let is_long = self.rng.random_bool(0.3);
        self.millis(if is_long { short..long } else { 0..short })
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }
}

/// Guard that reports the end of a hold, also if the body is cancelled.
struct EndGuard<'a>(&'a Held);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        hold_monitor::report_end(self.0);
    }
}
