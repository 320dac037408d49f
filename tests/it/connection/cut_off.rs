//! Calls that end before their reply: given up by their caller, or out of time.

use std::time::Duration;

use dflock::{Enqueued, Error, Operation};
use tokio::time::Instant;

use crate::peer::*;

const QUEUED: &str = "queued\n";

// P31, G08: in each kind of call
#[tokio::test(start_paused = true)]
async fn a_late_reply_never_answers_the_next_request() {
    let cut_off = |request: &str| vec![hear(request), tell(), hear_end()];
    let peer = Peer::memory([
        cut_off(ACQUIRE),
        cut_off(ENQUEUE),
        cut_off(STATS),
        vec![hear(PING), say(OK)],
    ]);
    let client = peer.client();
    let pool = client.semaphore("pool", 1).unwrap();
    tokio::select! {
        biased;
        _ = pool.clone().acquire() => panic!("there is no reply"),
        () = peer.told() => {}
    }
    tokio::select! {
        biased;
        _ = pool.enqueue() => panic!("there is no reply"),
        () = peer.told() => {}
    }
    tokio::select! {
        biased;
        _ = client.stats() => panic!("there is no reply"),
        () = peer.told() => {}
    }
    client.ping().await.unwrap();
    peer.finish().await;
}

// P31, P30
#[tokio::test(start_paused = true)]
async fn a_release_that_is_cut_off_closes_its_connection() {
    let peer = Peer::memory([
        vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), tell(), hear_end()],
        vec![hear(PING), say(OK)],
    ]);
    let client = peer.client();
    let held = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    tokio::select! {
        biased;
        _ = held.release() => panic!("there is no reply"),
        () = peer.told() => {}
    }
    client.ping().await.unwrap();
    peer.finish().await;
}

// T07, P12, G19, P19: idle or with a renewal that hangs
#[tokio::test(start_paused = true)]
async fn release_ends_in_its_time_when_the_server_says_nothing() {
    for renewing in [false, true] {
        let mut script = vec![hear(ACQUIRE), say(GRANT)];
        if renewing {
            script.extend([hear(RENEW), tell()]);
        }
        script.extend([hear(RELEASE), hear_end()]);
        let peer = Peer::memory([script]);
        let client = peer
            .builder()
            .socket_timeout(Duration::from_secs(3))
            .build()
            .unwrap();
        let held = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap();
        if renewing {
            peer.told().await;
        }
        let began = Instant::now();
        let error = held.release().await.unwrap_err();
        assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
        assert_eq!(error.operation(), Some(Operation::Release));
        assert!(!error.is_retryable(), "there is nothing left to release");
        assert_eq!(began.elapsed().as_secs(), 3);
        peer.finish().await;
    }
}

// G02, G13: a wait that the server is not left the time to answer
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_cut_off_here_closes_its_connection() {
    let peer = Peer::memory([
        vec![hear("sl\npool\n2 1\n"), hear_end()],
        vec![hear(ENQUEUE), say(QUEUED), hear(WAIT), hear_end()],
    ]);
    let client = peer.client();
    let pool = client.semaphore("pool", 1).unwrap();
    let wait = Duration::from_millis(1500);
    let began = Instant::now();
    assert!(
        pool.clone()
            .acquire_within(wait)
            .await
            .unwrap_err()
            .is_timeout()
    );
    let Enqueued::Queued(queued) = pool.enqueue().await.unwrap() else {
        panic!("queued")
    };
    assert!(queued.wait_within(wait).await.unwrap_err().is_timeout());
    assert_eq!(began.elapsed().as_secs(), 3);
    peer.finish().await;
}

// G02, T32: a wait that the server ends itself
#[tokio::test(start_paused = true)]
async fn a_timeout_that_the_server_tells_leaves_the_connection_good() {
    let no = say("timeout\n");
    let peer = Peer::memory([vec![
        hear(ACQUIRE),
        no.clone(),
        hear(TRY_ACQUIRE),
        no,
        hear(PING),
        say(OK),
    ]]);
    let client = peer.client();
    let pool = client.semaphore("pool", 1).unwrap();
    assert!(pool.clone().acquire().await.unwrap_err().is_timeout());
    assert!(pool.try_acquire().await.unwrap_err().is_timeout());
    client.ping().await.unwrap();
    peer.finish().await;
}

// G24: leaving the line says nothing and fails in nothing
#[tokio::test(start_paused = true)]
async fn a_place_in_line_is_given_up_by_closing() {
    let peer = Peer::memory([
        vec![hear(ENQUEUE), say(QUEUED), hear(WAIT), tell(), hear_end()],
        vec![hear(ACQUIRE), say(GRANT)],
    ]);
    let Enqueued::Queued(queued) = peer.pool().enqueue().await.unwrap() else {
        panic!("queued")
    };
    peer.told().await;
    queued.close().acquire().await.unwrap().close();
    peer.finish().await;
}

// T44, T31, P09, P13, P36: the old keeper is gone with its slot
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_a_release_returned() {
    let peer = Peer::memory([vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)]]);
    let idle = peer
        .pool()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    drop(idle);
    peer.finish().await;
}
