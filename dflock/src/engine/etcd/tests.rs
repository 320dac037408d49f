//! Tests of the session on a real cluster.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::entry::{End, EntryHandle, EntrySpec, Held, Phase, Wait};
use super::session::{Config, Session};
use crate::engine::dflockd::Tcp;
use crate::etcd_cluster::{EtcdCluster, own_cluster, shared_cluster};
use crate::wire::Kind;

const SECOND: Duration = Duration::from_secs(1);

/// The time in which anything must happen on a slow machine.
const LONG: Duration = Duration::from_secs(60);

/// Returns a session on these members.
fn session_on(members: &[String], prefix: &str) -> Session {
    Session::start(Config {
        members: members.iter().map(|member| member.as_str().into()).collect(),
        prefix: prefix.to_owned(),
        connector: Arc::new(Tcp::new(SECOND * 8, SECOND * 10, SECOND * 5)),
        user: None,
        request_timeout: SECOND * 5,
        clock_drift: 0.01,
    })
    .unwrap()
}

fn session(cluster: &EtcdCluster) -> Session {
    session_on(&cluster.addresses(), "dflock/")
}

fn spec(key: &str, limit: u32) -> EntrySpec {
    EntrySpec {
        kind: Kind::Semaphore,
        key: key.into(),
        limit,
        permits: 1,
        ttl: SECOND * 10,
        wait: Wait::Forever,
    }
}

fn spec_within(key: &str, limit: u32, wait: Wait) -> EntrySpec {
    EntrySpec {
        wait,
        ..spec(key, limit)
    }
}

async fn phase<T>(entry: &EntryHandle, mut check: impl FnMut(&Phase) -> Option<T>) -> T {
    let reached = poll_fn(|cx| entry.poll_phase(cx, &mut check));
    match timeout(LONG, reached).await {
        Ok(value) => value,
        Err(_) => panic!("still {:?}", entry.phase()),
    }
}

async fn held(entry: &EntryHandle) -> Held {
    phase(entry, |phase| match phase {
        Phase::Held(held) => Some(held.clone()),
        Phase::Ended(end) => panic!("ended: {end:?}"),
        _ => None,
    })
    .await
}

async fn queued(entry: &EntryHandle) -> u64 {
    phase(entry, |phase| match phase {
        Phase::Queued { position } => Some(*position),
        Phase::Joining => None,
        other => panic!("{other:?}"),
    })
    .await
}

async fn position(entry: &EntryHandle, position: u64) {
    phase(entry, |phase| match phase {
        Phase::Queued { position: now } => (*now == position).then_some(()),
        Phase::Joining => None,
        other => panic!("{other:?}"),
    })
    .await;
}

async fn ended(entry: &EntryHandle) -> End {
    phase(entry, |phase| match phase {
        Phase::Ended(end) => Some(end.clone()),
        _ => None,
    })
    .await
}

async fn release(entry: EntryHandle) {
    entry.give_up();
    let end = ended(&entry).await;
    assert!(matches!(end, End::Released), "{end:?}");
}

#[tokio::test]
async fn a_free_slot_is_held_and_released() {
    let Some(cluster) = shared_cluster() else { return };
    let session = session(cluster);
    let started = Instant::now();
    let entry = session.join(spec("free", 2));
    let first = held(&entry).await;
    eprintln!("first acquire {:?}", started.elapsed());
    for _ in 0..5 {
        let started = Instant::now();
        let other = session.join(spec("free", 2));
        let second = held(&other).await;
        assert!(second.token.fence() > first.token.fence());
        let acquired = started.elapsed();
        release(other).await;
        eprintln!("acquire {acquired:?}, both {:?}", started.elapsed());
    }
    release(entry).await;
}

#[tokio::test]
async fn waiters_hold_in_the_order_of_their_create_revisions() {
    let Some(cluster) = shared_cluster() else { return };
    let (session, other) = (session(cluster), session(cluster));
    let holder = session.join(spec("order", 1));
    let mut last = held(&holder).await.token.fence();
    let mut waiters = Vec::new();
    for position in 1..=6 {
        let waiter = [&session, &other][position % 2].join(spec("order", 1));
        assert_eq!(queued(&waiter).await, position as u64);
        waiters.push(waiter);
    }
    let mut holder = holder;
    while !waiters.is_empty() {
        let started = Instant::now();
        drop(holder);
        holder = waiters.remove(0);
        let fence = held(&holder).await.token.fence();
        eprintln!("hand-off {:?}", started.elapsed());
        assert!(fence > last);
        last = fence;
        for (ahead, waiter) in waiters.iter().enumerate() {
            position(waiter, ahead as u64 + 1).await;
        }
    }
}
