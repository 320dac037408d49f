//! Soak of the engine etcd: three members, client processes that reach each member through a proxy,
//! and faults of members and clients.
//!
//! Besides the reports of the clients, the run samples the holders that the cluster lists. A client
//! that considers a slot held must be among them, and older entries must hold before newer ones.

mod client_target;
mod judge;
mod member_target;
pub(crate) mod record;
mod report;

use std::time::Duration;

use dflock::Client;
use dflock_tests::etcd_cluster::EtcdCluster;
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::{elapsed, now};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use self::client_target::ClientGroup;
use self::member_target::Members;
use self::record::{Sample, SharedRecord};
use self::report::Report;
use crate::key::ETCD_KEYS;
use crate::stall_monitor;

/// The end of a run without faults, in which leaks become visible.
const CALM_PHASE: Duration = Duration::from_secs(3);

/// Interval between two samples of the holders.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Time beyond the longest lease in which the slots of killed clients must be free.
const FREE_MARGIN: Duration = Duration::from_secs(5);

/// Settings of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
}

/// Runs the soak. Returns whether it passed. Without etcd it is skipped.
pub(crate) async fn run(plan: Plan) -> HarnessResult<bool> {
    let Some(cluster) = spawn_blocking(EtcdCluster::start).await? else {
        println!("soak on etcd: SKIPPED, there is no etcd");
        return Ok(true);
    };
    let addresses = cluster.addresses();
    let members = Members::new(cluster, plan.seed);
    let record = SharedRecord::default();
    let servers = addresses.iter().map(|address| format!("etcd://{address}"));
    let observer = Client::builder().servers(servers).build()?;
    let groups = ClientGroup::start_all(plan.clients, &addresses, plan.seed, &record).await?;
    let began = now();

    let mut tasks = JoinSet::new();
    let shared = record.clone();
    tasks.spawn(stall_monitor::monitor(move |stall| {
        shared.timeline.lock().stalls.push((None, stall));
    }));
    for key in 0..ETCD_KEYS.len() {
        tasks.spawn(sample_holders(observer.clone(), key, record.clone()));
    }

    let end = began + plan.length.saturating_sub(CALM_PHASE);
    let mut faults = JoinSet::new();
    for group in groups {
        faults.spawn(group.run_faults(end, record.clone()));
    }
    members.run_faults(end, &record).await?;
    let groups = faults.join_all().await;
    sleep((began + plan.length).saturating_sub(now())).await;

    tasks.shutdown().await;
    for group in groups {
        group?.end().await?;
    }
    let killed = now();
    let left = count_entries_left(&observer).await?;
    let freed = elapsed(killed);
    let mut record = record.into_record();
    let ran_while_stopped = record.timeline.ran_while_stopped();
    record.timeline.errors.extend(ran_while_stopped);
    let report = Report::new(&plan, killed.saturating_sub(began), &record, left, freed);
    println!("{report}");
    Ok(report.passed())
}

/// Records the holders of a key that the cluster lists.
async fn sample_holders(observer: Client, key: usize, record: SharedRecord) {
    loop {
        let from = now();
        // The list is read at one revision, between the request and the response.
        if let Ok(holders) = observer.holders(ETCD_KEYS[key].name).await {
            record.add_sample(Sample {
                key,
                from,
                to: now(),
                holders: holders
                    .into_iter()
                    .map(|holder| (holder.token.as_str().to_owned(), holder.pid))
                    .collect(),
            });
        }
        sleep(SAMPLE_INTERVAL).await;
    }
}

/// Returns the number of holders and waiters in the cluster: 0 as soon as there is none, otherwise
/// their number when the time is over.
async fn count_entries_left(observer: &Client) -> HarnessResult<u64> {
    let longest = ETCD_KEYS.iter().map(|key| key.lease).max().unwrap_or(0);
    let end = now() + Duration::from_secs(longest) + FREE_MARGIN;
    loop {
        let stats = observer.stats().await?;
        let semaphores = stats.iter().flat_map(|stats| &stats.semaphores);
        let left = semaphores
            .map(|semaphore| semaphore.holders + semaphore.waiters)
            .sum();
        if left == 0 || now() > end {
            return Ok(left);
        }
        sleep(SAMPLE_INTERVAL).await;
    }
}
