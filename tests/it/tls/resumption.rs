//! A second connection resumes the session of the first, which saves a certificate and its proof.

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

use super::authority::{Authority, HOST, provider};

const PING: &[u8] = b"ping\n_\n_\n";

/// Answers one ping on each connection, closes it, and says how their handshakes went.
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
        // until the client has gone, too, so that it cannot use it again
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    kinds
}

#[tokio::test]
async fn a_client_resumes_its_session() {
    let authority = Authority::new();
    let papers = authority.papers(HOST);
    for version in [&TLS12, &TLS13] {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap();
        let config = config
            .with_no_client_auth()
            .with_single_cert(papers.chain(), papers.private_key())
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
        let tls = authority.tls();
        let first = client(&tls);
        first.ping().await.unwrap();
        first.ping().await.unwrap();
        drop(first);
        // so does another client with the same TLS, and one with TLS of its own does not
        client(&tls).ping().await.unwrap();
        client(&authority.tls()).ping().await.unwrap();
        let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
        assert_eq!(
            server.await.unwrap(),
            [full, resumed, resumed, full],
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn the_server_lets_a_client_resume_its_session() {
    let authority = Authority::new();
    let server = Server::builder()
        .tls(authority.server())
        .build()
        .start()
        .await
        .unwrap();
    let connector = TlsConnector::from(Arc::new(authority.client_config()));
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
