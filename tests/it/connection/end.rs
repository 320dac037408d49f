//! Connections that end under a holder, and what the holder hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dflock::{Error, Held, LostReason, Semaphore};

use crate::peer::*;

/// A pool that counts its losses.
fn counting(peer: &Peer) -> (Semaphore, Arc<AtomicUsize>) {
    let losses = Arc::new(AtomicUsize::new(0));
    let counter = losses.clone();
    let on_lost = move |_: &_| {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    (
        Semaphore::builder()
            .key("pool")
            .limit(1)
            .client(peer.client())
            .on_lost(on_lost)
            .build()
            .unwrap(),
        losses,
    )
}

// T10, T31, T34, P11: by TCP, in order, by half, and with a reset
#[tokio::test]
async fn the_end_of_the_connection_is_a_loss_at_once_and_told_once() {
    for end in [close(), half_close(), reset()] {
        let peer = Peer::tcp([
            vec![hear(ACQUIRE), say(GRANT), cue(), end],
            vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)],
        ])
        .await;
        let (pool, losses) = counting(&peer);
        let held = pool.clone().acquire().await.unwrap();
        peer.cue();
        let lost = held.lost().await;
        assert_eq!(
            (lost.reason, &*lost.key, lost.token.as_str()),
            (LostReason::Disconnected, "pool", TOKEN)
        );
        assert_eq!(held.check().unwrap_err(), lost);
        assert!(held.renew().await.unwrap_err().is_lost());
        assert!(held.release().await.unwrap_err().is_lost());
        // the client can be used again, and a slot that is released is not lost
        pool.acquire().await.unwrap().release().await.unwrap();
        assert_eq!(losses.load(Ordering::SeqCst), 1);
        peer.finish().await;
    }
}

// T04: the peer that closed its side could still hear
#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_the_end() {
    let peer = Peer::memory([vec![hear(ACQUIRE), say(GRANT), half_close(), hear_end()]]);
    let held = peer.pool().acquire().await.unwrap();
    held.lost().await;
    assert!(held.release().await.unwrap_err().is_lost());
    peer.finish().await;
}

// N9: the `error` at the read timeout
#[tokio::test(start_paused = true)]
async fn a_line_that_nobody_asked_for_is_a_loss_and_no_reply() {
    let peer = Peer::memory([
        vec![hear(ACQUIRE), say(GRANT), cue(), say("error\n"), hear_end()],
        vec![hear(PING), say(OK)],
    ]);
    let (pool, losses) = counting(&peer);
    let held = pool.acquire().await.unwrap();
    peer.cue();
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    drop(held);
    tokio::task::yield_now().await;
    assert_eq!(losses.load(Ordering::SeqCst), 1);
    peer.client().ping().await.unwrap();
    peer.finish().await;
}

// T12, P02, P31, T09: no need for any `force`
#[tokio::test(start_paused = true)]
async fn a_refused_renewal_closes_the_connection_and_acquire_works_again() {
    let a_reply = vec![hear(RELEASE), hear_end()];
    // T04: what makes no sense is the end of the connection, and nothing is written after it
    let nonsense = vec![hear_end()];
    for (refusal, then) in [
        ("error\n", &a_reply),
        ("error_lease_expired\n", &a_reply),
        ("error_auth\n", &a_reply),
        ("timeout\n", &a_reply),
        (GRANT, &a_reply),
        ("okay 30\n", &nonsense),
        ("ok -1\n", &nonsense),
        ("ok 30x\n", &nonsense),
    ] {
        let script = [
            vec![hear(ACQUIRE), say(GRANT), hear(RENEW), say(refusal)],
            then.clone(),
        ]
        .concat();
        let peer = Peer::memory([
            script,
            vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)],
        ]);
        let (pool, losses) = counting(&peer);
        let held = pool.clone().acquire().await.unwrap();
        // T35: never a lease of -1
        let error = held.renew().await.unwrap_err();
        assert!(
            matches!(&error, Error::Lost(lost) if lost.reason == LostReason::Rejected),
            "{refusal:?}: {error:?}"
        );
        held.close()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        assert_eq!(losses.load(Ordering::SeqCst), 1);
        drop(pool);
        peer.finish().await;
    }
}

// T24, T41
#[tokio::test(start_paused = true)]
async fn a_bare_ok_renews_by_the_lease_that_was_asked_for() {
    let renew = format!("sn\npool\n{TOKEN} 7\n");
    let peer = Peer::memory([vec![
        hear("sl\npool\n10 1 7\n"),
        say(GRANT),
        hear(renew),
        say(OK),
    ]]);
    let lease = std::time::Duration::from_secs(7);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(lease)
        .client(peer.client())
        .build()
        .unwrap();
    let held = pool.acquire().await.unwrap();
    // T26: what the server says, not what was asked for
    assert_eq!(held.lease().as_secs(), 30);
    held.renew().await.unwrap();
    assert_eq!(held.lease(), lease);
    peer.finish().await;
}

// T42
#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_harms_nobody() {
    let again = vec![
        hear(ACQUIRE),
        say(GRANT),
        hear(RENEW),
        say("ok 30\n"),
        hear(RELEASE),
        say("error\n"),
        hear(ACQUIRE),
        say(GRANT),
    ];
    let peer = Peer::memory([vec![hear(ACQUIRE), say(GRANT), cue(), close()], again]);
    let on_lost = |_: &_| panic!("in a callback of the user's");
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .on_lost(on_lost)
        .client(peer.client())
        .build()
        .unwrap();
    let held = pool.clone().acquire().await.unwrap();
    peer.cue();
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    let held = pool.clone().acquire().await.unwrap();
    held.renew().await.unwrap();
    // here it is called on the task of the user
    assert!(held.release().await.unwrap_err().is_lost());
    pool.acquire().await.unwrap().close();
    peer.finish().await;
}

// T43, P03
#[tokio::test(start_paused = true)]
async fn with_slot_keeps_the_value_of_its_body_when_the_release_fails() {
    let hold = |end: Step| vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), end];
    let peer = Peer::memory([
        hold(close()),
        hold(say("error_draining\n")),
        hold(hear_end()),
    ]);
    for _ in 0..3 {
        let value = peer
            .pool()
            .with_slot(async |_: &Held| Err::<(), _>("the body's own"))
            .await;
        assert_eq!(value.unwrap(), Err("the body's own"));
    }
    peer.finish().await;
}

// T49, P11: either way the connection is closed at once, without an await
#[tokio::test(start_paused = true)]
async fn drop_gives_the_slot_back_and_close_says_nothing() {
    let held = [hear(ACQUIRE), say(GRANT)];
    let peer = Peer::memory([
        [&held[..], &[hear(RELEASE), hear_end()]].concat(),
        [&held[..], &[hear_end()]].concat(),
    ]);
    let (pool, losses) = counting(&peer);
    drop(pool.clone().acquire().await.unwrap());
    pool.acquire().await.unwrap().close();
    peer.finish().await;
    // T31, P17
    assert_eq!(losses.load(Ordering::SeqCst), 0);
}

// T31: what the server says to a release may be the first that is heard of a loss
#[tokio::test(start_paused = true)]
async fn a_release_that_comes_too_late_says_so() {
    let late = [hear(ACQUIRE), say(GRANT), hear(RELEASE), say("error\n")];
    let peer = Peer::memory([late.to_vec()]);
    let (pool, losses) = counting(&peer);
    let error = pool.acquire().await.unwrap().release().await.unwrap_err();
    assert!(
        matches!(&error, Error::Lost(lost) if lost.reason == LostReason::Rejected),
        "{error:?}"
    );
    assert_eq!(losses.load(Ordering::SeqCst), 1);
    peer.finish().await;
}

// the server may have released it, or not: nobody can know, and nothing is left to be tried
#[tokio::test(start_paused = true)]
async fn a_release_without_an_answer_is_not_to_be_tried_again() {
    let peer = Peer::memory([vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), close()]]);
    let error = peer
        .pool()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Disconnected { .. }) && !error.is_retryable(),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("frees the slot") && !error.to_string().contains("try again"),
        "{error}"
    );
    peer.finish().await;
}
