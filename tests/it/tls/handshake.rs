//! Incomplete handshakes: both sides report them in time and close the connection.

use std::future::pending;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, ConnectStage, Connector, Error, TlsErrorKind};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::test_ca::{HOST, TestCa};
use crate::bad_input::reads_well;

/// Limit of every wait. It is longer than any operation here takes on a real clock, and shorter
/// than the server's read timeout.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

async fn start_tls_server() -> Server {
    Server::builder()
        .tls(TestCa::new().server())
        .build()
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_plain_client_reports_that_the_server_uses_tls() {
    let server = start_tls_server().await;
    let addr = server.addr().to_string();
    for auth in ["", "hush"] {
        // The limit is shorter than the server's read timeout and all timeouts of the client.
        let client = Client::builder()
            .servers([addr.as_str()])
            .auth(auth)
            .connect_timeout(2 * TEST_TIMEOUT)
            .socket_timeout(2 * TEST_TIMEOUT);
        let client = client.build().unwrap();
        let pool = client.semaphore("pool", 1).unwrap();
        let errors = async {
            [
                client.ping().await.unwrap_err(),
                pool.clone().acquire().await.unwrap_err(),
                pool.clone().enqueue().await.unwrap_err(),
                client.stats().await.unwrap_err(),
            ]
        };
        for error in timeout(TEST_TIMEOUT, errors)
            .await
            .expect("the client does not time out")
        {
            assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
            assert!(!error.is_retryable());
            reads_well(&error, &[&addr, "give the client `tls`"]);
        }
    }
}

// The server replies to lines in a handshake, which some contain by chance. It ignores a handshake
// without lines.
#[tokio::test]
async fn a_plain_server_that_replies_does_not_use_tls() {
    let server = Server::start().await.unwrap();
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let client = Client::builder()
        .servers([listener.local_addr().unwrap().to_string()])
        .tls(TestCa::new().tls());
    let client = client.connect_timeout(TEST_TIMEOUT).build().unwrap();
    let forward = async {
        let (mut client_side, _) = listener.accept().await.unwrap();
        let mut server_side = TcpStream::connect(server.addr()).await.unwrap();
        let mut hello = [0; 4096];
        let length = client_side.read(&mut hello).await.unwrap();
        assert_ne!(length, 0);
        server_side.write_all(&hello[..length]).await.unwrap();
        server_side.write_all(b"\n\n\n").await.unwrap();
        // Either side may close the connection.
        let _ = copy(&mut server_side, &mut client_side).await;
        pending::<()>().await;
    };
    let error = tokio::select! {
        biased;
        () = forward => unreachable!(),
        result = timeout(TEST_TIMEOUT, client.semaphore("pool", 1).unwrap().acquire()) => {
            result.expect("the client does not time out").unwrap_err()
        }
    };
    assert!(
        matches!(
            error,
            Error::Tls {
                kind: TlsErrorKind::NotTls,
                ..
            }
        ),
        "{error:?}"
    );
    reads_well(
        &error,
        &["acquire", "\"pool\"", "does not speak TLS", "`tls`"],
    );
    // The server still serves clients without TLS.
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

/// Connects to a server that sends `words` to each client. The client closes it, and no socket
/// remains: covers bugs P04, T14.
async fn connect_to(words: &[u8]) -> Error {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let client = Client::builder()
        .servers([listener.local_addr().unwrap().to_string()])
        .tls(TestCa::new().tls());
    let client = client
        .connect_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(words).await.unwrap();
        // A reset ends the connection as well.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let result = timeout(Duration::from_secs(10), async {
        tokio::join!(client.ping(), server)
    });
    result
        .await
        .expect("the client does not close its connection")
        .0
        .unwrap_err()
}

#[tokio::test]
async fn a_server_of_another_protocol_does_not_use_tls() {
    for words in [
        "error\n",
        "error_auth\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "220 smtp.example ESMTP\r\n",
    ] {
        let error = connect_to(words.as_bytes()).await;
        assert!(
            matches!(
                error,
                Error::Tls {
                    kind: TlsErrorKind::NotTls,
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
async fn a_silent_handshake_ends_with_the_wait_timeout() {
    let server = Server::start().await.unwrap();
    let client = Client::builder()
        .connector(server.connector())
        .tls(TestCa::new().tls())
        .build()
        .unwrap();
    server.faults().freeze();
    for millis in [100, 1000] {
        let (start_time, wait) = (Instant::now(), Duration::from_millis(millis));
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(wait)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::ConnectTimeout { stage: ConnectStage::Tls, limit, .. } if limit == wait
            ),
            "{error:?}"
        );
        assert!(
            start_time.elapsed() <= wait + Duration::from_millis(2),
            "{:?}",
            start_time.elapsed()
        );
    }
}

#[tokio::test]
async fn a_silent_handshake_ends_with_the_connect_timeout() {
    let error = connect_to(b"").await;
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

// The server closes the connection, or resets it because it has unread data.
#[tokio::test]
async fn a_server_that_closes_during_the_handshake_is_reachable() {
    for linger in [None, Some(Duration::ZERO)] {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let client = Client::builder()
            .servers([addr.as_str()])
            .tls(TestCa::new().tls())
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
                    kind: TlsErrorKind::ConnectionClosed,
                    ..
                }
            ),
            "{error:?}"
        );
        // A restarting server looks the same.
        assert!(error.is_retryable());
        reads_well(
            &error,
            &["ping", &addr, "was reached", "speaks TLS on this port"],
        );
    }
}

// Covers bug P15. The server completes the handshake and then sends nothing.
#[tokio::test(start_paused = true)]
async fn a_server_silent_after_the_auth_request_is_unresponsive() {
    let server = Server::builder()
        .tls(TestCa::new().server())
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
    let start_time = Instant::now();
    let error = client.ping().await.unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_eq!(start_time.elapsed().as_secs(), 5);
    reads_well(&error, &["auth", "5s", "`socket_timeout`"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_times_out_and_delays_no_other_client() {
    let server = start_tls_server().await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(server.connector().connect("memory").await.unwrap());
    }
    let start_time = Instant::now();
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
        start_time.elapsed() < Duration::from_millis(100),
        "{:?}",
        start_time.elapsed()
    );
    assert_eq!(server.stats().connections, 4);
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    // The server's read timeout.
    assert_eq!(start_time.elapsed().as_secs(), 23);
}

#[tokio::test(start_paused = true)]
async fn a_pending_handshake_does_not_delay_shutdown() {
    let server = start_tls_server().await;
    let mut silent = server.connector().connect("memory").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(server.stats().connections, 1);
    let start_time = Instant::now();
    server.shutdown().await;
    assert!(
        start_time.elapsed() < Duration::from_millis(100),
        "{:?}",
        start_time.elapsed()
    );
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn clients_without_tls_are_rejected() {
    let server = start_tls_server().await;
    for words in ["sl\npool\n0 1\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = server.connector().connect("memory").await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        // The server sends an alert and no reply.
        assert_eq!(received[..2], *b"\x15\x03", "{}", received.escape_ascii());
        assert_eq!(server.stats().connections, 0);
    }
    assert!(server.stats().semaphores.is_empty());
}
