//! Stats of many keys, and the longest replies that are read.

use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Connector, Error};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, split};

use crate::bad_input::reads_well;
use crate::house::{House, server};
use crate::peer::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The most that is sent before the client is noticed to have closed: the room between the two.
const UNDERWAY: usize = 80 * KIB;

/// Holds `count` semaphores of the limit 3 on one connection, until the value is dropped.
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

// 20,000 keys took more than the 1 MiB of other replies
#[tokio::test]
async fn stats_of_many_keys_are_read() {
    let house = House::with(server().max_keys(30_000).build()).await;
    let holds = hold(&house.server, 20_000).await;
    let [stats] = &house.client.stats().await.unwrap()[..] else {
        panic!("one server")
    };
    assert_eq!(stats.semaphores.len(), 20_000);
    assert_eq!(stats.semaphores[19_999].key, key(19_999));
    drop(holds);
}

#[tokio::test]
async fn a_limit_mismatch_among_many_keys_names_the_other_limit() {
    let house = House::with(server().max_keys(30_000).build()).await;
    let holds = hold(&house.server, 20_000).await;
    let error = house
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
    // over the limit the error names what it knows
    let client = house
        .server
        .client_builder()
        .connector(house.server.connector())
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

/// A reply to `stats` of `size` bytes, its line feed not counted, that lists `keys` idle keys if there is room.
fn stats_of(size: usize, keys: usize) -> String {
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
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reply_within_its_limit_is_refused_for_its_size(
        size in 1026..4000usize,
        room in prop_oneof![-2..=2isize, -3000..3000isize],
        keys in 0..90usize,
        byte_by_byte: bool,
    ) {
        let limit = size.saturating_add_signed(room).max(KIB);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let reply = stats_of(size, keys);
            assert_eq!(reply.len(), size);
            let (first, again) = (vec![hear(STATS), say(reply + "\n")], vec![hear(STATS), say("ok {\"connections\":1}\n")]);
            let (fits, script) = if size <= limit { (true, vec![[first, again].concat()]) } else { (false, vec![first]) };
            // a peer that is cut off in the middle would take it for a fault
            let peer = if byte_by_byte && fits { Peer::byte_by_byte(script) } else { Peer::memory(script) };
            let client = peer.builder().max_stats_size(limit).build().unwrap();
            match stats(&client).await {
                Ok(listed) => {
                    assert!(fits, "{size} bytes are read with a limit of {limit}");
                    assert_eq!(listed, keys.min((size - 36) / 29));
                    assert_eq!(stats(&client).await.unwrap(), 0);
                }
                Err(error) => {
                    assert!(!fits, "{size} bytes are refused with a limit of {limit}: {error}");
                    assert!(matches!(error, Error::StatsTooLarge { limit: named, .. } if named == limit), "{error:?}");
                    assert!(!error.is_retryable());
                    let limit = format!("{limit} bytes");
                    reads_well(&error, &["stats on", peer.address(), &limit, "`max_stats_size`"]);
                }
            }
            peer.finish().await;
        });
    }
}

// T05, P14: as much is read as the limit says, and no more than the room for it
#[tokio::test]
async fn stats_without_end_are_cut_off_at_their_limit() {
    for limit in [KIB, KIB + 1, 300 * KIB, 3 * MIB] {
        let peer = Peer::memory([vec![hear(STATS), say("ok {"), flood()]]);
        let client = peer.builder().max_stats_size(limit).build().unwrap();
        let error = client.stats().await.unwrap_err();
        assert!(
            matches!(error, Error::StatsTooLarge { limit: named, .. } if named == limit),
            "{error:?}"
        );
        // what is sent behind the first four bytes
        let taken = limit.saturating_sub(4)..2 * limit + UNDERWAY;
        assert!(
            taken.contains(&peer.flooded()),
            "{limit}: {}",
            peer.flooded()
        );
        peer.finish().await;
    }
}

// what is not the beginning of stats gets no more room than any other reply
#[tokio::test]
async fn garbage_in_place_of_stats_is_cut_off_as_elsewhere() {
    let peer = Peer::memory([vec![hear(STATS), flood()]]);
    let error = peer.client().stats().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    reads_well(
        &error,
        &[
            "stats on",
            peer.address(),
            "xxxx",
            "over 1 MiB without a line feed",
        ],
    );
    assert!(
        (MIB..2 * MIB + MIB / 4).contains(&peer.flooded()),
        "{}",
        peer.flooded()
    );
    peer.finish().await;
}

#[tokio::test]
async fn other_replies_have_1_mib_to_the_byte() {
    // carriage returns before the line feed count, and mean nothing
    let padded = |line: &str, size: usize| {
        format!(
            "{}{}\n",
            line.trim_end(),
            "\r".repeat(size - line.trim_end().len())
        )
    };
    for (size, fits) in [(MIB, true), (MIB + 1, false)] {
        let release = vec![hear(RELEASE), say(OK)];
        let acquired = vec![hear(ACQUIRE), say(padded(GRANT, size))];
        let enqueued = vec![hear(ENQUEUE), say(padded(ACQUIRED, size))];
        let scripts = [acquired, enqueued].map(|script| {
            if fits {
                [script, release.clone()].concat()
            } else {
                script
            }
        });
        let peer = Peer::memory(scripts);
        let pool = |max| {
            peer.builder()
                .max_stats_size(max)
                .build()
                .unwrap()
                .semaphore("pool", 1)
                .unwrap()
        };
        // neither a higher limit for stats nor a lower one changes it
        let acquired = pool(64 * MIB).acquire().await;
        let enqueued = pool(KIB).enqueue().await;
        assert_eq!((acquired.is_ok(), enqueued.is_ok()), (fits, fits), "{size}");
        if let (Ok(acquired), Ok(dflock::Enqueued::Acquired(enqueued))) = (acquired, enqueued) {
            acquired.release().await.unwrap();
            enqueued.release().await.unwrap();
        }
        peer.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_says_what_was_received_before_what_to_do() {
    for (said, shown, advice) in [
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
        let peer = Peer::memory([vec![hear(ACQUIRE), say(said)]]);
        let error = peer.pool().acquire().await.unwrap_err();
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
                peer.address(),
                &received,
                "no reply to acquire",
                advice,
            ],
        );
        let text = error.to_string();
        assert!(text.find(&received) < text.find(advice), "{text}");
        assert_eq!(text.contains("`tls`"), said.starts_with('\x15'), "{text}");
        peer.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_breaks_off_is_shown_as_far_as_it_came() {
    let peer = Peer::memory([
        vec![hear(ACQUIRE), say("HTTP/1.1 4"), close()],
        vec![hear(ACQUIRE), close()],
    ]);
    let error = peer.pool().acquire().await.unwrap_err();
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
    let error = peer.pool().acquire().await.unwrap_err();
    assert!(
        matches!(error, Error::Disconnected { source: None, .. }),
        "{error:?}"
    );
    peer.finish().await;
}

// a server that repeats the secret, with no line behind it
#[tokio::test(start_paused = true)]
async fn an_answer_to_the_secret_is_not_shown() {
    for said in ["hush", "hush\n", "\x15\x03hush\n"] {
        let peer = Peer::memory([vec![hear(AUTH), say(said), close()]]);
        let client = peer.builder().auth("hush").build().unwrap();
        let error = client.ping().await.unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(
            !format!("{error} {error:?} {source:?}").contains("hush"),
            "{error:?}"
        );
        peer.finish().await;
    }
}

// the time of a slow reply is that of any reply
#[tokio::test(start_paused = true)]
async fn stats_have_the_socket_timeout() {
    let peer = Peer::memory([vec![hear(STATS), say("ok {"), hear_end()]]);
    let client = peer
        .builder()
        .socket_timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let error = client.stats().await.unwrap_err();
    assert!(
        matches!(error, Error::Unresponsive { limit, .. } if limit == Duration::from_secs(3)),
        "{error:?}"
    );
    peer.finish().await;
}
