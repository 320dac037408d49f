//! Stats of many keys, and the size limits of replies.

use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Connector, Error};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, split};

use crate::bad_input::reads_well;
use crate::fixture::{Fixture, server};
use crate::scripted_server::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Maximum number of bytes in flight before the peer notices that the client has closed.
const BUFFERED: usize = 80 * KIB;

/// Holds `count` semaphores of limit 3 on one connection until the value is dropped.
async fn hold(server: &Server, count: usize) -> impl Sized {
    let (read, mut write) = split(server.connector().connect("in-memory").await.unwrap());
    let ask = async {
        for n in 0..count {
            write
                .write_all(format!("sl\n{}\n0 3 30\n", key(n)).as_bytes())
                .await
                .unwrap();
        }
    };
    let mut lines = BufReader::new(read).lines();
    let granted = async {
        for _ in 0..count {
            assert!(lines.next_line().await.unwrap().unwrap().starts_with("ok "));
        }
    };
    tokio::join!(ask, granted);
    (lines, write)
}

fn key(n: usize) -> String {
    format!("a-key-as-long-as-those-of-programs-with-many-tenants-are/tenant-{n:05}")
}

// 20,000 keys exceed the 1 MiB that other replies may have.
#[tokio::test]
async fn stats_of_many_keys_are_read() {
    let fixture = Fixture::with_config(server().max_keys(30_000).build()).await;
    let holds = hold(&fixture.server, 20_000).await;
    let [stats] = &fixture.client.stats().await.unwrap()[..] else {
        panic!("one server")
    };
    assert_eq!(stats.semaphores.len(), 20_000);
    assert_eq!(stats.semaphores[19_999].key, key(19_999));
    drop(holds);
}

#[tokio::test]
async fn a_limit_mismatch_with_many_keys_names_the_other_limit() {
    let fixture = Fixture::with_config(server().max_keys(30_000).build()).await;
    let holds = hold(&fixture.server, 20_000).await;
    let error = fixture
        .client
        .semaphore(key(10_000), 5)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::LimitMismatch {
                ours: 5,
                theirs: Some(3),
                ..
            }
        ),
        "{error:?}"
    );
    // The error beyond the limit names the limit that the client knows.
    let client = fixture
        .server
        .client_builder()
        .connector(fixture.server.connector())
        .max_stats_size(MIB)
        .build()
        .unwrap();
    let error = client
        .semaphore(key(10_000), 5)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::LimitMismatch {
                ours: 5,
                theirs: None,
                ..
            }
        ),
        "{error:?}"
    );
    drop(holds);
}

/// Returns a `stats` reply of `size` bytes without its line feed. It lists `keys` idle keys if they
/// fit.
fn stats_reply(size: usize, keys: usize) -> String {
    let entry = r#"{"key":"idle","idle_s":0.25}"#;
    let (start, end) = (r#"ok {"connections":7,"idle_locks":["#, "]}");
    let room = size.saturating_sub(start.len() + end.len()) / (entry.len() + 1);
    let list = vec![entry; keys.min(room)].join(",");
    let pad = size - start.len() - list.len() - end.len();
    format!("{start}{list}{}{end}", " ".repeat(pad))
}

async fn stats(client: &Client) -> Result<usize, Error> {
    client.stats().await.map(|stats| stats[0].idle_locks.len())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_reply_within_the_size_limit_is_accepted(
        size in 1026..4000usize,
        room in prop_oneof![-2..=2isize, -3000..3000isize],
        keys in 0..90usize,
        byte_by_byte: bool,
    ) {
        let limit = size.saturating_add_signed(room).max(KIB);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let reply = stats_reply(size, keys);
            assert_eq!(reply.len(), size);
            let first = vec![expect(STATS), send(reply + "\n")];
            let second = vec![expect(STATS), send("ok {\"connections\":1}\n")];
            let fits = size <= limit;
            let script = if fits { vec![[first, second].concat()] } else { vec![first] };
            // The scripted server fails when the client closes in the middle of a send.
            let scripted_server = if byte_by_byte && fits {
                ScriptedServer::byte_by_byte(script)
            } else {
                ScriptedServer::memory(script)
            };
            let client = scripted_server.builder().max_stats_size(limit).build().unwrap();
            match stats(&client).await {
                Ok(listed) => {
                    assert!(fits, "{size} bytes are read with a limit of {limit}");
                    assert_eq!(listed, keys.min((size - 36) / 29));
                    assert_eq!(stats(&client).await.unwrap(), 0);
                }
                Err(error) => {
                    assert!(!fits, "{size} bytes are refused with a limit of {limit}: {error}");
                    let is_expected = matches!(
                        error,
                        Error::StatsTooLarge { limit: named, .. } if named == limit
                    );
                    assert!(is_expected, "{error:?}");
                    assert!(!error.is_retryable());
                    let limit = format!("{limit} bytes");
                    let address = scripted_server.address();
                    reads_well(&error, &["stats on", address, &limit, "`max_stats_size`"]);
                }
            }
            scripted_server.finish().await;
        });
    }
}

// Covers bugs T05, P14. The client reads up to the limit and no more than its buffer holds.
#[tokio::test]
async fn endless_stats_are_rejected_at_the_size_limit() {
    for limit in [KIB, KIB + 1, 300 * KIB, 3 * MIB] {
        let scripted_server = ScriptedServer::memory([vec![expect(STATS), send("ok {"), flood()]]);
        let client = scripted_server
            .builder()
            .max_stats_size(limit)
            .build()
            .unwrap();
        let error = client.stats().await.unwrap_err();
        assert!(
            matches!(error, Error::StatsTooLarge { limit: named, .. } if named == limit),
            "{error:?}"
        );
        // The bytes sent after the first four.
        let allowed = limit.saturating_sub(4)..2 * limit + BUFFERED;
        assert!(
            allowed.contains(&scripted_server.flooded()),
            "{limit}: {}",
            scripted_server.flooded()
        );
        scripted_server.finish().await;
    }
}

// A reply that does not begin like stats has the limit of any other reply.
#[tokio::test]
async fn an_invalid_stats_reply_has_the_size_limit_of_other_replies() {
    let scripted_server = ScriptedServer::memory([vec![expect(STATS), flood()]]);
    let error = scripted_server.client().stats().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    reads_well(
        &error,
        &[
            "stats on",
            scripted_server.address(),
            "xxxx",
            "over 1 MiB without a line feed",
        ],
    );
    assert!(
        (MIB..2 * MIB + MIB / 4).contains(&scripted_server.flooded()),
        "{}",
        scripted_server.flooded()
    );
    scripted_server.finish().await;
}

#[tokio::test]
async fn other_replies_have_a_limit_of_exactly_1_mib() {
    // Carriage returns before the line feed count towards the size and have no meaning.
    let padded = |line: &str, size: usize| {
        format!(
            "{}{}\n",
            line.trim_end(),
            "\r".repeat(size - line.trim_end().len())
        )
    };
    for (size, fits) in [(MIB, true), (MIB + 1, false)] {
        let release = vec![expect(RELEASE), send(OK)];
        let acquired = vec![expect(ACQUIRE), send(padded(GRANT, size))];
        let enqueued = vec![expect(ENQUEUE), send(padded(ACQUIRED, size))];
        let scripts = [acquired, enqueued].map(|script| {
            if fits {
                [script, release.clone()].concat()
            } else {
                script
            }
        });
        let scripted_server = ScriptedServer::memory(scripts);
        let pool = |max| {
            scripted_server
                .builder()
                .max_stats_size(max)
                .build()
                .unwrap()
                .semaphore("pool", 1)
                .unwrap()
        };
        // The limit is independent of the limit for stats.
        let acquired = pool(64 * MIB).acquire().await;
        let enqueued = pool(KIB).enqueue().await;
        assert_eq!((acquired.is_ok(), enqueued.is_ok()), (fits, fits), "{size}");
        if let (Ok(acquired), Ok(dflock::Enqueued::Acquired(enqueued))) = (acquired, enqueued) {
            acquired.release().await.unwrap();
            enqueued.release().await.unwrap();
        }
        scripted_server.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_shows_the_reply_before_the_advice() {
    for (line, shown, advice) in [
        (
            "HTTP/1.1 400 Bad Request\r\n",
            "HTTP/1.1 400 Bad Request",
            "this is HTTP",
        ),
        (
            "SSH-2.0-OpenSSH_9.6\r\n",
            "SSH-2.0-OpenSSH_9.6",
            "host and port of a dflockd server",
        ),
        (
            "\x15\x03\x01\0\x02\x02\x46",
            "\\u{15}\\u{3}\\u{1}",
            "give the client `tls`",
        ),
        ("queued\n", "\"queued\"", "a version that this client knows"),
        (
            "ok {\"connections\":-1}\n",
            "ok {\\\"connections\\\":-1}",
            "a version that this client knows",
        ),
    ] {
        let scripted_server = ScriptedServer::memory([vec![expect(ACQUIRE), send(line)]]);
        let error = scripted_server.pool().acquire().await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        let received = format!(
            "the server answered {}",
            if shown.starts_with('"') {
                shown.to_owned()
            } else {
                format!("\"{shown}")
            }
        );
        reads_well(
            &error,
            &[
                "acquire",
                scripted_server.address(),
                &received,
                "no reply to acquire",
                advice,
            ],
        );
        let text = error.to_string();
        assert!(text.find(&received) < text.find(advice), "{text}");
        assert_eq!(text.contains("`tls`"), line.starts_with('\x15'), "{text}");
        scripted_server.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_reply_is_shown_in_the_error() {
    let scripted_server = ScriptedServer::memory([
        vec![expect(ACQUIRE), send("HTTP/1.1 4"), close()],
        vec![expect(ACQUIRE), close()],
    ]);
    let error = scripted_server.pool().acquire().await.unwrap_err();
    let Error::Disconnected {
        source: Some(source),
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    reads_well(source, &["in the middle of a reply", "\"HTTP/1.1 4\""]);
    reads_well(
        &error,
        &["acquire", "the connection ended before the answer came"],
    );
    assert!(error.is_retryable());
    let error = scripted_server.pool().acquire().await.unwrap_err();
    assert!(
        matches!(error, Error::Disconnected { source: None, .. }),
        "{error:?}"
    );
    scripted_server.finish().await;
}

// The server echoes the auth token without a line feed.
#[tokio::test(start_paused = true)]
async fn a_reply_to_the_auth_request_is_redacted() {
    for line in ["hush", "hush\n", "\x15\x03hush\n"] {
        let scripted_server = ScriptedServer::memory([vec![expect(AUTH), send(line), close()]]);
        let client = scripted_server.builder().auth("hush").build().unwrap();
        let error = client.ping().await.unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(
            !format!("{error} {error:?} {source:?}").contains("hush"),
            "{error:?}"
        );
        scripted_server.finish().await;
    }
}

// A slow stats reply has the timeout of any reply.
#[tokio::test(start_paused = true)]
async fn stats_have_the_socket_timeout() {
    let scripted_server = ScriptedServer::memory([vec![expect(STATS), send("ok {"), expect_eof()]]);
    let client = scripted_server
        .builder()
        .socket_timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let error = client.stats().await.unwrap_err();
    assert!(
        matches!(error, Error::Unresponsive { limit, .. } if limit == Duration::from_secs(3)),
        "{error:?}"
    );
    scripted_server.finish().await;
}
