//! Members that are cut off from the others, or leave the cluster.

use std::time::Instant;

use dflock::{Client, Enqueued, LostReason};
use dflock_tests::etcd_cluster::{ClusterOptions, EtcdCluster, own_cluster};
use tokio::time::sleep;

use super::peer_network::{Member, PeerNetwork};
use super::{LONG, SECOND, client, semaphore};

/// Returns the id of a member in decimal digits.
fn member_id(cluster: &EtcdCluster, index: usize) -> u64 {
    let status = cluster.post(index, "/v3/maintenance/status", "{}");
    let (_, rest) = status.split_once("\"member_id\":\"").unwrap();
    let (id, _) = rest.split_once('"').unwrap();
    id.parse().unwrap()
}

/// Returns a client of one member only.
fn client_of(cluster: &EtcdCluster, member: usize) -> Client {
    let servers = [format!("etcd://{}", cluster.addresses()[member])];
    Client::builder().servers(servers).build().unwrap()
}

// The leader of the past answers its clients, and does not know that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_between_the_members_loses_only_the_clients_of_the_minority() {
    let network = PeerNetwork::start(3).await.unwrap();
    let options = ClusterOptions {
        peers: network.peers(),
        ..ClusterOptions::default()
    };
    let Some(cluster) = EtcdCluster::start_with(3, &options) else {
        return;
    };
    let leader = cluster.wait_for_leader().unwrap();
    let (minority, majority) = (client_of(&cluster, leader), client(&cluster));
    // Clients start at different members, so that one of them uses the leader.
    let clients: Vec<_> = (0..6).map(|_| client(&cluster)).collect();
    let pool = semaphore(&minority, "partition", 1, SECOND * 4);
    let cut = pool.acquire().await.unwrap();
    let mut kept = Vec::new();
    for client in &clients {
        // Longer than the partition: see `a_stopped_leader_costs_an_election`.
        let pool = semaphore(client, "kept", 6, SECOND * 120);
        kept.push(pool.acquire().await.unwrap());
    }
    let next = semaphore(&majority, "partition", 1, SECOND * 120);
    let Enqueued::Queued(next) = next.enqueue().await.unwrap() else {
        panic!("the slot was free");
    };
    let id = member_id(&cluster, leader);
    network.isolate(Member {
        index: leader,
        id: format!("{id:x}"),
    });
    let next = next.wait_within(LONG).await.unwrap();
    let lost = cut.check().unwrap_err();
    assert!(
        matches!(lost.reason, LostReason::Expired | LostReason::Unreachable),
        "{lost:?}"
    );
    assert!(next.fence() > cut.fence());
    for held in &kept {
        held.renew().await.unwrap();
    }
    // A write on the minority's side is not possible.
    let error = semaphore(&minority, "other", 1, SECOND * 4)
        .acquire_within(SECOND)
        .await
        .unwrap_err();
    assert!(!error.is_lost(), "{error:?}");
    network.heal();
    // The member needs some time to follow the new leader, and an acquire that has no place in the
    // queue yet is not repeated.
    let end = Instant::now() + LONG;
    let again = loop {
        let again = semaphore(&minority, "other", 1, SECOND * 4).acquire();
        match again.await {
            Ok(again) => break again,
            Err(error) => assert!(error.is_retryable() && Instant::now() < end, "{error:?}"),
        }
    };
    again.release().await.unwrap();
    next.check().unwrap();
    next.release().await.unwrap();
    for held in kept {
        held.renew().await.unwrap();
        held.release().await.unwrap();
    }
    assert!(cut.is_lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_removed_costs_no_slot_and_no_position() {
    let Some(cluster) = own_cluster() else {
        return;
    };
    let removed = cluster.follower();
    let id = member_id(&cluster, removed);
    // Clients start at different members.
    let clients: Vec<_> = (0..6).map(|_| client(&cluster)).collect();
    let mut held = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let pool = semaphore(client, &format!("removed-{number}"), 1, SECOND * 10);
        let holder = pool.clone().acquire().await.unwrap();
        let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
            panic!("the slot was free");
        };
        held.push((holder, queued));
    }
    let request = format!(r#"{{"ID":"{id}"}}"#);
    let end = Instant::now() + LONG;
    loop {
        let leader = cluster.wait_for_leader().unwrap();
        let response = cluster.post(leader, "/v3/cluster/member/remove", &request);
        if response.contains(" 200 ") {
            break;
        }
        // A new cluster counts as unhealthy until its members were connected for 5 s.
        assert!(Instant::now() < end, "{response}");
        sleep(SECOND / 4).await;
    }
    sleep(SECOND * 8).await;
    for (holder, queued) in held {
        holder.renew().await.unwrap();
        assert_eq!(queued.position().await.unwrap(), 1);
        holder.release().await.unwrap();
        queued
            .wait_within(LONG)
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    // The list of a client may name a member that is gone.
    for _ in 0..6 {
        let held = client(&cluster)
            .lock("gone")
            .unwrap()
            .acquire()
            .await
            .unwrap();
        held.release().await.unwrap();
    }
}
