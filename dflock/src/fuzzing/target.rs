//! An entry for each fuzz target, for the property tests and for the replay of the corpus.

use super::feed;
use super::session::run_session;
use crate::server;
use crate::wire::{Lines, MAX_LINE, MAX_REPLY, MAX_SECRET, Reply, Request};

/// What decodes as a reply decodes to the same when it is sent on, and is one line that a client takes.
pub fn reply(bytes: &[u8]) {
    // no bytes panic, with line feeds or without
    let _ = Reply::decode(bytes);
    for line in all(bytes, MAX_REPLY) {
        let Ok(reply) = Reply::decode(&line) else {
            continue;
        };
        let mut sent = Vec::new();
        reply.encode(&mut sent);
        let heard = all(&sent, MAX_REPLY);
        assert_eq!(heard.len(), 1, "{reply:?} is not one line");
        match (Reply::decode(&heard[0]), reply) {
            // the last digit of a time may differ, as JSON is read
            (Ok(Reply::Stats(again)), Reply::Stats(stats)) => {
                assert_eq!(again.semaphores, stats.semaphores);
            }
            (again, reply) => assert_eq!(again, Ok(reply)),
        }
    }
}

/// What decodes as a request decodes to the same when it is sent on, and is three lines that a server takes.
pub fn request(bytes: &[u8]) {
    for lines in all(bytes, MAX_SECRET).chunks_exact(3) {
        let Some(Ok(request)) = decode(lines) else {
            continue;
        };
        let mut sent = Vec::new();
        request.encode(&mut sent);
        let cap = if matches!(request, Request::Auth { .. }) {
            MAX_SECRET
        } else {
            MAX_LINE
        };
        let heard = all(&sent, cap);
        assert_eq!(heard.len(), 3, "{request:?} is not three lines");
        assert_eq!(decode(&heard), Some(Ok(request)));
    }
}

/// However a stream is cut, the lines are those between the line feeds, up to the first that is over the cap; and no more is kept
/// than what has not been taken, doubled. The first two bytes are the cap, and the third says where to cut.
pub fn lines(bytes: &[u8]) {
    let [high, low, cuts, stream @ ..] = bytes else {
        return;
    };
    let (cap, mut cuts) = (
        usize::from(u16::from_be_bytes([*high, *low])),
        Cuts(u64::from(*cuts)),
    );
    let mut lines = Lines::default();
    let mut taken = Vec::new();
    let mut rest = stream;
    let mut is_whole = true;
    let mut untaken_at_most = 0;
    while is_whole && !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().min(rest.len()));
        feed(&mut lines, now);
        rest = later;
        untaken_at_most = lines.len().max(untaken_at_most);
        assert!(
            lines.capacity() <= 2 * untaken_at_most.max(256),
            "{} bytes for {untaken_at_most}",
            lines.capacity()
        );
        // a reader may have more to do than to take
        if rest.is_empty() || cuts.next() % 4 > 0 {
            is_whole = take_all(&mut lines, cap, &mut taken);
        }
        if lines.is_empty() {
            lines.room();
            assert!(lines.capacity() <= 2 * 256, "memory is not given back");
            untaken_at_most = 0;
        }
    }
    let (expected, expected_whole) = split(stream, cap);
    assert_eq!(taken, expected, "cap {cap}");
    assert_eq!(is_whole, expected_whole, "cap {cap}");
}

/// Operations on the server's table, with the promises checked after each.
pub fn table(bytes: &[u8]) {
    server::model::run(bytes);
}

/// Connections that say anything to a server. It waits for seconds, so the clock should be paused: the caller's, for only tests have one.
pub async fn session(bytes: &[u8]) {
    run_session(bytes).await;
}

/// Takes what there is, and says whether the stream can be read on.
fn take_all(lines: &mut Lines, cap: usize, taken: &mut Vec<Vec<u8>>) -> bool {
    loop {
        match lines.take(cap) {
            Ok(Some(line)) => taken.push(line.to_vec()),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// The whole lines in `bytes`.
fn all(bytes: &[u8], cap: usize) -> Vec<Vec<u8>> {
    let (mut lines, mut taken) = (Lines::default(), Vec::new());
    feed(&mut lines, bytes);
    take_all(&mut lines, cap, &mut taken);
    taken
}

/// The same as simply as it can be said: the lines, and whether the stream can be read on.
fn split(stream: &[u8], cap: usize) -> (Vec<Vec<u8>>, bool) {
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

fn decode(lines: &[Vec<u8>]) -> Option<Result<Request<'_>, crate::wire::Malformed>> {
    let [command, key, argument] = lines else {
        return None;
    };
    let text = |line| std::str::from_utf8(line).ok();
    Some(Request::decode(text(command)?, text(key)?, text(argument)?))
}

/// Where a stream is cut, all from one number.
struct Cuts(u64);

impl Cuts {
    /// Most are short; some are more than the room of a read.
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
    /// Replies with a number of fields that are or are not a fence.
    const FENCED: &str =
        "(ok|acquired)( [0-9a-f]{32})?( [0-9]{1,11})?( [-+ ]?[0-9]{1,20}x?){0,2}\n";
    const REQUEST: &str =
        "((s?[lewrn])|auth|ping|stats|\\PC{0,4})\r?\n\\PC{0,9}\r?\n[-0-9a-z \\PC]{0,40}\r?\n";
    /// What may be granted, so that connections meet.
    const ROUND: &str = "(s[lew]\n[ab]\n([0-3]|9999)( [12]){0,2}\n|[lew]\n[ab]\n([0-3]|9999)?( [1-3])?\n|stats\n\n\n|ping\n\n\n)";

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
        fn what_is_taken_for_a_reply_is_what_was_sent(text in prop::collection::vec(REPLY, 1..9)) {
            reply(text.concat().as_bytes());
        }

        #[test]
        fn a_fence_is_what_was_sent(text in prop::collection::vec(FENCED, 1..9)) {
            reply(text.concat().as_bytes());
        }

        #[test]
        fn what_is_taken_for_a_request_is_what_was_sent(text in prop::collection::vec(REQUEST, 1..9)) {
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
        fn cuts_do_not_matter(cap in 0..600_u16, cuts in any::<u8>(), text in "([a-c☃\r\n]{0,200}|[a-c]{0,700}\n){0,9}") {
            lines(&[&cap.to_be_bytes()[..], &[cuts], text.as_bytes()].concat());
        }

        #[test]
        fn nobody_leaves_anything(start in "[!*]?", turns in prop::collection::vec(ROUND, 0..40)) {
            let turns: Vec<_> = turns.iter().map(String::as_bytes).collect();
            session(&[start.as_bytes(), &turns.join(&0xff)].concat());
        }
    }

    /// Plays every named case of a target: the seeds, and what was ever found.
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
            // shown when it fails
            println!("{}", case.display());
            target(&std::fs::read(case).unwrap());
        }
    }

    #[test]
    fn the_corpus_of_every_target_passes() {
        // a package has no corpus: cargo puts this file into it, and into no checkout
        if Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("Cargo.toml.orig")
            .exists()
        {
            // past the harness, which hides the output of tests that pass
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
