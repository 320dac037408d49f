//! Members that die, stop and start again, and networks that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dflock::{BoxStream, Client, Clock, ConnectFuture, Connector, Enqueued, LostReason};
use dflock_tests::etcd_cluster::{own_cluster, shared_cluster};
use dflock_tests::harness::clock;
use dflock_tests::harness::proxy::{Disconnect, Proxy, Shaping};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{LONG, SECOND, client, semaphore};

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_any_member_loses_no_live_holder_and_no_position() {
    let Some(mut cluster) = own_cluster() else {
        return;
    };
    let clients = [client(&cluster), client(&cluster), client(&cluster)];
    let mut held = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let key = format!("death-{number}");
        let pool = semaphore(client, &key, 1, SECOND * 10);
        let holder = pool.clone().acquire().await.unwrap();
        let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
            panic!("the slot was free");
        };
        held.push((holder, queued));
    }
    for round in 0..2 {
        let victim = if round == 0 {
            cluster.wait_for_leader().unwrap()
        } else {
            cluster.follower()
        };
        cluster.kill(victim);
        let killed = Instant::now();
        cluster.wait_for_leader().unwrap();
        tokio::time::sleep(SECOND * 6).await;
        for (holder, queued) in &held {
            holder.check().unwrap();
            holder.renew().await.unwrap();
            assert_eq!(queued.position().await.unwrap(), 1);
        }
        eprintln!("member {victim} died {:?} ago", killed.elapsed());
        cluster.restart(victim);
        cluster.wait_for_leader().unwrap();
    }
    for (holder, queued) in held {
        let fence = holder.fence();
        holder.release().await.unwrap();
        assert!(queued.wait().await.unwrap().fence() > fence);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_costs_an_election() {
    let Some(cluster) = own_cluster() else {
        return;
    };
    // Clients start at different members, so that one of them uses the leader.
    let clients: Vec<_> = (0..6).map(|_| client(&cluster)).collect();
    let mut held = Vec::new();
    for client in &clients {
        // Longer than the leader is stopped: before 3.5.13 one that continues revokes the leases
        // that would have expired meanwhile without a renewal (etcd#15247).
        let pool = semaphore(client, "stop", 6, SECOND * 120);
        held.push(pool.acquire().await.unwrap());
    }
    let leader = cluster.wait_for_leader().unwrap();
    cluster.stop(leader);
    let stopped = Instant::now();
    let mut others = JoinSet::new();
    for client in &clients {
        let other = semaphore(client, "other", 6, SECOND * 120);
        others.spawn(async move { other.acquire().await?.release().await });
    }
    for other in others.join_all().await {
        other.unwrap();
    }
    eprintln!(
        "acquired {:?} after the stop of the leader",
        stopped.elapsed()
    );
    tokio::time::sleep(SECOND * 10).await;
    for held in &held {
        held.check().unwrap();
    }
    cluster.resume(leader);
    tokio::time::sleep(SECOND * 3).await;
    for held in held {
        held.renew().await.unwrap();
        held.release().await.unwrap();
    }
}

/// Returns a client whose only member is behind a proxy.
async fn behind_proxy(member: String) -> (Client, Proxy, watch::Sender<std::net::SocketAddr>) {
    let server = watch::Sender::new(member.parse().unwrap());
    let proxy = Proxy::start(server.subscribe()).await.unwrap();
    let client = Client::builder()
        .servers([format!("etcd://{}", proxy.addr())])
        .build()
        .unwrap();
    (client, proxy, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_loses_by_its_own_clock_before_another_holds() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (cut, proxy, _server) = behind_proxy(cluster.addresses()[0].clone()).await;
    let held = semaphore(&cut, "cut", 1, SECOND * 2)
        .acquire()
        .await
        .unwrap();
    let next = client(cluster);
    let next = tokio::spawn(semaphore(&next, "cut", 1, SECOND * 2).acquire());
    proxy.shape(Shaping::Stalled, Shaping::Stalled);
    let cut_at = Instant::now();
    let next = next.await.unwrap().unwrap();
    assert!(held.is_lost());
    let reason = held.check().unwrap_err().reason;
    assert!(
        matches!(reason, LostReason::Expired | LostReason::Unreachable),
        "{reason:?}"
    );
    eprintln!("the next holds {:?} after the cut", cut_at.elapsed());
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_costs_no_slot_and_no_position() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (client, proxy, _server) = behind_proxy(cluster.addresses()[0].clone()).await;
    let pool = semaphore(&client, "ended", 1, SECOND * 4);
    let held = pool.clone().acquire().await.unwrap();
    let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
        panic!("the slot was free");
    };
    for kind in [Disconnect::Closed, Disconnect::Reset, Disconnect::HalfOpen] {
        proxy.disconnect(kind);
        tokio::time::sleep(SECOND * 2).await;
        held.check().unwrap();
        assert_eq!(queued.position().await.unwrap(), 1);
    }
    held.release().await.unwrap();
    queued.wait().await.unwrap().release().await.unwrap();
}

// The program may exit after the close, so the slots that were dropped are free then.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_waits_for_the_release_of_a_drop() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (closing, proxy, _server) = behind_proxy(cluster.addresses()[2].clone()).await;
    let pool = semaphore(&closing, "dropped", 1, SECOND * 60);
    let held = pool.acquire().await.unwrap();
    proxy.shape(Shaping::Stalled, Shaping::Immediate);
    drop(held);
    assert!(timeout(SECOND / 2, closing.close()).await.is_err());
    proxy.heal();
    timeout(LONG, closing.close()).await.unwrap();
    let holders = client(cluster).holders("dropped").await.unwrap();
    assert!(holders.is_empty(), "{holders:?}");
}

// A retry whose first answer was lost must neither lose its place nor make a second entry.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_answer_is_lost_is_one_entry() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (client, proxy, _server) = behind_proxy(cluster.addresses()[1].clone()).await;
    let operator = super::client(cluster);
    let pool = semaphore(&client, "answer", 2, SECOND * 10);
    pool.clone()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    // The request is forwarded, and the answer is not.
    proxy.shape(Shaping::Immediate, Shaping::Stalled);
    let acquire = tokio::spawn(pool.clone().acquire());
    let end = Instant::now() + SECOND * 5;
    while operator.holders("answer").await.unwrap().is_empty() {
        assert!(Instant::now() < end, "the entry was not made");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Not at the same time: the answer would be forwarded before the connection ends.
    proxy.disconnect(Disconnect::Reset);
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.heal();
    let held = acquire.await.unwrap().unwrap();
    let holders = operator.holders("answer").await.unwrap();
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0].token, *held.token());
    held.release().await.unwrap();
    assert!(operator.holders("answer").await.unwrap().is_empty());
}

// A watch whose revision was compacted is cancelled, and its events are lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_during_a_wait_loses_no_grant() {
    let Some(cluster) = own_cluster() else {
        return;
    };
    let (waiting, proxy, server) = behind_proxy(cluster.addresses()[0].clone()).await;
    let holding = client(&cluster);
    let held = semaphore(&holding, "compacted", 1, SECOND * 10)
        .acquire()
        .await
        .unwrap();
    let pool = semaphore(&waiting, "compacted", 1, SECOND * 30);
    let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
        panic!("the slot was free");
    };
    // The client that waits is cut off while the slot is released and the revisions compacted.
    let member = server.send_replace("127.0.0.1:1".parse().unwrap());
    proxy.disconnect(Disconnect::Reset);
    held.release().await.unwrap();
    let other = semaphore(&holding, "other", 1, SECOND * 10)
        .acquire()
        .await
        .unwrap();
    let revision = other.fence().unwrap();
    let compaction = format!(r#"{{"revision":"{revision}","physical":true}}"#);
    let response = cluster.post(0, "/v3/kv/compaction", &compaction);
    assert!(response.contains(" 200 "), "{response}");
    server.send_replace(member);
    queued.wait().await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_space_keeps_what_is_held() {
    let Some(cluster) = own_cluster() else {
        return;
    };
    let client = client(&cluster);
    // Longer than a cluster on a machine under load may be without a leader.
    let pool = semaphore(&client, "space", 2, SECOND * 30);
    let held = pool.clone().acquire().await.unwrap();
    let alarm = |action: &str| {
        let body = format!(r#"{{"action":"{action}","memberID":"0","alarm":"NOSPACE"}}"#);
        let response = cluster.post(0, "/v3/maintenance/alarm", &body);
        assert!(response.contains(" 200 "), "{response}");
    };
    alarm("ACTIVATE");
    let error = pool.clone().acquire().await.unwrap_err();
    assert!(matches!(error, dflock::Error::NoSpace { .. }), "{error:?}");
    // Each is confirmed by the cluster.
    for _ in 0..3 {
        held.renew().await.unwrap();
    }
    held.check().unwrap();
    held.release().await.unwrap();
    alarm("DEACTIVATE");
    pool.acquire().await.unwrap().release().await.unwrap();
}

/// A network whose clock jumps, as that of a machine that is suspended does.
struct JumpingClock(Arc<AtomicU64>);

impl Connector for JumpingClock {
    fn connect<'a>(&'a self, address: &'a str) -> ConnectFuture<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        let jumped = self.0.clone();
        Clock::Custom(Arc::new(move || {
            clock::now() + Duration::from_secs(jumped.load(Ordering::SeqCst))
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_loses_what_is_held_and_the_client_holds_again() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let jumped = Arc::<AtomicU64>::default();
    let jumping = super::builder(cluster)
        .connector(JumpingClock(jumped.clone()))
        .build()
        .unwrap();
    let pool = semaphore(&jumping, "jump", 1, SECOND * 10);
    let held = pool.clone().acquire().await.unwrap();
    let Enqueued::Queued(queued) = pool.clone().enqueue().await.unwrap() else {
        panic!("the slot was free");
    };
    jumped.store(3600, Ordering::SeqCst);
    // At once, and without the executor.
    assert_eq!(held.check().unwrap_err().reason, LostReason::Expired);
    assert_eq!(held.remaining(), Duration::ZERO);
    // The lease lives on in the cluster. The slot of the place in the queue is held once the client
    // has renewed it, and the lost one is given up.
    let next = queued.wait_within(SECOND * 30).await.unwrap();
    next.check().unwrap();
    assert!(next.remaining() > SECOND * 5);
    let holders = client(cluster).holders("jump").await.unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].token, *next.token());
    next.release().await.unwrap();
}
