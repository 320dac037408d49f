//! A grant that took long to come is not believed until a renewal confirms it.

use std::pin::Pin;
use std::time::Duration;

use dflock::{Client, Enqueued, Error, Operation};
use tokio::time::{Instant, sleep, timeout};

use crate::peer::*;

// N1: the dead token of `sw`, as servers before `error_lease_expired` hand it out
#[tokio::test(start_paused = true)]
async fn a_dead_token_of_a_wait_is_never_a_hold() {
    let peer = Peer::memory([vec![
        hear(ENQUEUE),
        say("queued\n"),
        hear(WAIT),
        say(GRANT),
        hear(RENEW),
        say("error\n"),
        hear(RELEASE),
    ]]);
    let Enqueued::Queued(queued) = peer.pool().enqueue().await.unwrap() else {
        panic!("the peer said `queued`")
    };
    let error = queued.wait().await.unwrap_err();
    assert!(
        matches!(error, Error::LeaseExpired { .. }) && error.is_retryable(),
        "{error:?}"
    );
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_of_a_blocked_acquire_is_never_a_hold() {
    let peer = Peer::memory([vec![
        hear(ACQUIRE),
        tell(),
        cue(),
        say(GRANT),
        hear(RENEW),
        say("error\n"),
        hear(RELEASE),
    ]]);
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
    peer.pool()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    peer.finish().await;
}

/// Longer than all limits here: only a test that fails waits for it.
const TOO_LONG: Duration = Duration::from_mins(2);

type Acquire = fn(Client) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Every way to a slot whose grant comes late: with what the server hears and says before the grant,
/// the grant, and the renewal that confirms it.
fn late_grants() -> [(&'static str, Vec<Step>, &'static str, String, Acquire); 6] {
    let lock_renewal = RENEW.replacen("sn", "n", 1);
    [
        (
            "acquire",
            vec![hear(ACQUIRE)],
            GRANT,
            RENEW.to_owned(),
            |client| {
                Box::pin(async move { client.semaphore("pool", 1)?.acquire().await.map(drop) })
            },
        ),
        (
            "with_slot",
            vec![hear(ACQUIRE)],
            GRANT,
            RENEW.to_owned(),
            |client| {
                Box::pin(async move { client.semaphore("pool", 1)?.with_slot(async |_| ()).await })
            },
        ),
        (
            "enqueue, granted late",
            vec![hear(ENQUEUE)],
            ACQUIRED,
            RENEW.to_owned(),
            |client| {
                Box::pin(async move { client.semaphore("pool", 1)?.enqueue().await.map(drop) })
            },
        ),
        (
            "enqueue and wait",
            vec![hear(ENQUEUE), say("queued\n"), hear(WAIT)],
            GRANT,
            RENEW.to_owned(),
            |client| {
                Box::pin(async move {
                    client
                        .semaphore("pool", 1)?
                        .enqueue()
                        .await?
                        .wait()
                        .await
                        .map(drop)
                })
            },
        ),
        (
            "lock",
            vec![hear("l\npool\n10\n")],
            GRANT,
            lock_renewal.clone(),
            |client| Box::pin(async move { client.lock("pool")?.acquire().await.map(drop) }),
        ),
        (
            "lock, enqueue",
            vec![hear("e\npool\n\n")],
            ACQUIRED,
            lock_renewal,
            |client| Box::pin(async move { client.lock("pool")?.enqueue().await.map(drop) }),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_that_is_not_answered_has_the_socket_timeout() {
    for (name, before, grant, renewal, acquire) in late_grants() {
        let limit = Duration::from_secs(3);
        // the server freezes between the grant and its confirmation
        let release = renewal.replacen("n\n", "r\n", 1);
        let rest = vec![
            tell(),
            cue(),
            say(grant),
            hear(&renewal),
            tell(),
            hear(release),
            hear_end(),
        ];
        let peer = Peer::memory([[before, rest].concat()]);
        let acquired = tokio::spawn(acquire(
            peer.builder().socket_timeout(limit).build().unwrap(),
        ));
        peer.told().await;
        sleep(Duration::from_secs(1)).await;
        peer.cue();
        peer.told().await;
        let asked = Instant::now();
        let error = timeout(TOO_LONG, acquired)
            .await
            .unwrap_or_else(|_| panic!("{name} waits for ever"));
        let error = error.unwrap().unwrap_err();
        assert!(
            matches!(&error, Error::Unresponsive { limit: it, .. } if *it == limit),
            "{name}: {error:?}"
        );
        assert_eq!(
            (error.operation(), error.is_retryable()),
            (Some(Operation::Renew), true),
            "{name}"
        );
        let took = asked.elapsed();
        assert!(
            took >= limit && took <= limit + Duration::from_millis(2),
            "{name}: {took:?}"
        );
        peer.finish().await;
    }
}

// the wait is the whole call
#[tokio::test(start_paused = true)]
async fn a_confirmation_has_no_more_than_the_grace_of_the_wait() {
    for (wait, granted_at) in [(4000, 3900), (2500, 2400), (2500, 600)] {
        let wait = Duration::from_millis(wait);
        let request = format!("sl\npool\n{} 1\n", wait.as_millis().div_ceil(1000));
        let peer = Peer::memory([vec![
            hear(request),
            tell(),
            cue(),
            say(GRANT),
            hear(RENEW),
            hear(RELEASE),
            hear_end(),
        ]]);
        let began = Instant::now();
        let acquired = tokio::spawn(peer.pool().acquire_within(wait));
        peer.told().await;
        sleep(Duration::from_millis(granted_at)).await;
        peer.cue();
        let error = acquired.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
        let (took, most) = (began.elapsed(), wait + Duration::from_secs(1));
        assert!(
            took >= wait && took <= most + Duration::from_millis(2),
            "{took:?} for {wait:?}"
        );
        peer.finish().await;
    }
}
