//! Faults of the members of the cluster. At most one member is affected at a time: the next fault
//! waits until the member has joined again.

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
use crate::interval::Interval;

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

/// The number of leaders that each member had seen at a time.
#[derive(Default)]
struct Leaders {
    seen: [Option<u64>; 3],
    at: Duration,
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
        let mut leaders = Leaders::default();
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
            self.find_elections(None, &mut leaders, record).await?;
            let from = now();
            let member = self.apply(kind, length).await?;
            record.timeline.lock().faults.push(Fault {
                kind,
                client: None,
                from,
                to: now(),
            });
            self.run(move |cluster| cluster.wait_until_joined(member))
                .await??;
            self.find_elections(Some(member), &mut leaders, record)
                .await?;
            sleep(next.saturating_sub(now())).await;
        }
    }

    /// Records an election if a member has seen another leader since the last call, except the
    /// member that was affected by a fault since then.
    async fn find_elections(
        &self,
        affected: Option<usize>,
        last: &mut Leaders,
        record: &SharedRecord,
    ) -> HarnessResult<()> {
        let seen = self
            .run(|cluster| [0, 1, 2].map(|member| cluster.leaders_seen(member)))
            .await?;
        let at = now();
        let has_changed = (0..seen.len()).any(|member| {
            Some(member) != affected
                && matches!((last.seen[member], seen[member]), (Some(old), Some(new)) if old < new)
        });
        if has_changed {
            record.add_election(Interval {
                from: last.at,
                to: at,
            });
        }
        *last = Leaders { seen, at };
        Ok(())
    }

    /// Applies a fault to a member, and returns the member.
    async fn apply(&self, kind: FaultKind, length: Duration) -> HarnessResult<usize> {
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
                self.run(move |cluster| cluster.resume(member)).await?;
            }
            FaultKind::LeaderTerminated => {
                self.run(move |cluster| cluster.terminate(member)).await?;
                sleep(length).await;
                self.run(move |cluster| cluster.restart(member)).await?;
            }
            _ => {
                self.run(move |cluster| cluster.kill(member)).await?;
                sleep(length).await;
                self.run(move |cluster| cluster.restart(member)).await?;
            }
        }
        Ok(member)
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
