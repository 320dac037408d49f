//! Measurement of what happens to slots under faults.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use dflock::{Client, Enqueued, Held, Semaphore};
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::{elapsed, now};
use dflock_tests::harness::proxy::{Proxy, Shaping};
use dflock_tests::harness::raw_client::RawClient;
use dflock_tests::harness::server::ServerCommand;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Row;

const SECOND: Duration = Duration::from_secs(1);

/// Read timeout for the partition, in seconds.
const SHORT_READ_TIMEOUT: u32 = 3;

type Measured = Pin<Box<dyn Future<Output = HarnessResult<String>> + Send>>;

/// A fault, and the results of the other clients.
struct Case {
    what: &'static str,
    others: &'static str,
    measure: fn(ServerCommand) -> Measured,
}

const CASES: [Case; 6] = [
    Case {
        what: "lease of 60 s, held for 40 s; server read timeout of 23 s",
        others: "Go, Python, TypeScript: the next client holds after 23.0 s; \
                 they notice the loss 7 s later",
        measure: |server| Box::pin(hold_for(server, 60, 40)),
    },
    Case {
        what: "lease of 1 s, held for 10 s",
        others: "Python, Go: lost; they never renew more often than once a second",
        measure: |server| Box::pin(hold_for(server, 1, 10)),
    },
    Case {
        what: "lease of 60 s, network partition; server read timeout of 3 s",
        others: "the next client holds after 3.00 s; the lease alone does not sender a client",
        measure: |server| Box::pin(partition(server)),
    },
    Case {
        what: "lease of 4 s, frozen server",
        others: "Python: noticed after 6.9 s; TypeScript, Go: never (40 s)",
        measure: |server| Box::pin(frozen_server(server)),
    },
    Case {
        what: "two-phase grant with a lease of 1 s, collected after 2 s (expired token of `sw`)",
        others: "Go, Python, TypeScript: returned as held, while another client holds",
        measure: |server| Box::pin(expired_token(server)),
    },
    Case {
        what: "two-phase wait, silent for 25 s; server read timeout of 23 s",
        others: "Go, Python, TypeScript: the place in the queue is lost after 23 s",
        measure: |server| Box::pin(silent_wait(server)),
    },
];

/// Measures all cases on each server, side by side.
pub(crate) async fn table(servers: &[ServerCommand]) -> HarnessResult<Vec<Row>> {
    let mut cases = JoinSet::new();
    for (row, case) in CASES.iter().enumerate() {
        for (column, server) in servers.iter().enumerate() {
            let measured = (case.measure)(server.clone());
            cases.spawn(async move { measured.await.map(|ours| (row, column, ours)) });
        }
    }
    let mut table: Vec<_> = CASES
        .iter()
        .map(|case| Row {
            what: case.what,
            others: case.others,
            ours: vec![String::new(); servers.len()],
        })
        .collect();
    for case in cases.join_all().await {
        let (row, column, ours) = case?;
        table[row].ours[column] = ours;
    }
    Ok(table)
}

/// Holds a slot for `time` seconds, while another client waits for it.
async fn hold_for(server: ServerCommand, lease: u32, time: u32) -> HarnessResult<String> {
    let server = server.start().await?;
    let held = semaphore(server.addr(), 23, lease)?.acquire().await?;
    let (began, next) = (now(), enqueue_rival(server.addr()).await?);
    let lost = timeout(SECOND * time, held.lost())
        .await
        .ok()
        .map(|_| elapsed(began));
    let taken = next.borrow().map(|taken| taken.saturating_sub(began));
    Ok(match (lost, taken) {
        (None, None) => format!("held for all {time} s"),
        (lost, taken) => {
            format!("LOST: noticed after {lost:?}, the next client holds after {taken:?}")
        }
    })
}

async fn partition(server: ServerCommand) -> HarnessResult<String> {
    let server = ServerCommand {
        read_timeout: SHORT_READ_TIMEOUT.into(),
        ..server
    }
    .start()
    .await?;
    let proxy = Proxy::start(watch::Sender::new(server.addr()).subscribe()).await?;
    let held = semaphore(proxy.addr(), SHORT_READ_TIMEOUT, 60)?
        .acquire()
        .await?;
    let mut next = enqueue_rival(server.addr()).await?;
    // The remaining time of a hold is longest immediately after a renewal.
    held.renew().await?;
    proxy.shape(Shaping::Stalled, Shaping::Stalled);
    let began = now();
    let lost = time_until_lost(&held, began).await;
    let taken = next
        .wait_for(Option::is_some)
        .await?
        .unwrap_or_default()
        .saturating_sub(began);
    Ok(format!(
        "lost after {lost:.2?}, the next client holds after {taken:.2?}"
    ))
}

async fn frozen_server(server: ServerCommand) -> HarnessResult<String> {
    let mut server = server.start().await?;
    let held = semaphore(server.addr(), 23, 4)?.acquire().await?;
    held.renew().await?;
    let began = now();
    server.stop().await?;
    Ok(format!(
        "lost after {:.2?}",
        time_until_lost(&held, began).await
    ))
}

async fn expired_token(server: ServerCommand) -> HarnessResult<String> {
    let server = server.start().await?;
    let mut first = RawClient::connect(server.addr()).await?;
    let token = first
        .acquire("pool", 0, 1, 30)
        .await?
        .ok_or("a free slot was not granted")?;
    let Enqueued::Queued(queued) = semaphore(server.addr(), 23, 1)?.enqueue().await? else {
        return Err("the slot is already held".into());
    };
    first.request("sr", "pool", &token).await?;
    sleep(SECOND * 2).await;
    let mut other = RawClient::connect(server.addr()).await?;
    let rival = other.acquire("pool", 0, 1, 30).await?;
    let result = queued.wait().await;
    Ok(match (rival, result) {
        (None, Ok(_)) => "held since the grant; no other client held it".to_owned(),
        (Some(_), Err(error)) => format!("refused ({error}); another client holds"),
        (Some(_), Ok(_)) => "returned as held, while another client HOLDS".to_owned(),
        (None, Err(error)) => format!("LOST: {error}"),
    })
}

async fn silent_wait(server: ServerCommand) -> HarnessResult<String> {
    let server = server.start().await?;
    let held = semaphore(server.addr(), 23, 10)?.acquire().await?;
    let Enqueued::Queued(queued) = semaphore(server.addr(), 23, 10)?.enqueue().await? else {
        return Err("the slot is already held".into());
    };
    sleep(SECOND * 25).await;
    drop(held);
    Ok(match queued.wait().await {
        Ok(_) => "the place is kept, and the slot was granted".to_owned(),
        Err(error) => format!("LOST: {error}"),
    })
}

fn semaphore(server: SocketAddr, read_timeout: u32, lease: u32) -> HarnessResult<Semaphore> {
    let read_timeout = SECOND * read_timeout;
    let client = Client::builder()
        .servers([server.to_string()])
        .server_read_timeout(read_timeout)
        .heartbeat(read_timeout / 3)
        .build()?;
    Ok(Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(SECOND * lease)
        .client(client)
        .build()?)
}

/// Enqueues an independent client. The returned channel holds the time of its grant.
async fn enqueue_rival(server: SocketAddr) -> HarnessResult<watch::Receiver<Option<Duration>>> {
    let mut raw = RawClient::connect(server).await?;
    let (sender, taken) = watch::channel(None);
    tokio::spawn(async move {
        if let Ok(Some(_)) = raw.acquire("pool", 1000, 1, 1000).await {
            sender.send_replace(Some(now()));
        }
        sender.closed().await;
    });
    Ok(taken)
}

async fn time_until_lost(held: &Held, began: Duration) -> Duration {
    held.lost().await;
    elapsed(began)
}
