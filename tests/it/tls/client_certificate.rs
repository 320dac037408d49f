//! Client certificates for servers that require them.

use std::sync::Arc;

use dflock::rustls::server::WebPkiClientVerifier;
use dflock::rustls::version::{TLS12, TLS13};
use dflock::rustls::{ServerConfig, SupportedProtocolVersion};
use dflock::server::{Server, ServerTls};
use dflock::{Error, Tls, TlsErrorKind};

use super::temp_dir::TempDir;
use super::test_ca::{HOST, TestCa, provider};
use crate::bad_input::reads_well;

/// Starts a server that accepts clients with a certificate of `ca`.
pub(super) async fn server(ca: &TestCa, version: &'static SupportedProtocolVersion) -> Server {
    let cert = ca.issue(HOST);
    let verifier = WebPkiClientVerifier::builder_with_provider(ca.roots(), provider())
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap();
    let config = config
        .with_client_cert_verifier(verifier)
        .with_single_cert(cert.chain(), cert.private_key())
        .unwrap();
    Server::builder()
        .tls(ServerTls::from_config(Arc::new(config)))
        .build()
        .start()
        .await
        .unwrap()
}

async fn cycle(server: &Server, tls: Tls) -> Result<(), Error> {
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
async fn a_client_with_the_required_certificate_is_accepted() {
    let ca = TestCa::new();
    let cert = ca.issue("worker-1");
    let dir = TempDir::new();
    let (chain, key) = (
        dir.file("me.pem", &cert.certificate),
        dir.file("me.key", &cert.key),
    );
    for version in [&TLS12, &TLS13] {
        let server = server(&ca, version).await;
        cycle(
            &server,
            ca.tls().client_pem(&cert.certificate, &cert.key).unwrap(),
        )
        .await
        .unwrap();
        cycle(&server, ca.tls().client_pem_files(&chain, &key).unwrap())
            .await
            .unwrap();
        // The order of the calls does not matter.
        let tls = ca
            .tls()
            .server_name(HOST)
            .unwrap()
            .client_pem(&cert.certificate, &cert.key)
            .unwrap();
        cycle(&server, tls.server_name(HOST).unwrap())
            .await
            .unwrap();
    }
}

// With TLS 1.3 the rejection arrives after the handshake.
#[tokio::test]
async fn a_client_with_no_certificate_or_another_one_is_rejected() {
    let ca = TestCa::new();
    let untrusted = TestCa::new().issue("worker-1");
    for version in [&TLS12, &TLS13] {
        let server = server(&ca, version).await;
        for tls in [
            ca.tls(),
            ca.tls()
                .client_pem(&untrusted.certificate, &untrusted.key)
                .unwrap(),
        ] {
            let error = cycle(&server, tls).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Tls {
                        kind: TlsErrorKind::Refused,
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
async fn an_unrequested_client_certificate_is_ignored() {
    let ca = TestCa::new();
    let cert = ca.issue("worker-1");
    let server = Server::builder()
        .tls(ca.server())
        .build()
        .start()
        .await
        .unwrap();
    cycle(
        &server,
        ca.tls().client_pem(&cert.certificate, &cert.key).unwrap(),
    )
    .await
    .unwrap();
}
