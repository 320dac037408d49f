//! Replies that violate the protocol, and replies of old servers.

use dflock::Error;

use super::reads_well;
use crate::scripted_server::*;

/// Returns lines that are an invalid reply to every request of the client.
fn garbage() -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = [
        "",
        " ",
        "okay 30",
        "ok30",
        "OK",
        "ok ",
        "ok  30",
        "okok",
        "acquired",
        "acquired ",
        "queued 1",
        "timeout 1",
        "errors",
        "error 1",
        "error_",
        "error_BAD",
        "error_draining now",
        "HTTP/1.1 400 Bad Request",
        "SSH-2.0-OpenSSH_9.6",
        "+OK",
        "键☃",
    ]
    .map(Vec::from)
    .into();
    // Covers bugs T17, T23, T38, P20, P33, T40, T35. A grant is a status, a token and a valid
    // lease.
    for grant in [
        "ok TOKEN ",
        "ok TOKEN 0",
        "ok TOKEN -1",
        "ok TOKEN NaN",
        "ok TOKEN 30x",
        "ok TOKEN abc",
        "ok TOKEN 1.5",
        "ok TOKEN +30",
        "ok TOKEN 9223372037",
        "ok TOKEN 1000000000000000000000000000000",
        "ok TOKEN 30 ",
        "ok TOKEN 30 30 30",
        "ok TOKEN 30  7",
        "ok TOKEN 30 -7",
        "ok TOKEN 30 +7",
        "ok TOKEN 30 7f",
        "ok TOKEN 30 18446744073709551616",
        "ok TOKEN 0 7",
        "ok  TOKEN 30",
        "okTOKEN 30",
        "acquiredx TOKEN 30",
        "acquiredTOKEN 30",
        "acquired TOKEN",
        "acquired TOKEN 0",
        "acquired TOKEN -1",
        "acquired TOKEN NaN",
        "acquired TOKEN 30 +7",
        "acquired TOKEN 30 7 7",
        "ok TOKENff 30",
        "ok short 30",
        "ok TOKEN",
        "TOKEN",
    ] {
        lines.push(grant.replace("TOKEN", TOKEN).into_bytes());
    }
    lines.push(GRANT.to_uppercase().trim_end().into());
    // Invalid UTF-8 and a TLS alert.
    lines.push(b"ok \xff\xfe 30".to_vec());
    lines.push(b"\x15\x03\x01\x00\x02\x02".to_vec());
    lines.push(b"ok\0".to_vec());
    lines
}

// Covers bugs T05, T28, P29, P34. The client closes the connection, and the next one starts with an
// empty buffer.
#[tokio::test]
async fn an_invalid_reply_is_never_a_slot() {
    for line in garbage() {
        let reply = [line.as_slice(), b"\n"].concat();
        let shown = line.escape_ascii().to_string();
        let cycle = vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)];
        let scripted_server = ScriptedServer::memory([
            vec![expect(ACQUIRE), send(&reply), expect_eof()],
            cycle,
            vec![expect(ENQUEUE), send(&reply), expect_eof()],
        ]);
        let pool = scripted_server.pool();
        let error = pool.clone().acquire().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{shown}: {error:?}"
        );
        assert!(!error.is_retryable());
        reads_well(
            &error,
            &["acquire", "\"pool\"", scripted_server.address(), "dflockd"],
        );
        assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
        pool.acquire().await.unwrap().release().await.unwrap();
        let error = scripted_server.pool().enqueue().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{shown}: {error:?}"
        );
        reads_well(&error, &["enqueue", "\"pool\"", scripted_server.address()]);
        scripted_server.finish().await;
    }
}

// Covers bugs P31, T25, P07. A reply to a different request is a protocol error. The request may
// have left a slot behind, so the connection must not return to the pool.
#[tokio::test(start_paused = true)]
async fn a_reply_to_a_different_request_closes_the_connection() {
    for reply in [OK, "ok 30\n", "ok 30 7\n", ACQUIRED, "queued\n", "ok {}\n"] {
        let scripted_server =
            ScriptedServer::memory([vec![expect(ACQUIRE), send(reply), expect_eof()]]);
        let pool = scripted_server.pool();
        let error = pool.clone().acquire().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{reply:?}: {error:?}"
        );
        scripted_server.finish().await;
    }
    for reply in [OK, "ok 30\n", GRANT, "timeout\n", "ok {}\n"] {
        let scripted_server =
            ScriptedServer::memory([vec![expect(ENQUEUE), send(reply), expect_eof()]]);
        let pool = scripted_server.pool();
        let error = pool.clone().enqueue().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{reply:?}: {error:?}"
        );
        scripted_server.finish().await;
    }
    for reply in [
        "ok 30\n",
        GRANT,
        ACQUIRED,
        "timeout\n",
        "queued\n",
        "ok {}\n",
    ] {
        let scripted_server = ScriptedServer::memory([vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RELEASE),
            send(reply),
            expect_eof(),
        ]]);
        let pool = scripted_server.pool();
        let error = pool
            .clone()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{reply:?}: {error:?}"
        );
        scripted_server.finish().await;
    }
    // Invalid stats.
    for reply in [
        OK,
        "ok 30\n",
        GRANT,
        "timeout\n",
        "queued\n",
        "ok {\n",
        "ok {}\n",
        "ok {\"connections\":-1}\n",
    ] {
        let scripted_server =
            ScriptedServer::memory([vec![expect(STATS), send(reply), expect_eof()]]);
        let client = scripted_server.client();
        let error = client.stats().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{reply:?}: {error:?}"
        );
        reads_well(&error, &["stats on", scripted_server.address()]);
        scripted_server.finish().await;
    }
}

// Covers bugs T05, P14, G14. The client stops reading at the size limit of a reply and closes the
// connection.
#[tokio::test]
async fn an_endless_reply_is_rejected_at_the_size_limit() {
    const MIB: usize = 1024 * 1024;
    let scripted_server = ScriptedServer::memory([
        vec![expect(ACQUIRE), flood()],
        vec![expect(ACQUIRE), send(GRANT)],
    ]);
    let pool = scripted_server.pool();
    let error = pool.clone().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    reads_well(
        &error,
        &["acquire", "\"pool\"", scripted_server.address(), "1 MiB"],
    );
    assert!(error.to_string().len() < 300, "{error}");
    assert!(
        (MIB..2 * MIB + MIB / 4).contains(&scripted_server.flooded()),
        "{}",
        scripted_server.flooded()
    );
    pool.acquire().await.unwrap().close();
    scripted_server.finish().await;
}

// Covers bug S18.
#[tokio::test]
async fn null_and_missing_lists_in_stats_are_empty() {
    let nulls = "ok {\"connections\":1,\"locks\":null,\"semaphores\":null,\
                 \"idle_locks\":null,\"idle_semaphores\":null}\n";
    let scripted_server = ScriptedServer::memory([vec![
        expect(STATS),
        send(nulls),
        expect(STATS),
        send("ok {\"connections\":1}\n"),
    ]]);
    let client = scripted_server.client();
    for _ in 0..2 {
        let [stats] = &client.stats().await.unwrap()[..] else {
            panic!("one server")
        };
        assert_eq!(stats.connections, 1);
        assert!(
            stats.locks.is_empty()
                && stats.semaphores.is_empty()
                && stats.idle_locks.is_empty()
                && stats.idle_semaphores.is_empty()
        );
    }
    scripted_server.finish().await;
}
