//! Wire protocol conformance. Transcripts recorded from a real dflockd run against the embedded
//! server, or against the program that `DFLOCK_CONFORMANCE_SERVER` names.

mod options;
mod runner;
mod server_under_test;
mod transcript;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use runner::run;
use server_under_test::ServerUnderTest;
use transcript::Transcript;

macro_rules! transcripts {
    ($($name:ident: $file:literal,)*) => {
        const LISTED: &[&str] = &[$($file),*];

        $(
            #[tokio::test]
            async fn $name() {
                let path = transcripts().join($file);
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                if let Err(failure) = replay($file, &text).await {
                    panic!("{failure}");
                }
            }
        )*
    };
}

transcripts! {
    acquire_release: "01-acquire-release.txt",
    limit: "02-limit.txt",
    fifo: "03-fifo.txt",
    limit_mismatch: "04-limit-mismatch.txt",
    two_phase: "05-two-phase.txt",
    wait_timeout: "06-wait-timeout.txt",
    disconnect_keeps: "08-disconnect-keeps.txt",
    lease_expiry: "09-lease-expiry.txt",
    renew_keeps: "10-renew-keeps.txt",
    bad_requests: "11-bad-requests.txt",
    odd_keys: "13-odd-keys.txt",
    read_timeout: "14-read-timeout.txt",
    auth: "16-auth.txt",
    max_locks: "17-max-locks.txt",
    max_waiters: "18-max-waiters.txt",
    other_connection: "20-other-connection.txt",
    lock: "21-lock.txt",
    stats: "22-stats.txt",
    default_lease: "24-default-lease.txt",
}

fn transcripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

/// Replays one transcript on a new server. The error contains file, line and mismatch.
async fn replay(file: &str, text: &str) -> Result<(), String> {
    let transcript = Transcript::parse(file, text).map_err(|error| error.to_string())?;
    let server = ServerUnderTest::start(&transcript.options)
        .await
        .map_err(|error| format!("{file}: {error}"))?;
    run(&transcript, server.addr())
        .await
        .map_err(|failure| failure.to_string())
}

#[test]
fn every_transcript_is_listed() {
    let listed: BTreeSet<String> = LISTED.iter().map(ToString::to_string).collect();
    let found: BTreeSet<String> = std::fs::read_dir(transcripts())
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .unwrap_or_else(|error| panic!("{}: {error}", transcripts().display()));
    assert_eq!(
        listed, found,
        "the list in this file (left) against the directory (right)"
    );
}

#[tokio::test]
async fn a_mismatch_is_reported_with_its_line() {
    let cases = [
        (
            "a > sl | k | 0 1 30\na < timeout",
            r#"wrong:2: expected "timeout", received "ok "#,
        ),
        (
            "a > sl | k | 0 1 30\na < ok $t1",
            r#"wrong:2: expected "ok $t1", received "ok "#,
        ),
        (
            "a > sl | k | 0 1 30\na < $t1 ok 30",
            r#"wrong:2: expected "$t1 ok 30", received "ok "#,
        ),
        (
            "a > sl | k | 0 1 30\na <* error",
            r#"wrong:2: expected "error..", received "ok "#,
        ),
        (
            "a > sl | k | 0 1 30\n\n# silence\na <? 5",
            r#"wrong:4: expected silence for 5s, received "ok "#,
        ),
        (
            "a > sl | k | 0 1 30\na < EOF",
            r#"wrong:2: expected the end, received "ok "#,
        ),
        (
            "@server --auth-token s\na > sl | k | 0 1\na < error_auth\na < error",
            r#"wrong:4: expected "error", received the end"#,
        ),
        (
            "a > se | k | 1\na < acquired $t1 33\na > sw | k | 0\na < ok $t2 33",
            r#"wrong:4: expected "ok $t2 33", received "ok "#,
        ),
        (
            "a > sl | k | 0 2\na < ok $t1 33\na > sl | k | 0 2\na < ok $t1 33",
            r#"wrong:4: expected "ok $t1 33", received "ok "#,
        ),
        (
            "a close",
            "wrong:1: expected to close `a`, received no open connection of that name",
        ),
    ];
    for (text, expected) in cases {
        match replay("wrong", text).await {
            Ok(()) => panic!("accepted a wrong transcript:\n{text}"),
            Err(failure) => assert!(failure.starts_with(expected), "{failure}\n{text}"),
        }
    }
}

#[tokio::test]
async fn raw_bytes_are_sent_unchanged() {
    let text = r"
a raw sl\r\nkey\r\n0 1 30\r\nsl\nk\x65y\n0 1\n  # two requests in one segment
a < ok $t1 30
a < timeout
b raw sr\nkey\n$t1\n
b < ok
b raw sl\nx*300\n0 1\n
b < error
b < EOF
";
    if let Err(failure) = replay("raw", text).await {
        panic!("{failure}");
    }
}

#[test]
fn a_parse_error_names_file_and_line() {
    let cases = [
        (
            "# fine\na",
            "bad:2: a step is `NAME ACTION ..`, `sleep SECONDS` or `@server FLAGS`",
        ),
        ("a ? x", "bad:1: unknown step `?`"),
        ("@sever --max-locks 2", "bad:1: unknown word `@sever`"),
        (
            "@server --max-lock 2",
            "bad:1: unknown server flag `--max-lock`",
        ),
        ("@server --max-locks", "bad:1: `--max-locks` needs a value"),
        (
            "@server --max-locks two",
            "bad:1: `--max-locks` cannot be `two`",
        ),
        (
            "@server --auto-release-on-disconnect false",
            "bad:1: `--auto-release-on-disconnect` needs `=true` or `=false`",
        ),
        ("sleep -1", "bad:1: `-1` is not a number of seconds"),
        ("a <? soon", "bad:1: `soon` is not a number of seconds"),
        (
            "a > sl | key",
            "bad:1: a request has 3 lines, this one has 2",
        ),
        ("a > sr | key | $t1", "bad:1: no earlier reply binds `$t1`"),
        ("a < ok $ 30", "bad:1: a token needs a name after its `$`"),
        (r"a raw \q", r"bad:1: unknown escape `\q`"),
        (r"a raw \x4", r"bad:1: `\x` needs two hex digits"),
        (r"a raw \n*3", "bad:1: an escape cannot be repeated"),
    ];
    for (text, expected) in cases {
        match Transcript::parse("bad", text) {
            Ok(transcript) => panic!("parsed an invalid transcript: {text}\n{transcript:?}"),
            Err(error) => assert_eq!(error.to_string(), expected),
        }
    }
}
