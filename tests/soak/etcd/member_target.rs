//! Faults of the members of the cluster. At most one member is affected at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dflock_tests::etcd_cluster::EtcdCluster;
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::now;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::record::SharedRecord;
use crate::fault::{Fault, FaultKind};

/// Interval between the starts of two faults.
const FAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Durations of a fault, in milliseconds: shorter than an election, and longer.
///
/// The longest is shorter than two thirds of any lease. A leader before etcd 3.5.13 that was stopped
/// for longer revokes leases that are still renewed (etcd#15247).
const LENGTHS: [std::ops::Range<u64>; 2] = [100..900, 1500..4000];

/// The faults that cause an election. Each round of faults has one of them.
///
/// An election gives each lease its full time again. With one each few seconds, the leases of killed
/// clients would never end, and no other client would hold a slot.
const LEADER_FAULTS: [FaultKind; 3] = [
    FaultKind::LeaderKilled,
    FaultKind::LeaderStopped,
    FaultKind::LeaderTerminated,
];

/// The other faults of a round.
const FOLLOWER_FAULTS: [FaultKind; 4] = [
    FaultKind::FollowerKilled,
    FaultKind::FollowerStopped,
    FaultKind::FollowerKilled,
    FaultKind::FollowerStopped,
];

/// The members, whose functions block and therefore run on other threads than the proxies.
pub(crate) struct Members {
    cluster: Arc<Mutex<EtcdCluster>>,
    seed: u64,
}

impl Members {
    pub(crate) fn new(cluster: EtcdCluster, seed: u64) -> Self {
        Self {
            cluster: Arc::new(Mutex::new(cluster)),
            seed,
        }
    }

    /// Applies one fault after the other until `end`.
    pub(crate) async fn run_faults(
        &self,
        end: Duration,
        record: &SharedRecord,
    ) -> HarnessResult<()> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let (mut round, mut leader_faults) = (Vec::new(), Vec::new());
        loop {
            if leader_faults.is_empty() {
                leader_faults = LEADER_FAULTS.to_vec();
                leader_faults.shuffle(&mut rng);
            }
            if round.is_empty() {
                round = FOLLOWER_FAULTS.to_vec();
                round.extend(leader_faults.pop());
                round.shuffle(&mut rng);
            }
            let Some(kind) = round.pop() else {
                continue;
            };
            let next = now() + FAULT_INTERVAL;
            let range = LENGTHS[rng.random_range(0..LENGTHS.len())].clone();
            let length = Duration::from_millis(rng.random_range(range));
            if now() + length > end {
                return Ok(());
            }
            let from = now();
            self.apply(kind, length).await?;
            record.timeline.lock().faults.push(Fault {
                kind,
                client: None,
                from,
                to: now(),
            });
            sleep(next.saturating_sub(now())).await;
        }
    }

    async fn apply(&self, kind: FaultKind, length: Duration) -> HarnessResult<()> {
        let on_leader = LEADER_FAULTS.contains(&kind);
        let member = self
            .run(move |cluster| {
                if on_leader {
                    cluster.wait_for_leader()
                } else {
                    Ok(cluster.follower())
                }
            })
            .await??;
        match kind {
            FaultKind::LeaderStopped | FaultKind::FollowerStopped => {
                self.run(move |cluster| cluster.stop(member)).await?;
                sleep(length).await;
                self.run(move |cluster| cluster.resume(member)).await
            }
            FaultKind::LeaderTerminated => {
                self.run(move |cluster| cluster.terminate(member)).await?;
                sleep(length).await;
                self.run(move |cluster| cluster.restart(member)).await
            }
            _ => {
                self.run(move |cluster| cluster.kill(member)).await?;
                sleep(length).await;
                self.run(move |cluster| cluster.restart(member)).await
            }
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut EtcdCluster) -> T + Send + 'static,
    ) -> HarnessResult<T> {
        let cluster = self.cluster.clone();
        let run = move || request(&mut cluster.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(spawn_blocking(run).await?)
    }
}
