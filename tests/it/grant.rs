//! A grant that took long to come is not believed until a renewal confirms it.

use std::time::Duration;

use dflock::{Enqueued, Error};
use tokio::time::sleep;

use crate::peer::*;

// N1: the dead token of `sw`, as servers before `error_lease_expired` hand it out
#[tokio::test(start_paused = true)]
async fn a_dead_token_of_a_wait_is_never_a_hold() {
    let peer = Peer::memory([vec![hear(ENQUEUE), say("queued\n"), hear(WAIT), say(GRANT), hear(RENEW), say("error\n"), hear(RELEASE)]]);
    let Enqueued::Queued(queued) = peer.pool().enqueue().await.unwrap() else { panic!("the peer said `queued`") };
    let error = queued.wait().await.unwrap_err();
    assert!(matches!(error, Error::LeaseExpired { .. }) && error.is_retryable(), "{error:?}");
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_of_a_blocked_acquire_is_never_a_hold() {
    let peer = Peer::memory([vec![hear(ACQUIRE), tell(), cue(), say(GRANT), hear(RENEW), say("error\n"), hear(RELEASE)]]);
    let acquire = tokio::spawn(peer.pool().acquire());
    peer.told().await;
    sleep(Duration::from_secs(3)).await;
    peer.cue();
    let error = acquire.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::LeaseExpired { .. }), "{error:?}");
    peer.finish().await;
}

// and a grant that came at once costs no renewal
#[tokio::test(start_paused = true)]
async fn a_prompt_grant_is_believed() {
    let peer = Peer::memory([vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)]]);
    peer.pool().acquire().await.unwrap().release().await.unwrap();
    peer.finish().await;
}
