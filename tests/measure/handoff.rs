//! Measurement of the time between the end of one hold and the start of the next.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use dflock::{Client, Enqueued, Semaphore};
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::now;
use dflock_tests::harness::program::{Program, end_with_parent};
use dflock_tests::harness::server::{ServerCommand, ServerProcess};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::sleep;

use crate::Row;

/// Time after which a request is certain to be in the queue.
const ENQUEUE_TIME: Duration = Duration::from_millis(2);

/// Divisor for the number of hand-offs that kill a process, because processes are expensive.
const KILL_DIVISOR: usize = 10;

/// Arguments of a process that holds a slot until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Holder {
    #[arg(long)]
    server: String,
}

impl Holder {
    pub(crate) fn run(self) -> HarnessResult<Infallible> {
        end_with_parent()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let held = Client::builder()
                .servers([self.server])
                .build()?
                .semaphore("pool", 1)?
                .acquire()
                .await?;
            println!("held");
            Err(held.lost().await.into())
        })
    }
}

/// Ways in which a hold ends.
#[derive(Clone, Copy)]
enum ReleaseKind {
    Release,
    Drop,
    DropToQueued,
    Abort,
    Kill,
}

const RELEASE_KINDS: [(ReleaseKind, &str, &str); 5] = [
    (
        ReleaseKind::Release,
        "hand-off after `release`",
        "raw protocol: 0.19 ms median",
    ),
    (
        ReleaseKind::Drop,
        "hand-off after drop",
        "raw protocol, closing the socket: 0.23 ms median",
    ),
    (
        ReleaseKind::DropToQueued,
        "hand-off after drop, to a two-phase waiter (the grant is confirmed)",
        "not measured",
    ),
    (
        ReleaseKind::Abort,
        "hand-off after the abort of the holding task",
        "not measured",
    ),
    (
        ReleaseKind::Kill,
        "hand-off after `kill -9` of the holder",
        "raw protocol: 1.5 ms median",
    ),
];

pub(crate) async fn table(servers: &[ServerCommand], times: usize) -> HarnessResult<Vec<Row>> {
    let mut table = Vec::new();
    for (end, what, others) in RELEASE_KINDS {
        let mut ours = Vec::new();
        for server in servers {
            let server = server.start().await?;
            let times = if let ReleaseKind::Kill = end {
                times / KILL_DIVISOR
            } else {
                times
            };
            let mut took = Vec::with_capacity(times);
            for _ in 0..times {
                took.push(hand_off(end, &server).await?);
            }
            ours.push(summary(took));
        }
        table.push(Row { what, others, ours });
    }
    Ok(table)
}

/// Measures the time from the end of one hold to the start of the next.
async fn hand_off(end: ReleaseKind, server: &ServerProcess) -> HarnessResult<Duration> {
    let next = semaphore(server.addr())?;
    if let ReleaseKind::Kill = end {
        let (program, pipes) = Program::start(["hold", "--server", &server.addr().to_string()])?;
        BufReader::new(pipes.stdout).lines().next_line().await?;
        let next = tokio::spawn(wait(next));
        sleep(ENQUEUE_TIME).await;
        let began = now();
        let killed = program.kill();
        let (took, killed) = tokio::join!(next, killed);
        killed?;
        return Ok(took??.saturating_sub(began));
    }
    let held = semaphore(server.addr())?.acquire().await?;
    let next = match end {
        ReleaseKind::DropToQueued => match next.enqueue().await? {
            Enqueued::Queued(queued) => {
                tokio::spawn(async { queued.wait().await.map(|_held| now()) })
            }
            Enqueued::Acquired(_) => return Err("the slot is already held".into()),
        },
        _ => tokio::spawn(wait(next)),
    };
    sleep(ENQUEUE_TIME).await;
    let began = match end {
        ReleaseKind::Release => {
            let began = now();
            held.release().await?;
            began
        }
        ReleaseKind::Abort => {
            let holding = tokio::spawn(async move { held.lost().await });
            sleep(ENQUEUE_TIME).await;
            let began = now();
            holding.abort();
            began
        }
        ReleaseKind::Drop | ReleaseKind::DropToQueued | ReleaseKind::Kill => {
            let began = now();
            drop(held);
            began
        }
    };
    Ok(next.await??.saturating_sub(began))
}

/// Waits for the slot. Returns the time of the grant.
async fn wait(semaphore: Semaphore) -> Result<Duration, dflock::Error> {
    let _held = semaphore.acquire().await?;
    Ok(now())
}

fn semaphore(server: SocketAddr) -> HarnessResult<Semaphore> {
    Ok(Client::builder()
        .servers([server.to_string()])
        .build()?
        .semaphore("pool", 1)?)
}

pub(crate) fn summary(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |part: usize| {
        took.get(took.len() * part / 100)
            .map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
    };
    format!(
        "p50 {:.2} ms, p99 {:.2} ms ({} times)",
        at(50),
        at(99),
        took.len()
    )
}
