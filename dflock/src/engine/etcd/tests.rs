//! Tests of the session on a real cluster.

mod scripted;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::entry::{End, EntryHandle, EntrySpec, Held, Phase, Wait};
use super::error::CallError;
use super::keys::{EntryId, EntryName};
use super::messages::{DeleteRangeRequest, LeaseRevokeRequest, Request, TxnRequest};
use super::session::Session;
use super::session_state::Config;
use super::txn::{self, Basis, Join, JoinResult};
use crate::engine::dflockd::Tcp;
use crate::etcd_cluster::{EtcdCluster, own_cluster, shared_cluster};
use crate::wire::Kind;

const SECOND: Duration = Duration::from_secs(1);

/// The time in which anything must happen on a slow machine.
const LONG: Duration = Duration::from_mins(1);

/// Returns a session on these members.
fn session_on(members: &[String], prefix: &str) -> Session {
    Session::start(Config {
        members: members
            .iter()
            .map(|member| member.as_str().into())
            .collect(),
        prefix: prefix.to_owned(),
        connector: Arc::new(Tcp::new(SECOND * 8, SECOND * 10, SECOND * 5)),
        tls: None,
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
        Err(elapsed) => panic!("{elapsed}: still {:?}", entry.phase()),
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
    let Some(cluster) = shared_cluster() else {
        return;
    };
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
    let Some(cluster) = shared_cluster() else {
        return;
    };
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

#[tokio::test]
async fn several_permits_are_granted_together_and_in_order() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let session = session(cluster);
    let permits = |permits| {
        session.join(EntrySpec {
            permits,
            ..spec("permits", 5)
        })
    };
    let three = permits(3);
    held(&three).await;
    let four = permits(4);
    assert_eq!(queued(&four).await, 2);
    // Two slots are free, but one permit does not overtake four.
    let one = permits(1);
    assert_eq!(queued(&one).await, 3);
    release(three).await;
    held(&four).await;
    held(&one).await;
    release(four).await;
    release(one).await;
}

#[tokio::test]
async fn a_hundred_permits_fit_into_one_transaction() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let session = session(cluster);
    for permits in [60, 61, 100] {
        let entry = session.join(EntrySpec {
            permits,
            ..spec("hundred", 100)
        });
        held(&entry).await;
        let next = session.join(spec("hundred", 100));
        if permits == 100 {
            assert_eq!(queued(&next).await, 1);
        } else {
            held(&next).await;
        }
        release(entry).await;
        held(&next).await;
        release(next).await;
    }
}

#[tokio::test]
async fn a_key_in_use_has_one_limit_and_an_idle_key_takes_any() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let session = session(cluster);
    for limit in [3, 5, 1] {
        let entry = session.join(spec("limits", limit));
        held(&entry).await;
        for wait in [Wait::Forever, Wait::Never] {
            let other = session.join(spec_within("limits", 9, wait));
            let end = ended(&other).await;
            assert!(
                matches!(end, End::LimitMismatch { theirs } if theirs == limit),
                "{end:?}"
            );
        }
        release(entry).await;
    }
}

// The limit is cached on the lease of the client that joined last.
#[tokio::test]
async fn the_limit_outlives_the_client_that_joined_last() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (first, last) = (session(cluster), session(cluster));
    let holder = first.join(spec("cached", 2));
    held(&holder).await;
    let other = last.join(spec("cached", 2));
    held(&other).await;
    drop((last, other));
    let same = first.join(spec("cached", 2));
    held(&same).await;
    release(same).await;
    for wait in [Wait::Forever, Wait::Never] {
        let end = ended(&first.join(spec_within("cached", 1, wait))).await;
        assert!(
            matches!(end, End::LimitMismatch { theirs: 2 }),
            "{wait:?}: {end:?}"
        );
    }
    release(holder).await;
}

#[tokio::test]
async fn a_try_writes_nothing_when_no_slot_is_free() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let session = session(cluster);
    let holder = session.join(spec_within("try", 1, Wait::Never));
    let token = held(&holder).await.token;
    let end = ended(&session.join(spec_within("try", 1, Wait::Never))).await;
    assert!(matches!(end, End::TimedOut), "{end:?}");
    release(holder).await;
    let next = session.join(spec_within("try", 1, Wait::Never));
    // One revision for the release, one for this entry, and none for the try.
    assert_eq!(held(&next).await.token.fence(), token.fence() + 2);
    release(next).await;
}

#[tokio::test]
async fn a_wait_ends_in_time_and_leaves_the_queue() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let session = session(cluster);
    let holder = session.join(spec("wait", 1));
    held(&holder).await;
    let started = Instant::now();
    let wait = Duration::from_millis(200);
    let end = ended(&session.join(spec_within("wait", 1, Wait::AtMost(wait)))).await;
    assert!(matches!(end, End::TimedOut), "{end:?}");
    assert!(started.elapsed() >= wait);
    let next = session.join(spec("wait", 1));
    position(&next, 1).await;
    release(holder).await;
    held(&next).await;
}

#[test]
fn a_slot_is_freed_without_a_runtime() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (first, second) = (session(cluster), session(cluster));
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let gone = runtime();
    let entry = first.join(spec("gone", 1));
    gone.block_on(held(&entry));
    drop(gone);
    drop(entry);
    let next = second.join(spec("gone", 1));
    runtime().block_on(held(&next));
}

#[tokio::test]
async fn a_session_that_is_dropped_frees_its_slots() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (first, second) = (session(cluster), session(cluster));
    let entry = first.join(spec("dropped", 1));
    held(&entry).await;
    drop(first);
    let end = ended(&entry).await;
    assert!(matches!(end, End::SessionEnded | End::Revoked), "{end:?}");
    held(&second.join(spec("dropped", 1))).await;
}

#[tokio::test]
async fn a_lease_is_renewed_and_the_granted_lease_counts() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let session = session(cluster);
    let entry = session.join(EntrySpec {
        ttl: SECOND,
        ..spec("renewed", 1)
    });
    let lease = held(&entry).await.lease;
    assert_eq!(
        lease.ttl().as_duration(),
        SECOND * 2,
        "the shortest lease of etcd"
    );
    let first = lease.deadline.renewed_at();
    tokio::time::sleep(SECOND * 4).await;
    assert!(lease.deadline.renewed_at().duration_since(first) > SECOND * 2);
    assert!(
        matches!(entry.phase(), Phase::Held(_)),
        "{:?}",
        entry.phase()
    );
    // A renewal that the owner asks for is sent after the request.
    let now = crate::clock::Clock::Boottime.now();
    entry.request_renewal();
    let renewed =
        poll_fn(|cx| entry.poll_phase(cx, |_| (lease.deadline.renewed_at() >= now).then_some(())));
    timeout(Duration::from_millis(300), renewed).await.unwrap();
    release(entry).await;
}

/// Deletes the entries of a key, as an operator does.
async fn delete_entries(session: &Session, key: &'static str) {
    let deleted = session.run(move |state| async move {
        let queue = state.layout.queue(Kind::Semaphore, key);
        let (key, range_end) = queue.range();
        let delete = DeleteRangeRequest { key, range_end };
        let request = TxnRequest {
            success: vec![Request::DeleteRange(delete).into()],
            ..TxnRequest::default()
        };
        state
            .cluster
            .call(&request, state.request_limits())
            .await
            .map(drop)
    });
    deleted.await.unwrap().unwrap();
}

/// Revokes the leases of the entries of a key, as an operator does.
async fn revoke_leases(session: &Session, key: &'static str) {
    let revoked = session.run(move |state| async move {
        let queue = state.layout.queue(Kind::Semaphore, key);
        let request = txn::entries(&queue, i64::MAX);
        let read = state.cluster.call(&request, state.request_limits()).await?;
        let mut entries = read.response.kvs;
        // The last first, so that no entry is granted meanwhile.
        entries.sort_by_key(|entry| -entry.create_revision);
        for entry in entries {
            let request = LeaseRevokeRequest { id: entry.lease };
            match state.cluster.call(&request, state.request_limits()).await {
                // Another entry of the key is on the same lease.
                Err(error) if !error.is_lease_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok::<_, CallError>(())
    });
    revoked.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_entry_that_an_operator_deletes_is_lost() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (holder, operator) = (session(cluster), session(cluster));
    let entry = holder.join(EntrySpec {
        ttl: SECOND * 2,
        ..spec("deleted", 1)
    });
    held(&entry).await;
    delete_entries(&operator, "deleted").await;
    let end = ended(&entry).await;
    assert!(matches!(end, End::Revoked), "{end:?}");
    // A release of what was deleted says so.
    let entry = holder.join(spec("deleted", 1));
    held(&entry).await;
    delete_entries(&operator, "deleted").await;
    entry.give_up();
    let end = ended(&entry).await;
    assert!(matches!(end, End::Revoked), "{end:?}");
}

#[tokio::test]
async fn a_lease_that_an_operator_revokes_is_lost_and_a_wait_joins_again() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (holder, waiting, operator) = (session(cluster), session(cluster), session(cluster));
    let ttl = SECOND * 2;
    let entry = holder.join(EntrySpec {
        ttl,
        ..spec("revoked", 1)
    });
    held(&entry).await;
    let wait = Wait::AtMost(LONG);
    let acquire = waiting.join(EntrySpec {
        ttl,
        ..spec_within("revoked", 1, wait)
    });
    queued(&acquire).await;
    let queue = waiting.join(EntrySpec {
        ttl,
        ..spec("revoked", 1)
    });
    assert_eq!(queued(&queue).await, 2);
    revoke_leases(&operator, "revoked").await;
    let end = ended(&entry).await;
    assert!(matches!(end, End::Revoked), "{end:?}");
    let end = ended(&queue).await;
    assert!(matches!(end, End::Revoked), "{end:?}");
    held(&acquire).await;
    release(acquire).await;
}

#[tokio::test]
async fn the_death_of_the_leader_loses_no_holder_and_no_position() {
    let Some(mut cluster) = own_cluster() else {
        return;
    };
    let (holding, waiting) = (session(&cluster), session(&cluster));
    let holder = holding.join(spec("leader", 1));
    let lease = held(&holder).await.lease;
    let mut waiters = Vec::new();
    for position in 1..=3 {
        waiters.push(waiting.join(spec("leader", 1)));
        assert_eq!(queued(&waiters[position - 1]).await, position as u64);
    }
    let renewed_at = lease.renewed_at();
    let leader = cluster.wait_for_leader().unwrap();
    cluster.kill(leader);
    let started = Instant::now();
    cluster.wait_for_leader().unwrap();
    eprintln!("another leader after {:?}", started.elapsed());
    tokio::time::sleep(SECOND * 8).await;
    assert!(lease.renewed_at() > renewed_at);
    assert!(
        matches!(holder.phase(), Phase::Held(_)),
        "{:?}",
        holder.phase()
    );
    release(holder).await;
    for waiter in waiters {
        held(&waiter).await;
        release(waiter).await;
    }
}

#[tokio::test]
async fn a_stopped_leader_loses_no_holder() {
    let Some(cluster) = own_cluster() else {
        return;
    };
    let leader = cluster.wait_for_leader().unwrap();
    let only_leader = session_on(&cluster.addresses()[leader..=leader], "dflock/");
    let all = session(&cluster);
    let lost = only_leader.join(EntrySpec {
        ttl: SECOND * 4,
        ..spec("minority", 1)
    });
    let lost_lease = held(&lost).await.lease;
    // Longer than the leader is stopped: before 3.5.13 one that continues revokes the leases that
    // would have expired meanwhile without a renewal (etcd#15247).
    let long = |key| EntrySpec {
        ttl: SECOND * 120,
        ..spec(key, 1)
    };
    let holder = all.join(long("stopped"));
    held(&holder).await;
    let next = all.join(long("minority"));
    queued(&next).await;
    cluster.stop(leader);
    let stopped = Instant::now();
    held(&next).await;
    eprintln!("held after {:?}", stopped.elapsed());
    // The client that knows no other member has lost by its own clock before that.
    let now = crate::clock::Clock::Boottime.now();
    assert!(lost_lease.deadline.expires_at(0.01) < now);
    assert!(
        matches!(holder.phase(), Phase::Held(_)),
        "{:?}",
        holder.phase()
    );
    cluster.resume(leader);
    let end = ended(&lost).await;
    assert!(matches!(end, End::Revoked), "{end:?}");
    assert!(
        lost_lease.deadline.expires_at(0.01) < now,
        "a leader of the past does not renew"
    );
    release(holder).await;
    release(next).await;
}

#[tokio::test]
async fn a_dead_member_in_the_list_costs_no_operation() {
    let Some(mut cluster) = own_cluster() else {
        return;
    };
    let follower = cluster.follower();
    cluster.kill(follower);
    // Clients start at different members.
    for _ in 0..6 {
        let session = session(&cluster);
        let entry = session.join(spec("dead", 1));
        held(&entry).await;
        release(entry).await;
    }
}

#[tokio::test]
async fn all_members_may_start_again() {
    let Some(mut cluster) = own_cluster() else {
        return;
    };
    let session = session(&cluster);
    let holder = session.join(EntrySpec {
        ttl: SECOND * 30,
        ..spec("restart", 1)
    });
    let fence = held(&holder).await.token.fence();
    let waiter = session.join(EntrySpec {
        ttl: SECOND * 30,
        ..spec("restart", 1)
    });
    queued(&waiter).await;
    for member in 0..3 {
        cluster.kill(member);
    }
    for member in 0..3 {
        cluster.restart(member);
    }
    cluster.wait_for_leader().unwrap();
    assert!(
        matches!(holder.phase(), Phase::Held(_)),
        "{:?}",
        holder.phase()
    );
    release(holder).await;
    assert!(held(&waiter).await.token.fence() > fence);
    release(waiter).await;
}

// A retry whose first answer was lost must neither move the entry nor make another one.
#[tokio::test]
async fn a_join_that_is_repeated_is_the_same_entry() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let session = session(cluster);
    let joined = session.run(|state| async move {
        let name = EntryName {
            queue: state.layout.queue(Kind::Semaphore, "repeated"),
            id: EntryId(7),
            permits: 1,
        };
        let value = state.entry_value(2);
        let join = Join {
            name: &name,
            lease: 0,
            value: &value,
        };
        let mut joined = Vec::new();
        for _ in 0..2 {
            let request = join.request(&Basis::Cached);
            let response = state.cluster.call(&request, state.request_limits()).await;
            let mut result = join.result(response.unwrap().response).unwrap();
            while let JoinResult::Retry(basis) = result {
                let request = join.request(&basis);
                let response = state.cluster.call(&request, state.request_limits()).await;
                result = join.result(response.unwrap().response).unwrap();
            }
            joined.push(result);
        }
        joined
    });
    let joined = joined.await.unwrap();
    let [
        JoinResult::Created { revision, ahead: 0 },
        JoinResult::Exists { revision: same },
    ] = joined[..]
    else {
        panic!("{joined:?}");
    };
    assert_eq!(revision, same);
    delete_entries(&session, "repeated").await;
}

#[tokio::test]
async fn a_foreign_value_in_a_queue_is_an_error() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    // The key is `dflock/1/s/foreign/q/x`.
    let put = r#"{"key":"ZGZsb2NrLzEvcy9mb3JlaWduL3EveA==","value":"bWluZQ=="}"#;
    let response = cluster.post(0, "/v3/kv/put", put);
    assert!(response.contains(" 200 "), "{response}");
    let session = session(cluster);
    let end = ended(&session.join(spec("foreign", 1))).await;
    assert!(
        matches!(&end, End::ForeignValue(key) if key == "dflock/1/s/foreign/q/x"),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_closed_session_joins_no_queue_again() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let (holding, closing) = (session(cluster), session(cluster));
    let holder = holding.join(spec("closed", 1));
    held(&holder).await;
    let waiter = closing.join(spec_within("closed", 1, Wait::AtMost(LONG)));
    queued(&waiter).await;
    closing.end_leases().await;
    let end = ended(&waiter).await;
    assert!(matches!(end, End::SessionEnded), "{end:?}");
    let end = ended(&closing.join(spec("closed", 1))).await;
    assert!(matches!(end, End::SessionEnded), "{end:?}");
    release(holder).await;
    let other = holding.join(spec_within("closed", 1, Wait::Never));
    held(&other).await;
}
