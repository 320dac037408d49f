//! The auth token is the first request of every new connection, and is sent nowhere else.

use std::time::Duration;

use dflock::{AuthErrorKind, Client, ClientBuilder, ConfigError, Error, Operation};
use tokio::time::Instant;

use crate::bad_input::reads_well;
use crate::scripted_server::*;
use crate::tls::temp_dir::TempDir;

fn client_with_auth_token(server: &ScriptedServer) -> Client {
    server.builder().auth("hush").build().unwrap()
}

// Covers bug G27. Tested with every operation that opens a connection.
#[tokio::test]
async fn the_auth_token_is_sent_first_and_once_per_connection() {
    let hello = [expect(AUTH), send(OK)];
    let with = |rest: &[Step]| [&hello, rest].concat();
    let server = ScriptedServer::memory([
        with(&[
            expect(PING),
            send(OK),
            expect(ACQUIRE),
            send(GRANT),
            wait_for_test(),
            expect(RELEASE),
            send(OK),
            expect(PING),
            send(OK),
        ]),
        with(&[
            expect(STATS),
            send("ok {\"connections\":1}\n"),
            expect(ENQUEUE),
            send(ACQUIRED),
            expect(RELEASE),
            send(OK),
        ]),
    ]);
    let client = client_with_auth_token(&server);
    let pool = client.semaphore("pool", 1).unwrap();
    client.ping().await.unwrap();
    let held = pool.clone().acquire().await.unwrap();
    client.stats().await.unwrap();
    pool.enqueue()
        .await
        .unwrap()
        .wait()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    server.resume();
    held.release().await.unwrap();
    client.ping().await.unwrap();
    server.finish().await;
}

// Covers bug T37.
#[tokio::test]
async fn an_empty_auth_token_is_not_sent() {
    let server = ScriptedServer::memory([vec![expect(PING), send(OK)]]);
    server
        .builder()
        .auth("")
        .build()
        .unwrap()
        .ping()
        .await
        .unwrap();
    server.finish().await;
}

// Covers bugs T13, N11. The client closes the connection, and the error does not contain the token.
#[tokio::test]
async fn a_rejected_auth_token_is_an_authentication_error() {
    for (reply, expected) in [
        ("error_auth\n", AuthErrorKind::Wrong { long: false }),
        ("error\n", AuthErrorKind::Unneeded),
    ] {
        let server = ScriptedServer::memory([vec![expect(AUTH), send(reply), expect_eof()]]);
        let client = client_with_auth_token(&server);
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Auth { kind, .. } if *kind == expected),
            "{error:?}"
        );
        assert!(error.is_auth() && !error.is_retryable());
        assert_eq!(
            (error.operation(), error.key(), error.server()),
            (Some(Operation::Auth), Some("pool"), Some(server.address()))
        );
        assert!(!format!("{error} {error:?} {client:?}").contains("hush"));
        assert!(!error.to_string().contains("256"), "{error}");
        server.finish().await;
    }
}

// Servers before v1.15 reply `error` to a line of more than 256 bytes. Newer servers reply so to an
// auth token that they do not require.
#[tokio::test]
async fn an_auth_token_too_long_for_old_servers_is_reported() {
    for (length, reply, expected) in [
        (256, "error\n", AuthErrorKind::Unneeded),
        (257, "error\n", AuthErrorKind::TooLong),
        (256, "error_auth\n", AuthErrorKind::Wrong { long: false }),
        (257, "error_auth\n", AuthErrorKind::Wrong { long: true }),
    ] {
        let auth_token = "hush".repeat(65)[..length].to_owned();
        for end in [expect_eof(), close()] {
            let server = ScriptedServer::memory([vec![
                expect(format!("auth\n_\n{auth_token}\n")),
                send(reply),
                end,
            ]]);
            let error = server
                .builder()
                .auth(&auth_token)
                .build()
                .unwrap()
                .ping()
                .await
                .unwrap_err();
            assert!(
                matches!(&error, Error::Auth { kind, .. } if *kind == expected),
                "{length} bytes, {reply:?}: {error:?}"
            );
            let old = length > 256;
            reads_well(
                &error,
                if old {
                    &["auth", "servers before v1.15", "more than 256 bytes"]
                } else {
                    &["auth"]
                },
            );
            assert_eq!(error.to_string().contains("256"), old, "{error}");
            server.finish().await;
        }
    }
}

// Covers bug T13. The server disconnects, echoes the token or sends an invalid reply.
#[tokio::test]
async fn an_invalid_auth_reply_does_not_reveal_the_auth_token() {
    for (reply, end) in [
        ("", close()),
        ("", half_close()),
        ("auth\n_\nhush\n", expect_eof()),
        ("HTTP/1.1 400 Bad Request\r\n", expect_eof()),
    ] {
        let server = ScriptedServer::memory([vec![expect(AUTH), send(reply), end]]);
        let error = client_with_auth_token(&server).ping().await.unwrap_err();
        assert!(
            matches!(error, Error::Disconnected { .. } | Error::Protocol { .. }),
            "{reply:?}: {error:?}"
        );
        assert_eq!(error.operation(), Some(Operation::Auth));
        assert!(!format!("{error} {error:?}").contains("hush"));
        server.finish().await;
    }
}

// Any reply to the auth request may contain the token.
#[tokio::test]
async fn an_echoed_auth_token_is_redacted() {
    type Check = fn(&Error) -> bool;
    let cases: [(&str, Check); 6] = [
        ("hush\n", |e| matches!(e, Error::Protocol { .. })),
        ("ok {\"secret\":\"hush\"}\n", |e| {
            matches!(e, Error::Protocol { .. })
        }),
        ("error bad secret hush\n", |e| {
            matches!(e, Error::Protocol { .. })
        }),
        ("error_denied hush\n", |e| {
            matches!(e, Error::Refused { .. })
        }),
        ("error_hush\n", |e| matches!(e, Error::Refused { .. })),
        ("error_not_leader hush\n", |e| {
            matches!(e, Error::NotLeader { leader: None, .. })
        }),
    ];
    for (reply, expected) in cases {
        let server = ScriptedServer::memory([vec![expect(AUTH), send(reply), expect_eof()]]);
        let error = client_with_auth_token(&server).ping().await.unwrap_err();
        assert!(expected(&error), "{reply:?}: {error:?}");
        assert!(
            !format!("{error} {error:?} {error:#?}").contains("hush"),
            "{reply:?}: {error:?}"
        );
        reads_well(&error, &["auth", server.address()]);
        server.finish().await;
    }
}

// Covers bug P15.
#[tokio::test(start_paused = true)]
async fn a_server_silent_after_auth_is_unresponsive() {
    let server = ScriptedServer::memory([vec![expect(AUTH), expect_eof()]]);
    let client = server
        .builder()
        .auth("hush")
        .socket_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let start = Instant::now();
    let error = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_eq!(error.operation(), Some(Operation::Auth));
    assert_eq!(start.elapsed().as_secs(), 2);
    server.finish().await;
}

/// Ways to set an auth token as text and as a file.
type TokenSource = (
    &'static str,
    fn(&TempDir, &str) -> Result<ClientBuilder, ConfigError>,
);

const TOKEN_SOURCES: [TokenSource; 4] = [
    ("auth", |_, auth_token| {
        Ok(Client::builder().auth(auth_token))
    }),
    ("DFLOCK_AUTH_TOKEN", |_, auth_token| {
        ClientBuilder::from_lookup(|name| (name == "DFLOCK_AUTH_TOKEN").then(|| auth_token.into()))
    }),
    ("auth_file", |dir, auth_token| {
        Ok(Client::builder().auth_file(dir.file("token", auth_token)))
    }),
    ("DFLOCK_AUTH_TOKEN_FILE", |dir, auth_token| {
        let path = dir.file("token", auth_token);
        ClientBuilder::from_lookup(|name| {
            (name == "DFLOCK_AUTH_TOKEN_FILE").then(|| path.clone().into())
        })
    }),
];

#[tokio::test]
async fn a_byte_order_mark_and_white_space_around_the_auth_token_are_removed() {
    let dir = TempDir::new();
    for (source_name, builder) in TOKEN_SOURCES {
        let is_file = source_name.ends_with("file") || source_name.ends_with("FILE");
        let contents = [
            "hush",
            "\u{feff}hush",
            "hush\n",
            "\u{feff}hush\r\n",
            "\u{feff} \thush \n\n",
        ];
        for content in &contents[..if is_file { 5 } else { 2 }] {
            let server =
                ScriptedServer::tcp([vec![expect(AUTH), send(OK), expect(PING), send(OK)]]).await;
            let builder = builder(&dir, content).unwrap().servers([server.address()]);
            builder.build().unwrap().ping().await.unwrap();
            server.finish().await;
        }
    }
}

#[test]
fn an_invisible_character_at_an_end_of_the_auth_token_is_rejected_by_name() {
    let dir = TempDir::new();
    for (character, name) in [
        ('\u{200b}', "U+200B ZERO WIDTH SPACE"),
        ('\u{200d}', "U+200D ZERO WIDTH JOINER"),
        ('\u{feff}', "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ('\u{2060}', "U+2060 WORD JOINER"),
        ('\u{ad}', "U+00AD SOFT HYPHEN"),
        ('\u{200e}', "U+200E LEFT-TO-RIGHT MARK"),
        ('\u{202e}', "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ('\u{2068}', "U+2068 FIRST STRONG ISOLATE"),
        ('\u{3164}', "U+3164 HANGUL FILLER"),
        // End-of-file character of DOS.
        ('\u{1a}', "U+001A CONTROL CHARACTER"),
    ] {
        for (source_name, builder) in TOKEN_SOURCES {
            // The client drops the first mark and rejects the second.
            for auth_token in [
                format!("hush{character}"),
                format!("\u{feff}{character}hush"),
            ] {
                let result = builder(&dir, &auth_token).and_then(ClientBuilder::build);
                let error = result.expect_err(&format!("{source_name}: {auth_token:?}"));
                reads_well(&error, &["invisible character", name]);
                assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
            }
        }
    }
    // These characters are visible, or are not at an end of the token.
    for auth_token in [
        "hu\u{200b}sh",
        "hush\u{301}",
        "hush\u{2764}\u{fe0f}",
        "h\u{e9}",
    ] {
        for (source_name, builder) in TOKEN_SOURCES {
            builder(&dir, auth_token)
                .unwrap()
                .build()
                .expect(source_name);
        }
    }
}

#[test]
fn a_file_without_an_auth_token_is_rejected_and_named() {
    let dir = TempDir::new();
    let missing = dir.path("missing");
    let error = Client::builder().auth_file(&missing).build().unwrap_err();
    reads_well(&error, &["the auth token in", &missing, "cannot be read"]);
    for (content, why) in [
        (&b""[..], "no auth token in it"),
        (b"\xef\xbb\xbf \n", "no auth token in it"),
        (b"\xff\xfeh\0", "UTF-8"),
    ] {
        let path = dir.file("token", content);
        let error = Client::builder().auth_file(&path).build().unwrap_err();
        reads_well(&error, &["the auth token in", &path, why]);
    }
    // The later call takes precedence.
    Client::builder()
        .auth_file(&missing)
        .auth("hush")
        .build()
        .unwrap();
    Client::builder()
        .auth("hush")
        .auth_file(&missing)
        .build()
        .unwrap_err();
}
