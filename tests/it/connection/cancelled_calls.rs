//! Calls that are cancelled or time out before their reply.

use std::time::Duration;

use dflock::{Enqueued, Error, Operation};
use tokio::time::Instant;

use crate::fixture::acquire_pool;
use crate::scripted_server::*;

const QUEUED: &str = "queued\n";

// Covers bugs P31, G08. Tested with each kind of call.
#[tokio::test(start_paused = true)]
async fn a_late_reply_never_answers_the_next_request() {
    let cancelled = |request: &str| vec![expect(request), checkpoint(), expect_eof()];
    let server = ScriptedServer::memory([
        cancelled(ACQUIRE),
        cancelled(ENQUEUE),
        cancelled(STATS),
        vec![expect(PING), send(OK)],
    ]);
    let client = server.client();
    let pool = client.semaphore("pool", 1).unwrap();
    server.cancel_at_checkpoint(pool.clone().acquire()).await;
    server.cancel_at_checkpoint(pool.enqueue()).await;
    server.cancel_at_checkpoint(client.stats()).await;
    client.ping().await.unwrap();
    server.finish().await;
}

// Covers bugs P31, P30.
#[tokio::test(start_paused = true)]
async fn a_cancelled_release_closes_its_connection() {
    let server = ScriptedServer::memory([
        vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RELEASE),
            checkpoint(),
            expect_eof(),
        ],
        vec![expect(PING), send(OK)],
    ]);
    let client = server.client();
    let held = acquire_pool(&client).await;
    server.cancel_at_checkpoint(held.release()).await;
    client.ping().await.unwrap();
    server.finish().await;
}

// Covers bugs T07, P12, G19, P19. Tested on an idle hold and with a pending renewal.
#[tokio::test(start_paused = true)]
async fn release_times_out_when_the_server_does_not_reply() {
    for renewing in [false, true] {
        let mut script = vec![expect(ACQUIRE), send(GRANT)];
        if renewing {
            script.extend([expect(RENEW), checkpoint()]);
        }
        script.extend([expect(RELEASE), expect_eof()]);
        let server = ScriptedServer::memory([script]);
        let client = server
            .builder()
            .socket_timeout(Duration::from_secs(3))
            .build()
            .unwrap();
        let held = acquire_pool(&client).await;
        if renewing {
            server.reached().await;
        }
        let start = Instant::now();
        let error = held.release().await.unwrap_err();
        assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
        assert_eq!(error.operation(), Some(Operation::Release));
        assert!(!error.is_retryable(), "there is nothing left to release");
        assert_eq!(start.elapsed().as_secs(), 3);
        server.finish().await;
    }
}

// Covers bugs G02, G13. The wait ends before the server can reply.
#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_on_the_client_closes_its_connection() {
    let server = ScriptedServer::memory([
        vec![expect("sl\npool\n2 1\n"), expect_eof()],
        vec![expect(ENQUEUE), send(QUEUED), expect(WAIT), expect_eof()],
    ]);
    let client = server.client();
    let pool = client.semaphore("pool", 1).unwrap();
    let wait = Duration::from_millis(1500);
    let start = Instant::now();
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
    assert_eq!(start.elapsed().as_secs(), 3);
    server.finish().await;
}

// Covers bugs G02, T32. The server ends the wait.
#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_on_the_server_keeps_its_connection() {
    let no = send("timeout\n");
    let server = ScriptedServer::memory([vec![
        expect(ACQUIRE),
        no.clone(),
        expect(TRY_ACQUIRE),
        no,
        expect(PING),
        send(OK),
    ]]);
    let client = server.client();
    let pool = client.semaphore("pool", 1).unwrap();
    assert!(pool.clone().acquire().await.unwrap_err().is_timeout());
    assert!(pool.try_acquire().await.unwrap_err().is_timeout());
    client.ping().await.unwrap();
    server.finish().await;
}

// Covers bug G24. Closing a queued semaphore sends nothing and cannot fail.
#[tokio::test(start_paused = true)]
async fn closing_a_queued_semaphore_closes_its_connection() {
    let server = ScriptedServer::memory([
        vec![
            expect(ENQUEUE),
            send(QUEUED),
            expect(WAIT),
            checkpoint(),
            expect_eof(),
        ],
        vec![expect(ACQUIRE), send(GRANT)],
    ]);
    let Enqueued::Queued(queued) = server.pool().enqueue().await.unwrap() else {
        panic!("queued")
    };
    server.reached().await;
    queued.close().acquire().await.unwrap().close();
    server.finish().await;
}

// Covers bugs T44, T31, P09, P13, P36. The keep-alive task of the old slot has ended with the slot.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_a_release_returns() {
    let server = ScriptedServer::memory([vec![
        expect(ACQUIRE),
        send(GRANT),
        expect(RELEASE),
        send(OK),
    ]]);
    let idle = server
        .pool()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    drop(idle);
    server.finish().await;
}
