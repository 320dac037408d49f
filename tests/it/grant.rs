//! Late grants, which count only after a renewal has confirmed them.

use std::pin::Pin;
use std::time::Duration;

use dflock::{Client, Enqueued, Error, Operation};
use tokio::time::{Instant, sleep, timeout};

use crate::scripted_server::*;

// Covers bug N1. Servers before `error_lease_expired` return an expired token from `sw`.
#[tokio::test(start_paused = true)]
async fn an_expired_token_of_a_wait_is_not_a_hold() {
    let server = ScriptedServer::memory([vec![
        expect(ENQUEUE),
        send("queued\n"),
        expect(WAIT),
        send(GRANT),
        expect(RENEW),
        send("error\n"),
        expect(RELEASE),
    ]]);
    let Enqueued::Queued(queued) = server.pool().enqueue().await.unwrap() else {
        panic!("the reply was `queued`")
    };
    let error = queued.wait().await.unwrap_err();
    assert!(
        matches!(error, Error::LeaseExpired { .. }) && error.is_retryable(),
        "{error:?}"
    );
    server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_of_a_blocked_acquire_is_not_a_hold() {
    let server = ScriptedServer::memory([vec![
        expect(ACQUIRE),
        checkpoint(),
        wait_for_test(),
        send(GRANT),
        expect(RENEW),
        send("error\n"),
        expect(RELEASE),
    ]]);
    let acquire = tokio::spawn(server.pool().acquire());
    server.reached().await;
    sleep(Duration::from_secs(3)).await;
    server.resume();
    let error = acquire.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::LeaseExpired { .. }), "{error:?}");
    server.finish().await;
}

// A prompt grant needs no renewal.
#[tokio::test(start_paused = true)]
async fn a_prompt_grant_needs_no_confirmation() {
    let server = ScriptedServer::memory([vec![
        expect(ACQUIRE),
        send(GRANT),
        expect(RELEASE),
        send(OK),
    ]]);
    server
        .pool()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    server.finish().await;
}

/// Limit of every wait. It is longer than all timeouts here.
const TEST_TIMEOUT: Duration = Duration::from_mins(2);

type Acquire = fn(Client) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Returns every way to acquire a slot with a late grant. Each has the script before the grant, the
/// grant, and the renewal that confirms it.
fn late_grants() -> [(&'static str, Vec<Step>, &'static str, String, Acquire); 6] {
    let lock_renewal = RENEW.replacen("sn", "n", 1);
    [
        (
            "acquire",
            vec![expect(ACQUIRE)],
            GRANT,
            RENEW.to_owned(),
            |client| {
                Box::pin(async move { client.semaphore("pool", 1)?.acquire().await.map(drop) })
            },
        ),
        (
            "with_slot",
            vec![expect(ACQUIRE)],
            GRANT,
            RENEW.to_owned(),
            |client| {
                Box::pin(async move { client.semaphore("pool", 1)?.with_slot(async |_| ()).await })
            },
        ),
        (
            "enqueue, granted late",
            vec![expect(ENQUEUE)],
            ACQUIRED,
            RENEW.to_owned(),
            |client| {
                Box::pin(async move { client.semaphore("pool", 1)?.enqueue().await.map(drop) })
            },
        ),
        (
            "enqueue and wait",
            vec![expect(ENQUEUE), send("queued\n"), expect(WAIT)],
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
            vec![expect("l\npool\n10\n")],
            GRANT,
            lock_renewal.clone(),
            |client| Box::pin(async move { client.lock("pool")?.acquire().await.map(drop) }),
        ),
        (
            "lock, enqueue",
            vec![expect("e\npool\n\n")],
            ACQUIRED,
            lock_renewal,
            |client| Box::pin(async move { client.lock("pool")?.enqueue().await.map(drop) }),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_times_out_after_the_socket_timeout() {
    for (name, before, grant, renewal, acquire) in late_grants() {
        let limit = Duration::from_secs(3);
        // The server freezes between the grant and its confirmation.
        let release = renewal.replacen("n\n", "r\n", 1);
        let rest = vec![
            checkpoint(),
            wait_for_test(),
            send(grant),
            expect(&renewal),
            checkpoint(),
            expect(release),
            expect_eof(),
        ];
        let server = ScriptedServer::memory([[before, rest].concat()]);
        let acquired = tokio::spawn(acquire(
            server.builder().socket_timeout(limit).build().unwrap(),
        ));
        server.reached().await;
        sleep(Duration::from_secs(1)).await;
        server.resume();
        server.reached().await;
        let start = Instant::now();
        let error = timeout(TEST_TIMEOUT, acquired)
            .await
            .unwrap_or_else(|_| panic!("{name} does not time out"));
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
        let elapsed = start.elapsed();
        assert!(
            elapsed >= limit && elapsed <= limit + Duration::from_millis(2),
            "{name}: {elapsed:?}"
        );
        server.finish().await;
    }
}

// The wait timeout covers the whole call.
#[tokio::test(start_paused = true)]
async fn a_confirmation_ends_within_the_grace_of_the_wait() {
    for (wait, granted_at) in [(4000, 3900), (2500, 2400), (2500, 600)] {
        let wait = Duration::from_millis(wait);
        let request = format!("sl\npool\n{} 1\n", wait.as_millis().div_ceil(1000));
        let server = ScriptedServer::memory([vec![
            expect(request),
            checkpoint(),
            wait_for_test(),
            send(GRANT),
            expect(RENEW),
            expect(RELEASE),
            expect_eof(),
        ]]);
        let start = Instant::now();
        let acquired = tokio::spawn(server.pool().acquire_within(wait));
        server.reached().await;
        sleep(Duration::from_millis(granted_at)).await;
        server.resume();
        let error = acquired.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
        let (elapsed, most) = (start.elapsed(), wait + Duration::from_secs(1));
        assert!(
            elapsed >= wait && elapsed <= most + Duration::from_millis(2),
            "{elapsed:?} for {wait:?}"
        );
        server.finish().await;
    }
}
