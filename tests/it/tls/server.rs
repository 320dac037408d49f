//! Embedded server with TLS, and its own clients.

use std::sync::Arc;
use std::time::Duration;

use dflock::rustls::pki_types::ServerName;
use dflock::server::{Server, ServerTls};
use dflock::{Connector, Error, Tls, TlsErrorKind};
use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use super::test_ca::{HOST, TestCa, TestCert};

async fn start_tls_server(tls: ServerTls) -> Server {
    Server::builder().tls(tls).build().start().await.unwrap()
}

#[tokio::test]
async fn clients_of_the_server_trust_its_certificate_for_any_name_and_time() {
    let ca = TestCa::new();
    let old = ca.issue_with(HOST, |params| params.not_after = date_time_ymd(2001, 1, 1));
    // A certificate as `openssl req -x509` creates it.
    let of_ca = TestCert::self_signed(HOST, IsCa::Ca(BasicConstraints::Unconstrained));
    for cert in [ca.issue(HOST), ca.issue("lock.internal"), old, of_ca] {
        let server = start_tls_server(cert.server()).await;
        server
            .client()
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        let in_memory = server
            .client_builder()
            .connector(server.connector())
            .build()
            .unwrap();
        in_memory.ping().await.unwrap();
    }
}

// The server's own clients pin the certificate, because rustls accepts none of these as its own
// root.
#[tokio::test]
async fn a_root_store_cannot_replace_the_pinned_certificate() {
    let ca = TestCa::new();
    let expired =
        TestCert::self_signed_with(HOST, |params| params.not_after = date_time_ymd(2001, 1, 1));
    let of_ca = TestCert::self_signed(HOST, IsCa::Ca(BasicConstraints::Unconstrained));
    for (cert, expected) in [
        (ca.issue(HOST), TlsErrorKind::Issuer),
        (expired, TlsErrorKind::Date),
        (of_ca, TlsErrorKind::Certificate),
    ] {
        let server = start_tls_server(cert.server()).await;
        let client = server
            .client_builder()
            .tls(Tls::ca_pem(&cert.certificate).unwrap())
            .build()
            .unwrap();
        let error = client.ping().await.unwrap_err();
        assert!(
            matches!(error, Error::Tls { kind, .. } if kind == expected),
            "{error:?}"
        );
        server.client().ping().await.unwrap();
    }
}

#[tokio::test]
async fn clients_of_the_server_trust_no_other_certificate() {
    let ca = TestCa::new();
    let (server, other) = (
        start_tls_server(ca.server()).await,
        start_tls_server(ca.server()).await,
    );
    let client = server
        .client_builder()
        .servers([other.addr().to_string()])
        .build()
        .unwrap();
    let error = client.ping().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tls {
                kind: TlsErrorKind::Issuer,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_user_defined_rustls_configuration_is_served_and_clients_must_set_tls() {
    let ca = TestCa::new();
    let server = start_tls_server(ServerTls::from_config(Arc::new(
        ca.issue(HOST).server_config(),
    )))
    .await;
    server
        .client_builder()
        .tls(ca.tls())
        .build()
        .unwrap()
        .ping()
        .await
        .unwrap();
    let error = server.client().ping().await.unwrap_err();
    assert!(
        matches!(error, Error::Protocol { .. })
            && error.to_string().contains("give the client `tls`"),
        "{error:?}"
    );
}

// Covers bug S13. The read timeout is reported in a line, followed by the TLS close.
#[tokio::test(start_paused = true)]
async fn the_read_timeout_is_reported_over_tls() {
    let ca = TestCa::new();
    let server = start_tls_server(ca.server()).await;
    let connector = TlsConnector::from(Arc::new(ca.client_config()));
    let stream = server.connector().connect("memory").await.unwrap();
    let mut stream = connector
        .connect(ServerName::try_from(HOST).unwrap(), stream)
        .await
        .unwrap();
    let start = Instant::now();
    stream.write_all(b"ping\n_\n_\n").await.unwrap();
    let mut received = String::new();
    // A connection that ends without a TLS close is an error.
    stream.read_to_string(&mut received).await.unwrap();
    assert_eq!(
        (received.as_str(), start.elapsed().as_secs()),
        ("ok\nerror\n", 23)
    );
}

#[tokio::test(start_paused = true)]
async fn a_graceful_close_is_graceful_over_tls() {
    let ca = TestCa::new();
    let server = start_tls_server(ca.server()).await;
    let connector = TlsConnector::from(Arc::new(ca.client_config()));
    let stream = server.connector().connect("memory").await.unwrap();
    let mut stream = connector
        .connect(ServerName::try_from(HOST).unwrap(), stream)
        .await
        .unwrap();
    sleep(Duration::from_millis(1)).await;
    server.shutdown().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}
