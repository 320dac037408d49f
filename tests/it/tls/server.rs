//! The embedded server with TLS, and its own clients.

use std::sync::Arc;
use std::time::Duration;

use dflock::rustls::pki_types::ServerName;
use dflock::server::{Server, ServerTls};
use dflock::{Connector, Error, Tls, TlsErrorKind};
use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use super::authority::{Authority, HOST, Papers};

async fn secured(tls: ServerTls) -> Server {
    Server::builder().tls(tls).build().start().await.unwrap()
}

#[tokio::test]
async fn its_own_clients_know_its_certificate_whatever_name_and_time_it_is_for() {
    let authority = Authority::new();
    let old = authority.papers_with(HOST, |params| params.not_after = date_time_ymd(2001, 1, 1));
    // as `openssl req -x509` makes it
    let of_ca = Papers::self_signed(HOST, IsCa::Ca(BasicConstraints::Unconstrained));
    for papers in [
        authority.papers(HOST),
        authority.papers("lock.internal"),
        old,
        of_ca,
    ] {
        let server = secured(papers.server()).await;
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

// Why the server's own clients pin the certificate: rustls accepts none of these as its own root.
#[tokio::test]
async fn a_root_store_cannot_replace_the_pinned_certificate() {
    let authority = Authority::new();
    let expired =
        Papers::self_signed_with(HOST, |params| params.not_after = date_time_ymd(2001, 1, 1));
    let of_ca = Papers::self_signed(HOST, IsCa::Ca(BasicConstraints::Unconstrained));
    for (papers, want) in [
        (authority.papers(HOST), TlsErrorKind::Issuer),
        (expired, TlsErrorKind::Date),
        (of_ca, TlsErrorKind::Certificate),
    ] {
        let server = secured(papers.server()).await;
        let client = server
            .client_builder()
            .tls(Tls::ca_pem(&papers.certificate).unwrap())
            .build()
            .unwrap();
        let error = client.ping().await.unwrap_err();
        assert!(
            matches!(error, Error::Tls { fault, .. } if fault == want),
            "{error:?}"
        );
        server.client().ping().await.unwrap();
    }
}

#[tokio::test]
async fn its_own_clients_know_no_other_certificate() {
    let authority = Authority::new();
    let (server, other) = (
        secured(authority.server()).await,
        secured(authority.server()).await,
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
                fault: TlsErrorKind::Issuer,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_configuration_of_the_users_own_is_served_and_its_clients_are_told_to_give_tls() {
    let authority = Authority::new();
    let server = secured(ServerTls::from_config(Arc::new(
        authority.papers(HOST).server_config(),
    )))
    .await;
    server
        .client_builder()
        .tls(authority.tls())
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

// S13: a silence that is too long is told in a line, then TLS says that it ends
#[tokio::test(start_paused = true)]
async fn the_read_timeout_is_told_over_tls() {
    let authority = Authority::new();
    let server = secured(authority.server()).await;
    let connector = TlsConnector::from(Arc::new(authority.client_config()));
    let stream = server.connector().connect("memory").await.unwrap();
    let mut stream = connector
        .connect(ServerName::try_from(HOST).unwrap(), stream)
        .await
        .unwrap();
    let began = Instant::now();
    stream.write_all(b"ping\n_\n_\n").await.unwrap();
    let mut heard = String::new();
    // an end without the word for it would be an error
    stream.read_to_string(&mut heard).await.unwrap();
    assert_eq!(
        (heard.as_str(), began.elapsed().as_secs()),
        ("ok\nerror\n", 23)
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_in_order_is_closed_in_order_over_tls() {
    let authority = Authority::new();
    let server = secured(authority.server()).await;
    let connector = TlsConnector::from(Arc::new(authority.client_config()));
    let stream = server.connector().connect("memory").await.unwrap();
    let mut stream = connector
        .connect(ServerName::try_from(HOST).unwrap(), stream)
        .await
        .unwrap();
    sleep(Duration::from_millis(1)).await;
    server.shutdown().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}
