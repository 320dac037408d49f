//! Fences in replies of servers that send them, and fences in the token alone.

use std::time::Duration;

use dflock::{Enqueued, Error, Held, LostReason, Semaphore};
use tokio::time::sleep;

use crate::bad_input::reads_well;
use crate::scripted_server::*;

const SECOND: Duration = Duration::from_secs(1);

/// Returns `line` with `more` fields.
fn with_fields(line: &str, more: &str) -> String {
    format!("{} {more}\n", line.trim_end())
}

fn pool(server: &ScriptedServer, fencing: bool) -> Semaphore {
    server
        .builder()
        .fencing(fencing)
        .build()
        .unwrap()
        .semaphore("pool", 1)
        .unwrap()
}

async fn acquire(server: &ScriptedServer, fencing: bool) -> Semaphore<Held> {
    pool(server, fencing).acquire().await.unwrap()
}

async fn enqueue(server: &ScriptedServer, fencing: bool) -> Enqueued {
    pool(server, fencing).enqueue().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_grant_uses_the_fence_of_the_server() {
    for fencing in [false, true] {
        for (text, fence) in [("7", 7), ("0", 0), ("18446744073709551615", u64::MAX)] {
            let granted = [
                send(with_fields(GRANT, text)),
                expect(RENEW),
                send(with_fields("ok 30", text)),
            ];
            let release = [expect(RELEASE), send(OK)];
            let acquired = [&[expect(ACQUIRE)], &granted[..], &release].concat();
            let immediate = [
                &[expect(ENQUEUE), send(with_fields(ACQUIRED, text))],
                &release[..],
            ]
            .concat();
            let waited = [
                &[expect(ENQUEUE), send("queued\n"), expect(WAIT)],
                &granted[..],
                &release,
            ]
            .concat();
            let server = ScriptedServer::memory([acquired, immediate, waited]);

            let held = acquire(&server, fencing).await;
            assert_eq!(held.fence(), Some(fence));
            held.renew().await.unwrap();
            assert_eq!((held.fence(), held.lease()), (Some(fence), 30 * SECOND));
            held.release().await.unwrap();

            let Enqueued::Acquired(held) = enqueue(&server, fencing).await else {
                panic!("queued")
            };
            assert_eq!((held.fence(), held.lease()), (Some(fence), 30 * SECOND));
            held.release().await.unwrap();

            let Enqueued::Queued(queued) = enqueue(&server, fencing).await else {
                panic!("acquired")
            };
            let held = queued.wait().await.unwrap();
            assert_eq!((held.fence(), held.lease()), (Some(fence), 30 * SECOND));
            held.release().await.unwrap();
            server.finish().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn locks_have_a_fence() {
    let release = format!("r\npool\n{TOKEN}\n");
    let script = vec![
        expect("l\npool\n10\n"),
        send(with_fields(GRANT, "7")),
        expect(release),
        send(OK),
    ];
    let server = ScriptedServer::memory([script]);
    let held = server
        .client()
        .lock("pool")
        .unwrap()
        .acquire()
        .await
        .unwrap();
    assert_eq!(held.fence(), Some(7));
    held.release().await.unwrap();
    server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_fencing_client_reads_the_fence_from_the_token() {
    for (fencing, fence) in [(false, None), (true, Some(1))] {
        // A fence that appears only in renewal replies is ignored.
        let script = vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RENEW),
            send("ok 30 7\n"),
            expect(RELEASE),
            send(OK),
        ];
        let server = ScriptedServer::memory([script]);
        let held = acquire(&server, fencing).await;
        held.renew().await.unwrap();
        assert_eq!(held.fence(), fence);
        held.release().await.unwrap();
        server.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_reply_may_omit_the_fence() {
    for renewed in [OK, "ok 30\n", "ok 30 7\n"] {
        let script = vec![
            expect(ACQUIRE),
            send(with_fields(GRANT, "7")),
            expect(RENEW),
            send(renewed),
            expect(RELEASE),
            send(OK),
        ];
        let server = ScriptedServer::memory([script]);
        let held = acquire(&server, false).await;
        held.renew().await.unwrap();
        assert_eq!(held.fence(), Some(7));
        held.release().await.unwrap();
        server.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_reply_with_another_fence_is_rejected() {
    for other in ["ok 30 8\n", "ok 30 6\n", "ok 0 8\n"] {
        let renewal = vec![
            expect(ACQUIRE),
            send(with_fields(GRANT, "7")),
            expect(RENEW),
            send(other),
            expect(RELEASE),
            expect_eof(),
        ];
        let confirmed = [
            send(with_fields(GRANT, "7")),
            expect(RENEW),
            send(other),
            expect(RELEASE),
            expect_eof(),
        ];
        let late = [
            &[expect(ACQUIRE), checkpoint(), wait_for_test()],
            &confirmed[..],
        ]
        .concat();
        let waited = [
            &[expect(ENQUEUE), send("queued\n"), expect(WAIT)],
            &confirmed[..],
        ]
        .concat();
        let server = ScriptedServer::memory([renewal, late, waited]);

        let held = acquire(&server, false).await;
        assert!(held.renew().await.unwrap_err().is_lost());
        assert_eq!(held.lost().await.reason, LostReason::Rejected);

        let acquire = tokio::spawn(pool(&server, false).acquire());
        server.reached().await;
        sleep(3 * SECOND).await;
        server.resume();
        let error = acquire.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        reads_well(&error, &["renew", "\"pool\"", other.trim_end()]);

        let Enqueued::Queued(queued) = enqueue(&server, false).await else {
            panic!("acquired")
        };
        let error = queued.wait().await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        server.finish().await;
    }
}
