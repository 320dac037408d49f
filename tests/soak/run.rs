//! Course of a soak run.

use std::net::SocketAddr;
use std::time::Duration;

use dflock::Client;
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::{elapsed, now};
use dflock_tests::harness::server::ServerCommand;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fault_target::{ClientTarget, ServerTarget};
use crate::key::KEYS;
use crate::probe::Probe;
use crate::report::Report;
use crate::stall_monitor;
use crate::timeline::SharedTimeline;

/// Duration of faults between two pauses.
const FAULT_PHASE: Duration = Duration::from_secs(7);

/// Duration of a pause without faults, in which leaks become visible.
const CALM_PHASE: Duration = Duration::from_millis(1500);

/// Time in which the server must free the slots of killed clients.
const FREE_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval between two requests for the statistics.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Settings of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) server: ServerCommand,
    /// Read timeout that the clients assume.
    pub(crate) client_read_timeout: Duration,
}

/// Runs the soak. Returns whether it passed.
pub(crate) async fn run(plan: Plan) -> HarnessResult<bool> {
    let timeline = SharedTimeline::default();
    let began = now();
    let mut server = ServerTarget::start(plan.server.clone(), plan.seed, &timeline).await?;
    let mut targets = Vec::new();
    for index in 0..plan.clients {
        let seed = plan.seed.wrapping_add(1000 * index as u64);
        targets.push(
            ClientTarget::start(
                index,
                server.addr(),
                plan.client_read_timeout,
                seed,
                &timeline,
            )
            .await?,
        );
    }
    let mut tasks = JoinSet::new();
    let shared = timeline.clone();
    tasks.spawn(stall_monitor::monitor(move |stall| {
        shared.lock().stalls.push((None, stall));
    }));
    for (key, settings) in KEYS.iter().enumerate() {
        tasks.spawn(
            Probe {
                client: plan.clients + key,
                key,
                settings,
                timeline: timeline.clone(),
            }
            .run(server.addr()),
        );
    }

    let end = began + plan.length.saturating_sub(CALM_PHASE);
    while now() < end {
        let mut pause = now() + FAULT_PHASE;
        // A rest that is too short for another round of faults is added to this one.
        if pause + CALM_PHASE + FAULT_PHASE / 2 > end {
            pause = end;
        }
        let mut faults = JoinSet::new();
        for mut target in targets {
            faults.spawn(async move { target.run_faults(pause).await.map(|()| target) });
        }
        server.run_faults(pause).await?;
        targets = faults
            .join_all()
            .await
            .into_iter()
            .collect::<HarnessResult<Vec<_>>>()?;
        sleep(CALM_PHASE).await;
    }

    let addr = *server.addr().borrow();
    tasks.shutdown().await;
    for target in targets {
        target.end().await?;
    }
    let killed = now();
    let left = count_holders_left(addr).await?;
    let freed = elapsed(killed);
    let mut timeline = timeline.lock();
    let ran_while_stopped = timeline.ran_while_stopped();
    timeline.errors.extend(ran_while_stopped);
    let report = Report::new(&plan, killed.saturating_sub(began), &timeline, left, freed);
    println!("{report}");
    Ok(report.passed())
}

/// Returns the number of slots that the server still lists as held: 0 as soon as none is, otherwise
/// their number when the time is over.
async fn count_holders_left(server: SocketAddr) -> HarnessResult<u64> {
    let client = Client::builder().servers([server.to_string()]).build()?;
    let end = now() + FREE_TIMEOUT;
    loop {
        let mut held = 0;
        for stats in client.stats().await? {
            held += stats
                .semaphores
                .iter()
                .map(|semaphore| semaphore.holders)
                .sum::<u64>();
            // Older servers list a semaphore with a limit of 1 as a lock.
            held += stats
                .locks
                .iter()
                .map(|lock| u64::from(lock.owner_conn_id != 0))
                .sum::<u64>();
        }
        if held == 0 || now() > end {
            return Ok(held);
        }
        sleep(POLL_INTERVAL).await;
    }
}
