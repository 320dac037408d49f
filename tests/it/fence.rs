//! Servers that name a fence beside the token, and those that have it in the token alone.

use std::time::Duration;

use dflock::{Enqueued, Error, Held, LostReason, Semaphore};
use tokio::time::sleep;

use crate::bad_input::reads_well;
use crate::peer::*;

const SECOND: Duration = Duration::from_secs(1);

/// Returns `line` with `more` fields.
fn with(line: &str, more: &str) -> String {
    format!("{} {more}\n", line.trim_end())
}

fn pool(peer: &Peer, fencing: bool) -> Semaphore {
    peer.builder()
        .fencing(fencing)
        .build()
        .unwrap()
        .semaphore("pool", 1)
        .unwrap()
}

async fn acquire(peer: &Peer, fencing: bool) -> Semaphore<Held> {
    pool(peer, fencing).acquire().await.unwrap()
}

async fn enqueue(peer: &Peer, fencing: bool) -> Enqueued {
    pool(peer, fencing).enqueue().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_the_server_names_is_the_fence_of_every_kind_of_grant() {
    for fencing in [false, true] {
        for (text, fence) in [("7", 7), ("0", 0), ("18446744073709551615", u64::MAX)] {
            let granted = [
                say(with(GRANT, text)),
                hear(RENEW),
                say(with("ok 30", text)),
            ];
            let release = [hear(RELEASE), say(OK)];
            let acquired = [&[hear(ACQUIRE)], &granted[..], &release].concat();
            let at_once = [&[hear(ENQUEUE), say(with(ACQUIRED, text))], &release[..]].concat();
            let waited = [
                &[hear(ENQUEUE), say("queued\n"), hear(WAIT)],
                &granted[..],
                &release,
            ]
            .concat();
            let peer = Peer::memory([acquired, at_once, waited]);

            let held = acquire(&peer, fencing).await;
            assert_eq!(held.fence(), Some(fence));
            held.renew().await.unwrap();
            assert_eq!((held.fence(), held.lease()), (Some(fence), 30 * SECOND));
            held.release().await.unwrap();

            let Enqueued::Acquired(held) = enqueue(&peer, fencing).await else {
                panic!("queued")
            };
            assert_eq!((held.fence(), held.lease()), (Some(fence), 30 * SECOND));
            held.release().await.unwrap();

            let Enqueued::Queued(queued) = enqueue(&peer, fencing).await else {
                panic!("acquired")
            };
            let held = queued.wait().await.unwrap();
            assert_eq!((held.fence(), held.lease()), (Some(fence), 30 * SECOND));
            held.release().await.unwrap();
            peer.finish().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn locks_have_it_too() {
    let release = format!("r\npool\n{TOKEN}\n");
    let script = vec![
        hear("l\npool\n10\n"),
        say(with(GRANT, "7")),
        hear(release),
        say(OK),
    ];
    let peer = Peer::memory([script]);
    let held = peer.client().lock("pool").unwrap().acquire().await.unwrap();
    assert_eq!(held.fence(), Some(7));
    held.release().await.unwrap();
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn without_one_it_is_in_the_token_if_the_client_is_told_so() {
    for (fencing, fence) in [(false, None), (true, Some(1))] {
        // a server that names it in its renewals alone changes nothing
        let script = vec![
            hear(ACQUIRE),
            say(GRANT),
            hear(RENEW),
            say("ok 30 7\n"),
            hear(RELEASE),
            say(OK),
        ];
        let peer = Peer::memory([script]);
        let held = acquire(&peer, fencing).await;
        held.renew().await.unwrap();
        assert_eq!(held.fence(), fence);
        held.release().await.unwrap();
        peer.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_need_not_name_it() {
    for renewed in [OK, "ok 30\n", "ok 30 7\n"] {
        let script = vec![
            hear(ACQUIRE),
            say(with(GRANT, "7")),
            hear(RENEW),
            say(renewed),
            hear(RELEASE),
            say(OK),
        ];
        let peer = Peer::memory([script]);
        let held = acquire(&peer, false).await;
        held.renew().await.unwrap();
        assert_eq!(held.fence(), Some(7));
        held.release().await.unwrap();
        peer.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_names_another_is_not_of_this_slot() {
    for other in ["ok 30 8\n", "ok 30 6\n", "ok 0 8\n"] {
        let kept = vec![
            hear(ACQUIRE),
            say(with(GRANT, "7")),
            hear(RENEW),
            say(other),
            hear(RELEASE),
            hear_end(),
        ];
        let confirmed = [
            say(with(GRANT, "7")),
            hear(RENEW),
            say(other),
            hear(RELEASE),
            hear_end(),
        ];
        let late = [&[hear(ACQUIRE), tell(), cue()], &confirmed[..]].concat();
        let waited = [
            &[hear(ENQUEUE), say("queued\n"), hear(WAIT)],
            &confirmed[..],
        ]
        .concat();
        let peer = Peer::memory([kept, late, waited]);

        let held = acquire(&peer, false).await;
        assert!(held.renew().await.unwrap_err().is_lost());
        assert_eq!(held.lost().await.reason, LostReason::Rejected);

        let acquire = tokio::spawn(pool(&peer, false).acquire());
        peer.told().await;
        sleep(3 * SECOND).await;
        peer.cue();
        let error = acquire.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        reads_well(&error, &["renew", "\"pool\"", other.trim_end()]);

        let Enqueued::Queued(queued) = enqueue(&peer, false).await else {
            panic!("acquired")
        };
        let error = queued.wait().await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        peer.finish().await;
    }
}
