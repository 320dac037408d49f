//! Session resumption, which saves the certificate and its verification.

use std::sync::Arc;

use dflock::rustls::HandshakeKind;
use dflock::rustls::ServerConfig;
use dflock::rustls::pki_types::ServerName;
use dflock::rustls::version::{TLS12, TLS13};
use dflock::server::Server;
use dflock::{Client, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::test_ca::{HOST, TestCa, provider};

const PING: &[u8] = b"ping\n_\n_\n";

/// Answers one ping on each connection, closes it, and returns the kinds of their handshakes.
async fn handshakes(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    count: usize,
) -> Vec<HandshakeKind> {
    let mut kinds = Vec::new();
    for _ in 0..count {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        stream.read_exact(&mut [0; PING.len()]).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        stream.write_all(b"ok\n").await.unwrap();
        stream.shutdown().await.unwrap();
        // Waits for the client's close, so that the client cannot reuse the connection.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    kinds
}

#[tokio::test]
async fn a_client_resumes_its_session() {
    let ca = TestCa::new();
    let cert = ca.issue(HOST);
    for version in [&TLS12, &TLS13] {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap();
        let config = config
            .with_no_client_auth()
            .with_single_cert(cert.chain(), cert.private_key())
            .unwrap();
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(handshakes(listener, TlsAcceptor::from(Arc::new(config)), 4));
        let client = |tls: &Tls| {
            Client::builder()
                .servers([address.as_str()])
                .tls(tls.clone())
                .build()
                .unwrap()
        };
        let tls = ca.tls();
        let first = client(&tls);
        first.ping().await.unwrap();
        first.ping().await.unwrap();
        drop(first);
        // A client with the same TLS configuration resumes the session. One with another
        // configuration does not.
        client(&tls).ping().await.unwrap();
        client(&ca.tls()).ping().await.unwrap();
        let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
        assert_eq!(
            server.await.unwrap(),
            [full, resumed, resumed, full],
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn the_server_accepts_session_resumption() {
    let ca = TestCa::new();
    let server = Server::builder()
        .tls(ca.server())
        .build()
        .start()
        .await
        .unwrap();
    let connector = TlsConnector::from(Arc::new(ca.client_config()));
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(server.addr()).await.unwrap();
        let mut stream = connector
            .connect(ServerName::try_from(HOST).unwrap(), stream)
            .await
            .unwrap();
        stream.write_all(PING).await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(
        kinds,
        [
            HandshakeKind::Full,
            HandshakeKind::Resumed,
            HandshakeKind::Resumed
        ]
    );
}
