//! Replies that are not of the protocol, and those of old servers.

use dflock::Error;

use super::reads_well;
use crate::peer::*;

/// What no request of ours may be answered with.
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
    // T17, T23, T38, P20, P33, T40, T35: a grant is a word, a token and a lease that can be counted
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
    // no UTF-8; a TLS alert
    lines.push(b"ok \xff\xfe 30".to_vec());
    lines.push(b"\x15\x03\x01\x00\x02\x02".to_vec());
    lines.push(b"ok\0".to_vec());
    lines
}

// T05, T28, P29, P34: the connection is closed, and the next begins with nothing
#[tokio::test]
async fn garbage_is_never_a_slot() {
    for line in garbage() {
        let said = [line.as_slice(), b"\n"].concat();
        let shown = line.escape_ascii().to_string();
        let again = vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)];
        let peer = Peer::memory([
            vec![hear(ACQUIRE), say(&said), hear_end()],
            again,
            vec![hear(ENQUEUE), say(&said), hear_end()],
        ]);
        let pool = peer.pool();
        let error = pool.clone().acquire().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{shown}: {error:?}"
        );
        assert!(!error.is_retryable());
        reads_well(&error, &["acquire", "\"pool\"", peer.address(), "dflockd"]);
        assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
        pool.acquire().await.unwrap().release().await.unwrap();
        let error = peer.pool().enqueue().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{shown}: {error:?}"
        );
        reads_well(&error, &["enqueue", "\"pool\"", peer.address()]);
        peer.finish().await;
    }
}

// P31, T25, P07: what is a reply, but to another question, is garbage here; it may have left a slot behind, and must not reach the
// pool
#[tokio::test(start_paused = true)]
async fn a_reply_to_another_question_closes_the_connection() {
    for said in [OK, "ok 30\n", "ok 30 7\n", ACQUIRED, "queued\n", "ok {}\n"] {
        let peer = Peer::memory([vec![hear(ACQUIRE), say(said), hear_end()]]);
        let pool = peer.pool();
        let error = pool.clone().acquire().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{said:?}: {error:?}"
        );
        peer.finish().await;
    }
    for said in [OK, "ok 30\n", GRANT, "timeout\n", "ok {}\n"] {
        let peer = Peer::memory([vec![hear(ENQUEUE), say(said), hear_end()]]);
        let pool = peer.pool();
        let error = pool.clone().enqueue().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{said:?}: {error:?}"
        );
        peer.finish().await;
    }
    for said in [
        "ok 30\n",
        GRANT,
        ACQUIRED,
        "timeout\n",
        "queued\n",
        "ok {}\n",
    ] {
        let peer = Peer::memory([vec![
            hear(ACQUIRE),
            say(GRANT),
            hear(RELEASE),
            say(said),
            hear_end(),
        ]]);
        let pool = peer.pool();
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
            "{said:?}: {error:?}"
        );
        peer.finish().await;
    }
    // stats that are none
    for said in [
        OK,
        "ok 30\n",
        GRANT,
        "timeout\n",
        "queued\n",
        "ok {\n",
        "ok {}\n",
        "ok {\"connections\":-1}\n",
    ] {
        let peer = Peer::memory([vec![hear(STATS), say(said), hear_end()]]);
        let client = peer.client();
        let error = client.stats().await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. }),
            "{said:?}: {error:?}"
        );
        reads_well(&error, &["stats on", peer.address()]);
        peer.finish().await;
    }
}

// T05, P14, G14: closed in the middle, with as much read as a reply may have and no more than the room for it
#[tokio::test]
async fn a_reply_without_end_is_cut_off() {
    const MIB: usize = 1024 * 1024;
    let peer = Peer::memory([
        vec![hear(ACQUIRE), flood()],
        vec![hear(ACQUIRE), say(GRANT)],
    ]);
    let pool = peer.pool();
    let error = pool.clone().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    reads_well(&error, &["acquire", "\"pool\"", peer.address(), "1 MiB"]);
    assert!(error.to_string().len() < 300, "{error}");
    assert!(
        (MIB..2 * MIB + MIB / 4).contains(&peer.flooded()),
        "{}",
        peer.flooded()
    );
    pool.acquire().await.unwrap().close();
    peer.finish().await;
}

// S18
#[tokio::test]
async fn lists_that_are_null_or_missing_are_empty() {
    let nulls = "ok {\"connections\":1,\"locks\":null,\"semaphores\":null,\"idle_locks\":null,\"idle_semaphores\":null}\n";
    let peer = Peer::memory([vec![
        hear(STATS),
        say(nulls),
        hear(STATS),
        say("ok {\"connections\":1}\n"),
    ]]);
    let client = peer.client();
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
    peer.finish().await;
}
