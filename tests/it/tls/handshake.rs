//! Peers that do not come to the end of the handshake: each side says so, in time, and closes.

use std::future::pending;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, ConnectStage, Connector, Error, TlsErrorKind};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::authority::{Authority, HOST};
use crate::bad_input::reads_well;

/// Longer than anything here takes on a real clock, and less than the server's read timeout: only a test that fails waits for it.
const TOO_LONG: Duration = Duration::from_secs(20);

async fn secured() -> Server {
    Server::builder()
        .tls(Authority::new().server())
        .build()
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_client_without_tls_is_told_that_the_server_speaks_it() {
    let server = secured().await;
    let addr = server.addr().to_string();
    for auth in ["", "hush"] {
        // before the server's read timeout, and before the limit of anything that the client could wait for
        let client = Client::builder()
            .servers([addr.as_str()])
            .auth(auth)
            .connect_timeout(2 * TOO_LONG)
            .socket_timeout(2 * TOO_LONG);
        let client = client.build().unwrap();
        let pool = client.semaphore("pool", 1).unwrap();
        let told = async {
            [
                client.ping().await.unwrap_err(),
                pool.clone().acquire().await.unwrap_err(),
                pool.clone().enqueue().await.unwrap_err(),
                client.stats().await.unwrap_err(),
            ]
        };
        for error in timeout(TOO_LONG, told)
            .await
            .expect("the client waits for something")
        {
            assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
            assert!(!error.is_retryable());
            reads_well(&error, &[&addr, "give the client `tls`"]);
        }
    }
}

// it answers where it finds lines in a handshake, as it does in some by chance; in those without any it sees nothing to answer
#[tokio::test]
async fn a_server_without_tls_that_answers_speaks_no_tls() {
    let server = Server::start().await.unwrap();
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let client = Client::builder()
        .servers([listener.local_addr().unwrap().to_string()])
        .tls(Authority::new().tls());
    let client = client.connect_timeout(TOO_LONG).build().unwrap();
    let between = async {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server.addr()).await.unwrap();
        let mut hello = [0; 4096];
        let length = near.read(&mut hello).await.unwrap();
        assert_ne!(length, 0);
        far.write_all(&hello[..length]).await.unwrap();
        far.write_all(b"\n\n\n").await.unwrap();
        // the client, too, may be the one that ends it
        let _ = copy(&mut far, &mut near).await;
        pending::<()>().await;
    };
    let error = tokio::select! {
        biased;
        () = between => unreachable!(),
        met = timeout(TOO_LONG, client.semaphore("pool", 1).unwrap().acquire()) => met.expect("the client waits").unwrap_err(),
    };
    assert!(
        matches!(
            error,
            Error::Tls {
                fault: TlsErrorKind::NotTls,
                ..
            }
        ),
        "{error:?}"
    );
    reads_well(
        &error,
        &["acquire", "\"pool\"", "does not speak TLS", "`tls`"],
    );
    // and serves who comes without
    assert!(
        Client::builder()
            .servers([server.addr().to_string()])
            .build()
            .unwrap()
            .ping()
            .await
            .is_ok()
    );
}

/// A server that says `words` to whoever comes, and is then closed by the client: no socket stays (P04, T14).
async fn meets(words: &[u8]) -> Error {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let client = Client::builder()
        .servers([listener.local_addr().unwrap().to_string()])
        .tls(Authority::new().tls());
    let client = client
        .connect_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(words).await.unwrap();
        // a reset is an end, too
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let met = timeout(Duration::from_secs(10), async {
        tokio::join!(client.ping(), server)
    });
    met.await
        .expect("the client waits, or leaves its connection open")
        .0
        .unwrap_err()
}

#[tokio::test]
async fn a_server_that_says_something_else_speaks_no_tls() {
    for words in [
        "error\n",
        "error_auth\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "220 smtp.example ESMTP\r\n",
    ] {
        let error = meets(words.as_bytes()).await;
        assert!(
            matches!(
                error,
                Error::Tls {
                    fault: TlsErrorKind::NotTls,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(!error.is_retryable());
        reads_well(&error, &["ping", "does not speak TLS"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_has_no_more_than_the_wait() {
    let server = Server::start().await.unwrap();
    let client = Client::builder()
        .connector(server.connector())
        .tls(Authority::new().tls())
        .build()
        .unwrap();
    server.faults().freeze();
    for millis in [100, 1000] {
        let (began, wait) = (Instant::now(), Duration::from_millis(millis));
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(wait)
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::ConnectTimeout { stage: ConnectStage::Tls, limit, .. } if limit == wait),
            "{error:?}"
        );
        assert!(
            began.elapsed() <= wait + Duration::from_millis(2),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_has_the_connect_timeout() {
    let error = meets(b"").await;
    assert!(
        matches!(
            error,
            Error::ConnectTimeout {
                stage: ConnectStage::Tls,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_retryable() && !error.is_timeout());
    reads_well(
        &error,
        &[
            "ping",
            "300ms",
            "speaks TLS on this port",
            "`connect_timeout`",
        ],
    );
}

// in order, or with a reset, as a server does that has not read all
#[tokio::test]
async fn a_server_that_hangs_up_was_reached() {
    for linger in [None, Some(Duration::ZERO)] {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let client = Client::builder()
            .servers([addr.as_str()])
            .tls(Authority::new().tls())
            .build()
            .unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            SockRef::from(&stream).set_linger(linger).unwrap();
        };
        let error = tokio::join!(client.ping(), server).0.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Tls {
                    fault: TlsErrorKind::ConnectionClosed,
                    ..
                }
            ),
            "{error:?}"
        );
        // one that starts again looks the same
        assert!(error.is_retryable());
        reads_well(
            &error,
            &["ping", &addr, "was reached", "speaks TLS on this port"],
        );
    }
}

// P15: accepted, secured, and then silence
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_the_secret_is_unresponsive() {
    let server = Server::builder()
        .tls(Authority::new().server())
        .auth_token("hush")
        .build()
        .start()
        .await
        .unwrap();
    server.faults().delay_replies(Duration::from_hours(1));
    let client = server
        .client_builder()
        .connector(server.connector())
        .build()
        .unwrap();
    let began = Instant::now();
    let error = client.ping().await.unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_eq!(began.elapsed().as_secs(), 5);
    reads_well(&error, &["auth", "5s", "`socket_timeout`"]);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_takes_too_long_is_cut_off_and_holds_nobody_up() {
    let server = secured().await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(server.connector().connect("memory").await.unwrap());
    }
    let began = Instant::now();
    let client = server
        .client_builder()
        .connector(server.connector())
        .build()
        .unwrap();
    client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(100),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.stats().connections, 4);
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    // the server's read timeout
    assert_eq!(began.elapsed().as_secs(), 23);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_its_handshake_does_not_keep_the_server_from_stopping() {
    let server = secured().await;
    let mut silent = server.connector().connect("memory").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(server.stats().connections, 1);
    let began = Instant::now();
    server.shutdown().await;
    assert!(
        began.elapsed() < Duration::from_millis(100),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_says_anything_else_is_sent_away() {
    let server = secured().await;
    for words in ["sl\npool\n0 1\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = server.connector().connect("memory").await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        // an alert, and no reply
        assert_eq!(heard[..2], *b"\x15\x03", "{}", heard.escape_ascii());
        assert_eq!(server.stats().connections, 0);
    }
    assert!(server.stats().semaphores.is_empty());
}
