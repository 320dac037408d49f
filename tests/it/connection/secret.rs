//! The secret comes first on every new connection, and nowhere else.

use std::time::Duration;

use dflock::{AuthErrorKind, Client, ClientBuilder, ConfigError, Error, Operation};
use tokio::time::Instant;

use crate::bad_input::reads_well;
use crate::peer::*;
use crate::tls::folder::Folder;

fn knowing(peer: &Peer) -> Client {
    peer.builder().auth("hush").build().unwrap()
}

// G27: whatever the connection is made for
#[tokio::test]
async fn the_secret_is_shown_first_and_once_a_connection() {
    let hello = [hear(AUTH), say(OK)];
    let with = |rest: &[Step]| [&hello, rest].concat();
    let peer = Peer::memory([
        with(&[
            hear(PING),
            say(OK),
            hear(ACQUIRE),
            say(GRANT),
            cue(),
            hear(RELEASE),
            say(OK),
            hear(PING),
            say(OK),
        ]),
        with(&[
            hear(STATS),
            say("ok {\"connections\":1}\n"),
            hear(ENQUEUE),
            say(ACQUIRED),
            hear(RELEASE),
            say(OK),
        ]),
    ]);
    let client = knowing(&peer);
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
    peer.cue();
    held.release().await.unwrap();
    client.ping().await.unwrap();
    peer.finish().await;
}

// T37
#[tokio::test]
async fn an_empty_secret_is_none() {
    let peer = Peer::memory([vec![hear(PING), say(OK)]]);
    peer.builder()
        .auth("")
        .build()
        .unwrap()
        .ping()
        .await
        .unwrap();
    peer.finish().await;
}

// T13, N11: the connection is closed, and nothing of the secret is said
#[tokio::test]
async fn a_secret_that_is_not_taken_is_an_authentication_error() {
    for (reply, want) in [
        ("error_auth\n", AuthErrorKind::Wrong { long: false }),
        ("error\n", AuthErrorKind::Unneeded),
    ] {
        let peer = Peer::memory([vec![hear(AUTH), say(reply), hear_end()]]);
        let client = knowing(&peer);
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Auth { fault, .. } if *fault == want),
            "{error:?}"
        );
        assert!(error.is_auth() && !error.is_retryable());
        assert_eq!(
            (error.operation(), error.key(), error.server()),
            (Some(Operation::Auth), Some("pool"), Some(peer.address()))
        );
        assert!(!format!("{error} {error:?} {client:?}").contains("hush"));
        assert!(!error.to_string().contains("256"), "{error}");
        peer.finish().await;
    }
}

// servers before v1.15 answer a line of more than 256 bytes with `error`, as newer ones do a secret that they did not ask for
#[tokio::test]
async fn a_secret_that_old_servers_do_not_take_is_named() {
    for (length, reply, want) in [
        (256, "error\n", AuthErrorKind::Unneeded),
        (257, "error\n", AuthErrorKind::TooLong),
        (256, "error_auth\n", AuthErrorKind::Wrong { long: false }),
        (257, "error_auth\n", AuthErrorKind::Wrong { long: true }),
    ] {
        let secret = "hush".repeat(65)[..length].to_owned();
        for end in [hear_end(), close()] {
            let peer = Peer::memory([vec![hear(format!("auth\n_\n{secret}\n")), say(reply), end]]);
            let error = peer
                .builder()
                .auth(&secret)
                .build()
                .unwrap()
                .ping()
                .await
                .unwrap_err();
            assert!(
                matches!(&error, Error::Auth { fault, .. } if *fault == want),
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
            peer.finish().await;
        }
    }
}

// T13: the peer goes away, echoes, or talks nonsense
#[tokio::test]
async fn a_peer_that_cannot_take_a_secret_does_not_make_it_public() {
    for (reply, end) in [
        ("", close()),
        ("", half_close()),
        ("auth\n_\nhush\n", hear_end()),
        ("HTTP/1.1 400 Bad Request\r\n", hear_end()),
    ] {
        let peer = Peer::memory([vec![hear(AUTH), say(reply), end]]);
        let error = knowing(&peer).ping().await.unwrap_err();
        assert!(
            matches!(error, Error::Disconnected { .. } | Error::Protocol { .. }),
            "{reply:?}: {error:?}"
        );
        assert_eq!(error.operation(), Some(Operation::Auth));
        assert!(!format!("{error} {error:?}").contains("hush"));
        peer.finish().await;
    }
}

// whatever the server says to the secret may be the secret
#[tokio::test]
async fn an_answer_that_echoes_the_secret_is_not_shown() {
    type Check = fn(&Error) -> bool;
    let wants: [(&str, Check); 6] = [
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
    for (reply, want) in wants {
        let peer = Peer::memory([vec![hear(AUTH), say(reply), hear_end()]]);
        let error = knowing(&peer).ping().await.unwrap_err();
        assert!(want(&error), "{reply:?}: {error:?}");
        assert!(
            !format!("{error} {error:?} {error:#?}").contains("hush"),
            "{reply:?}: {error:?}"
        );
        reads_well(&error, &["auth", peer.address()]);
        peer.finish().await;
    }
}

// P15
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_to_the_secret_is_unresponsive() {
    let peer = Peer::memory([vec![hear(AUTH), hear_end()]]);
    let client = peer
        .builder()
        .auth("hush")
        .socket_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let began = Instant::now();
    let error = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_eq!(error.operation(), Some(Operation::Auth));
    assert_eq!(began.elapsed().as_secs(), 2);
    peer.finish().await;
}

/// The ways to give a secret, and the two of them that are files.
type Way = (
    &'static str,
    fn(&Folder, &str) -> Result<ClientBuilder, ConfigError>,
);

const WAYS: [Way; 4] = [
    ("auth", |_, secret| Ok(Client::builder().auth(secret))),
    ("DFLOCK_AUTH_TOKEN", |_, secret| {
        ClientBuilder::from_lookup(|name| (name == "DFLOCK_AUTH_TOKEN").then(|| secret.into()))
    }),
    ("auth_file", |folder, secret| {
        Ok(Client::builder().auth_file(folder.file("token", secret)))
    }),
    ("DFLOCK_AUTH_TOKEN_FILE", |folder, secret| {
        let path = folder.file("token", secret);
        ClientBuilder::from_lookup(|name| {
            (name == "DFLOCK_AUTH_TOKEN_FILE").then(|| path.clone().into())
        })
    }),
];

#[tokio::test]
async fn a_byte_order_mark_before_the_secret_is_dropped_and_white_space_in_a_file_too() {
    let folder = Folder::new();
    for (way, builder) in WAYS {
        let is_file = way.ends_with("file") || way.ends_with("FILE");
        let contents = [
            "hush",
            "\u{feff}hush",
            "hush\n",
            "\u{feff}hush\r\n",
            "\u{feff} \thush \n\n",
        ];
        for content in &contents[..if is_file { 5 } else { 2 }] {
            let peer = Peer::tcp([vec![hear(AUTH), say(OK), hear(PING), say(OK)]]).await;
            let builder = builder(&folder, content).unwrap().servers([peer.address()]);
            builder.build().unwrap().ping().await.unwrap();
            peer.finish().await;
        }
    }
}

#[test]
fn an_invisible_character_at_an_end_of_the_secret_is_refused_by_name() {
    let folder = Folder::new();
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
        // the end of a file on DOS
        ('\u{1a}', "U+001A CONTROL CHARACTER"),
    ] {
        for (way, builder) in WAYS {
            // the first mark is dropped, the second is not
            for secret in [
                format!("hush{character}"),
                format!("\u{feff}{character}hush"),
            ] {
                let built = builder(&folder, &secret).and_then(ClientBuilder::build);
                let error = built.expect_err(&format!("{way}: {secret:?}"));
                reads_well(&error, &["invisible character", name]);
                assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
            }
        }
    }
    // these are within, or can be seen
    for secret in [
        "hu\u{200b}sh",
        "hush\u{301}",
        "hush\u{2764}\u{fe0f}",
        "h\u{e9}",
    ] {
        for (way, builder) in WAYS {
            builder(&folder, secret).unwrap().build().expect(way);
        }
    }
}

#[test]
fn a_file_without_a_secret_is_refused_and_named() {
    let folder = Folder::new();
    let missing = folder.path("missing");
    let error = Client::builder().auth_file(&missing).build().unwrap_err();
    reads_well(&error, &["the secret in", &missing, "cannot be read"]);
    for (content, why) in [
        (&b""[..], "no secret in it"),
        (b"\xef\xbb\xbf \n", "no secret in it"),
        (b"\xff\xfeh\0", "UTF-8"),
    ] {
        let path = folder.file("token", content);
        let error = Client::builder().auth_file(&path).build().unwrap_err();
        reads_well(&error, &["the secret in", &path, why]);
    }
    // the last of the two counts
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
