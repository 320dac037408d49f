//! Fuzz targets: properties that hold for any bytes.
//!
//! The property tests and the test of the corpus call the same functions.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "test code, which is not part of a release"
)]

mod session;

use crate::server;
use crate::wire::{LineBuffer, MAX_AUTH_TOKEN, MAX_LINE, MAX_REPLY, Malformed, Reply, Request};
use session::run_session;

/// Checks that a decoded reply survives encoding and decoding, and is encoded as one valid line.
pub fn reply(bytes: &[u8]) {
    // Decoding must not panic, even if the bytes contain line feeds.
    let _ = Reply::decode(bytes);
    for line in split_lines(bytes, MAX_REPLY) {
        let Ok(reply) = Reply::decode(&line) else {
            continue;
        };
        let mut encoded = Vec::new();
        reply.encode(&mut encoded);
        let received = split_lines(&encoded, MAX_REPLY);
        assert_eq!(received.len(), 1, "{reply:?} is not one line");
        match (Reply::decode(&received[0]), reply) {
            // JSON parsing may change the last digit of a time.
            (Ok(Reply::Stats(decoded)), Reply::Stats(stats)) => {
                assert_eq!(decoded.semaphores, stats.semaphores);
            }
            (decoded, reply) => assert_eq!(decoded, Ok(reply)),
        }
    }
}

/// Checks that a decoded request survives encoding and decoding, and is encoded as three valid
/// lines.
pub fn request(bytes: &[u8]) {
    for lines in split_lines(bytes, MAX_AUTH_TOKEN).chunks_exact(3) {
        let Some(Ok(request)) = decode(lines) else {
            continue;
        };
        let mut encoded = Vec::new();
        request.encode(&mut encoded);
        let cap = if matches!(request, Request::Auth { .. }) {
            MAX_AUTH_TOKEN
        } else {
            MAX_LINE
        };
        let received = split_lines(&encoded, cap);
        assert_eq!(received.len(), 3, "{request:?} is not three lines");
        assert_eq!(decode(&received), Some(Ok(request)));
    }
}

/// Checks that the size of the reads does not change the lines of a stream.
///
/// The lines end at the first one that is longer than the cap. The buffer never has more than twice
/// the capacity of the lines that have not been taken. The first two bytes are the cap, and the
/// third is the seed of the chunk sizes.
pub fn lines(bytes: &[u8]) {
    let [high, low, seed, stream @ ..] = bytes else {
        return;
    };
    let (cap, mut sizes) = (
        usize::from(u16::from_be_bytes([*high, *low])),
        ChunkSizes(u64::from(*seed)),
    );
    let mut lines = LineBuffer::default();
    let mut taken = Vec::new();
    let mut rest = stream;
    let mut is_readable = true;
    let mut max_untaken = 0;
    while is_readable && !rest.is_empty() {
        let (chunk, remaining) = rest.split_at(sizes.next().min(rest.len()));
        lines.append(chunk);
        rest = remaining;
        max_untaken = lines.len().max(max_untaken);
        assert!(
            lines.capacity() <= 2 * max_untaken.max(256),
            "{} bytes for {max_untaken}",
            lines.capacity()
        );
        // The reader does not always take the lines after a read.
        if rest.is_empty() || sizes.next() % 4 > 0 {
            is_readable = take_all(&mut lines, cap, &mut taken);
        }
        if lines.is_empty() {
            lines.spare_capacity();
            assert!(lines.capacity() <= 2 * 256, "the buffer did not shrink");
            max_untaken = 0;
        }
    }
    let (expected, expected_readable) = expected_lines(stream, cap);
    assert_eq!(taken, expected, "cap {cap}");
    assert_eq!(is_readable, expected_readable, "cap {cap}");
}

/// Runs operations on the server's table and checks its invariants after each.
pub fn table(bytes: &[u8]) {
    server::model::run(bytes);
}

/// Runs clients that send any bytes to a server.
///
/// It sleeps for seconds, so the caller should pause the clock of its runtime.
pub async fn session(bytes: &[u8]) {
    run_session(bytes).await;
}

/// Takes all complete lines. Returns whether no line was longer than the cap.
fn take_all(lines: &mut LineBuffer, cap: usize, taken: &mut Vec<Vec<u8>>) -> bool {
    loop {
        match lines.next_line(cap) {
            Ok(Some(line)) => taken.push(line.to_vec()),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Returns the complete lines in `bytes`.
fn split_lines(bytes: &[u8], cap: usize) -> Vec<Vec<u8>> {
    let (mut lines, mut taken) = (LineBuffer::default(), Vec::new());
    lines.append(bytes);
    take_all(&mut lines, cap, &mut taken);
    taken
}

/// Reference implementation of [`take_all`] for a whole stream.
fn expected_lines(stream: &[u8], cap: usize) -> (Vec<Vec<u8>>, bool) {
    let mut parts: Vec<_> = stream.split(|&b| b == b'\n').collect();
    let too_long = parts.iter().position(|part| part.len() > cap);
    parts.truncate(too_long.unwrap_or(parts.len() - 1));
    let without_returns = |part: &[u8]| {
        part[..part
            .iter()
            .rposition(|&b| b != b'\r')
            .map_or(0, |last| last + 1)]
            .to_vec()
    };
    (
        parts.into_iter().map(without_returns).collect(),
        too_long.is_none(),
    )
}

fn decode(lines: &[Vec<u8>]) -> Option<Result<Request<'_>, Malformed>> {
    let [command, key, argument] = lines else {
        return None;
    };
    let text = |line| std::str::from_utf8(line).ok();
    Some(Request::decode(text(command)?, text(key)?, text(argument)?))
}

/// Pseudo-random sizes of reads.
struct ChunkSizes(u64);

impl ChunkSizes {
    /// Returns the next size. Most are small; some are larger than the buffer of a read.
    fn next(&mut self) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (size, kind) = ((self.0 >> 33) as usize, self.0 >> 61);
        1 + size % if kind == 0 { 600 } else { 9 }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const REPLY: &str =
        "(ok|acquired|queued|timeout|error)[_a-z]{0,9} ?[0-9a-f]{0,33} ?[-0-9.x]{0,12}\r?\n";
    /// Replies with fields that may be a fence.
    const FENCED: &str =
        "(ok|acquired)( [0-9a-f]{32})?( [0-9]{1,11})?( [-+ ]?[0-9]{1,20}x?){0,2}\n";
    const REQUEST: &str =
        "((s?[lewrn])|auth|ping|stats|\\PC{0,4})\r?\n\\PC{0,9}\r?\n[-0-9a-z \\PC]{0,40}\r?\n";
    /// Acquire and enqueue requests on few keys, so that the clients share keys.
    const TURN: &str = "(s[lew]\n[ab]\n([0-3]|9999)( [12]){0,2}\n\
        |[lew]\n[ab]\n([0-3]|9999)?( [1-3])?\n|stats\n\n\n|ping\n\n\n)";

    fn session(bytes: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(super::session(bytes));
    }

    proptest! {
        #[test]
        fn a_decoded_reply_is_what_was_sent(text in prop::collection::vec(REPLY, 1..9)) {
            reply(text.concat().as_bytes());
        }

        #[test]
        fn a_decoded_fence_is_what_was_sent(text in prop::collection::vec(FENCED, 1..9)) {
            reply(text.concat().as_bytes());
        }

        #[test]
        fn a_decoded_request_is_what_was_sent(text in prop::collection::vec(REQUEST, 1..9)) {
            request(text.concat().as_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            reply(&bytes);
            request(&bytes);
            session(&bytes);
        }

        // T03, T27
        #[test]
        fn read_sizes_do_not_change_lines(
            cap in 0..600_u16,
            seed in any::<u8>(),
            text in "([a-c☃\r\n]{0,200}|[a-c]{0,700}\n){0,9}",
        ) {
            lines(&[&cap.to_be_bytes()[..], &[seed], text.as_bytes()].concat());
        }

        #[test]
        fn disconnected_clients_leave_no_state(
            start in "[!*]?",
            turns in prop::collection::vec(TURN, 0..40),
        ) {
            let turns: Vec<_> = turns.iter().map(String::as_bytes).collect();
            session(&[start.as_bytes(), &turns.join(&0xff)].concat());
        }
    }

    /// Runs a target on every case of its corpus: the seeds, and inputs that once failed.
    fn replay(name: &str, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let mut cases: Vec<_> = std::fs::read_dir(corpus)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        cases.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
        assert!(!cases.is_empty(), "no case for {name}");
        for case in cases {
            // The output is shown only if the test fails.
            println!("{}", case.display());
            target(&std::fs::read(case).unwrap());
        }
    }

    #[test]
    fn the_corpus_of_every_target_passes() {
        // A published package has no corpus. Cargo adds this file to packages only.
        if Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("Cargo.toml.orig")
            .exists()
        {
            // Written directly, because the harness hides the output of passing tests.
            let skipped = b"test fuzzing::target ... skipped: a package has no corpus\n";
            return std::io::Write::write_all(&mut std::io::stderr(), skipped).unwrap();
        }
        replay("reply", reply);
        replay("request", request);
        replay("lines", lines);
        replay("table", table);
        replay("session", session);
    }
}
