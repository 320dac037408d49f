//! Connections that end during a hold, and how the holder learns of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dflock::{Error, Held, LostReason, Semaphore};

use crate::scripted_server::*;

/// Returns a semaphore and the counter of its `on_lost` calls.
fn semaphore_with_loss_counter(server: &ScriptedServer) -> (Semaphore, Arc<AtomicUsize>) {
    let losses = Arc::new(AtomicUsize::new(0));
    let counter = losses.clone();
    let on_lost = move |_: &_| {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    (
        Semaphore::builder()
            .key("pool")
            .limit(1)
            .client(server.client())
            .on_lost(on_lost)
            .build()
            .unwrap(),
        losses,
    )
}

// Covers bugs T10, T31, T34, P11. TCP connections that are closed, half closed and reset.
#[tokio::test]
async fn a_disconnect_loses_the_slot_immediately_and_is_reported_once() {
    for end in [close(), half_close(), reset()] {
        let server = ScriptedServer::tcp([
            vec![expect(ACQUIRE), send(GRANT), wait_for_test(), end],
            vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)],
        ])
        .await;
        let (pool, losses) = semaphore_with_loss_counter(&server);
        let held = pool.clone().acquire().await.unwrap();
        server.resume();
        let lost = held.lost().await;
        assert_eq!(
            (lost.reason, &*lost.key, lost.token.as_str()),
            (LostReason::Disconnected, "pool", TOKEN)
        );
        assert_eq!(held.check().unwrap_err(), lost);
        assert!(held.renew().await.unwrap_err().is_lost());
        assert!(held.release().await.unwrap_err().is_lost());
        // The client remains usable, and a released slot is not lost.
        pool.acquire().await.unwrap().release().await.unwrap();
        assert_eq!(losses.load(Ordering::SeqCst), 1);
        server.finish().await;
    }
}

// Covers bug T04. The server has closed its sending direction and could still receive.
#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_a_disconnect() {
    let server = ScriptedServer::memory([vec![
        expect(ACQUIRE),
        send(GRANT),
        half_close(),
        expect_eof(),
    ]]);
    let held = server.pool().acquire().await.unwrap();
    held.lost().await;
    assert!(held.release().await.unwrap_err().is_lost());
    server.finish().await;
}

// Covers bug N9. The server sends `error` at its read timeout.
#[tokio::test(start_paused = true)]
async fn an_unsolicited_line_loses_the_slot_and_is_not_a_reply() {
    let server = ScriptedServer::memory([
        vec![
            expect(ACQUIRE),
            send(GRANT),
            wait_for_test(),
            send("error\n"),
            expect_eof(),
        ],
        vec![expect(PING), send(OK)],
    ]);
    let (pool, losses) = semaphore_with_loss_counter(&server);
    let held = pool.acquire().await.unwrap();
    server.resume();
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    drop(held);
    tokio::task::yield_now().await;
    assert_eq!(losses.load(Ordering::SeqCst), 1);
    server.client().ping().await.unwrap();
    server.finish().await;
}

// Covers bugs T12, P02, P31, T09. No `force` option is needed.
#[tokio::test(start_paused = true)]
async fn acquire_works_after_a_rejected_renewal_has_closed_the_connection() {
    let after_rejection = vec![expect(RELEASE), expect_eof()];
    // An invalid reply ends the connection, and nothing is written after it: covers bug T04.
    let after_invalid_reply = vec![expect_eof()];
    for (reply, end) in [
        ("error\n", &after_rejection),
        ("error_lease_expired\n", &after_rejection),
        ("error_auth\n", &after_rejection),
        ("timeout\n", &after_rejection),
        (GRANT, &after_rejection),
        ("okay 30\n", &after_invalid_reply),
        ("ok -1\n", &after_invalid_reply),
        ("ok 30x\n", &after_invalid_reply),
    ] {
        let script = [
            vec![expect(ACQUIRE), send(GRANT), expect(RENEW), send(reply)],
            end.clone(),
        ]
        .concat();
        let server = ScriptedServer::memory([
            script,
            vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)],
        ]);
        let (pool, losses) = semaphore_with_loss_counter(&server);
        let held = pool.clone().acquire().await.unwrap();
        // A lease of -1 is never accepted: covers bug T35.
        let error = held.renew().await.unwrap_err();
        assert!(
            matches!(&error, Error::Lost(lost) if lost.reason == LostReason::Rejected),
            "{reply:?}: {error:?}"
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
        server.finish().await;
    }
}

// Covers bugs T24, T41.
#[tokio::test(start_paused = true)]
async fn a_bare_ok_renews_the_requested_lease() {
    let renew = format!("sn\npool\n{TOKEN} 7\n");
    let server = ScriptedServer::memory([vec![
        expect("sl\npool\n10 1 7\n"),
        send(GRANT),
        expect(renew),
        send(OK),
    ]]);
    let lease = std::time::Duration::from_secs(7);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .lease_ttl(lease)
        .client(server.client())
        .build()
        .unwrap();
    let held = pool.acquire().await.unwrap();
    // The lease is the server's value, not the requested one: covers bug T26.
    assert_eq!(held.lease().as_secs(), 30);
    held.renew().await.unwrap();
    assert_eq!(held.lease(), lease);
    server.finish().await;
}

// Covers bug T42.
#[tokio::test(start_paused = true)]
async fn a_panicking_callback_does_not_affect_the_client() {
    let second_script = vec![
        expect(ACQUIRE),
        send(GRANT),
        expect(RENEW),
        send("ok 30\n"),
        expect(RELEASE),
        send("error\n"),
        expect(ACQUIRE),
        send(GRANT),
    ];
    let server = ScriptedServer::memory([
        vec![expect(ACQUIRE), send(GRANT), wait_for_test(), close()],
        second_script,
    ]);
    let on_lost = |_: &_| panic!("in a callback of the user's");
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .on_lost(on_lost)
        .client(server.client())
        .build()
        .unwrap();
    let held = pool.clone().acquire().await.unwrap();
    server.resume();
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    let held = pool.clone().acquire().await.unwrap();
    held.renew().await.unwrap();
    // Here the callback runs on the caller's task.
    assert!(held.release().await.unwrap_err().is_lost());
    pool.acquire().await.unwrap().close();
    server.finish().await;
}

// Covers bugs T43, P03.
#[tokio::test(start_paused = true)]
async fn with_slot_returns_the_value_of_its_body_when_the_release_fails() {
    let hold = |end: Step| vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), end];
    let server = ScriptedServer::memory([
        hold(close()),
        hold(send("error_draining\n")),
        hold(expect_eof()),
    ]);
    for _ in 0..3 {
        let value = server
            .pool()
            .with_slot(async |_: &Held| Err::<(), _>("the body's own"))
            .await;
        assert_eq!(value.unwrap(), Err("the body's own"));
    }
    server.finish().await;
}

// Covers bugs T49, P11. In both cases the connection closes immediately, without an await.
#[tokio::test(start_paused = true)]
async fn drop_releases_the_slot_and_close_sends_nothing() {
    let held = [expect(ACQUIRE), send(GRANT)];
    let server = ScriptedServer::memory([
        [&held[..], &[expect(RELEASE), expect_eof()]].concat(),
        [&held[..], &[expect_eof()]].concat(),
    ]);
    let (pool, losses) = semaphore_with_loss_counter(&server);
    drop(pool.clone().acquire().await.unwrap());
    pool.acquire().await.unwrap().close();
    server.finish().await;
    // Covers bugs T31, P17.
    assert_eq!(losses.load(Ordering::SeqCst), 0);
}

// Covers bug T31. The reply to a release may be the first sign of a loss.
#[tokio::test(start_paused = true)]
async fn a_late_release_returns_a_loss() {
    let late = [
        expect(ACQUIRE),
        send(GRANT),
        expect(RELEASE),
        send("error\n"),
    ];
    let server = ScriptedServer::memory([late.to_vec()]);
    let (pool, losses) = semaphore_with_loss_counter(&server);
    let error = pool.acquire().await.unwrap().release().await.unwrap_err();
    assert!(
        matches!(&error, Error::Lost(lost) if lost.reason == LostReason::Rejected),
        "{error:?}"
    );
    assert_eq!(losses.load(Ordering::SeqCst), 1);
    server.finish().await;
}

// The result of the release is unknown, and a retry cannot help.
#[tokio::test(start_paused = true)]
async fn a_release_without_a_reply_is_not_retryable() {
    let server =
        ScriptedServer::memory([vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), close()]]);
    let error = server
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
    server.finish().await;
}
