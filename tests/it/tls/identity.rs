//! Client certificates, for servers that ask for them.

use std::sync::Arc;

use dflock::rustls::server::WebPkiClientVerifier;
use dflock::rustls::version::{TLS12, TLS13};
use dflock::rustls::{ServerConfig, SupportedProtocolVersion};
use dflock::server::{Server, ServerTls};
use dflock::{Error, Tls, TlsErrorKind};

use super::authority::{Authority, HOST, provider};
use super::folder::Folder;
use crate::bad_input::reads_well;

/// A server that lets in who shows a certificate of `authority`.
async fn server(authority: &Authority, version: &'static SupportedProtocolVersion) -> Server {
    let papers = authority.papers(HOST);
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider())
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap();
    let config = config
        .with_client_cert_verifier(verifier)
        .with_single_cert(papers.chain(), papers.private_key())
        .unwrap();
    Server::builder()
        .tls(ServerTls::from_config(Arc::new(config)))
        .build()
        .start()
        .await
        .unwrap()
}

async fn round(server: &Server, tls: Tls) -> Result<(), Error> {
    let client = server.client_builder().tls(tls).build()?;
    client
        .semaphore("pool", 1)?
        .acquire()
        .await?
        .release()
        .await
        .map(drop)
}

#[tokio::test]
async fn a_client_is_let_in_with_the_certificate_that_is_asked_for() {
    let authority = Authority::new();
    let papers = authority.papers("worker-1");
    let folder = Folder::new();
    let (chain, key) = (
        folder.file("me.pem", &papers.certificate),
        folder.file("me.key", &papers.key),
    );
    for version in [&TLS12, &TLS13] {
        let server = server(&authority, version).await;
        round(
            &server,
            authority
                .tls()
                .client_pem(&papers.certificate, &papers.key)
                .unwrap(),
        )
        .await
        .unwrap();
        round(
            &server,
            authority.tls().client_pem_files(&chain, &key).unwrap(),
        )
        .await
        .unwrap();
        // whatever the order
        let tls = authority
            .tls()
            .server_name(HOST)
            .unwrap()
            .client_pem(&papers.certificate, &papers.key)
            .unwrap();
        round(&server, tls.server_name(HOST).unwrap())
            .await
            .unwrap();
    }
}

// with TLS 1.3 the refusal comes only behind the handshake
#[tokio::test]
async fn a_client_without_it_or_with_another_is_told_so() {
    let authority = Authority::new();
    let stranger = Authority::new().papers("worker-1");
    for version in [&TLS12, &TLS13] {
        let server = server(&authority, version).await;
        for tls in [
            authority.tls(),
            authority
                .tls()
                .client_pem(&stranger.certificate, &stranger.key)
                .unwrap(),
        ] {
            let error = round(&server, tls).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Tls {
                        fault: TlsErrorKind::Refused,
                        ..
                    }
                ),
                "{version:?}: {error:?}"
            );
            assert!(!error.is_retryable());
            reads_well(
                &error,
                &[
                    "acquire",
                    "\"pool\"",
                    &server.addr().to_string(),
                    "`Tls::client_pem_files`",
                ],
            );
        }
    }
}

#[tokio::test]
async fn one_that_nobody_asks_for_does_no_harm() {
    let authority = Authority::new();
    let papers = authority.papers("worker-1");
    let server = Server::builder()
        .tls(authority.server())
        .build()
        .start()
        .await
        .unwrap();
    round(
        &server,
        authority
            .tls()
            .client_pem(&papers.certificate, &papers.key)
            .unwrap(),
    )
    .await
    .unwrap();
}
