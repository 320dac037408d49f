//! Verification of the server's certificate, and the errors of rejected ones.

use std::sync::Arc;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Error, Operation, Tls, TlsErrorKind};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use tokio::time::sleep;

use super::test_ca::{HOST, TestCa, TestCert};
use crate::bad_input::reads_well;

async fn server(cert: &TestCert) -> Server {
    Server::builder()
        .tls(cert.server())
        .build()
        .start()
        .await
        .unwrap()
}

/// Pings the server with `tls`. A rejected connection is closed on the server: covers bug P04.
async fn ping(server: &Server, tls: Tls) -> Result<(), Error> {
    let client = server
        .client_builder()
        .tls(tls)
        .connector(server.connector())
        .build()
        .unwrap();
    let result = client.ping().await;
    drop(client);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(server.stats().connections, 0);
    result
}

#[tokio::test(start_paused = true)]
async fn an_untrusted_certificate_is_rejected_with_its_reason() {
    let ca = TestCa::new();
    let expired =
        |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2001, 1, 1);
    let not_yet_valid =
        |params: &mut rcgen::CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    let for_clients = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    for (cert, expected, names) in [
        (
            ca.issue("lock.internal"),
            TlsErrorKind::Name,
            ["another name", "`Tls::server_name`"],
        ),
        (
            ca.issue("127.0.0.2"),
            TlsErrorKind::Name,
            ["another name", "`servers`"],
        ),
        (
            ca.issue_with(HOST, expired),
            TlsErrorKind::Date,
            ["out of date", "clock"],
        ),
        (
            ca.issue_with(HOST, not_yet_valid),
            TlsErrorKind::Date,
            ["not valid yet", "clock"],
        ),
        (
            TestCa::new().issue(HOST),
            TlsErrorKind::Issuer,
            ["not issued by a trusted CA", "`Tls::ca_pem_file`"],
        ),
        (
            ca.issue_with(HOST, for_clients),
            TlsErrorKind::Certificate,
            ["refused", "see the cause"],
        ),
    ] {
        let server = server(&cert).await;
        let error = ping(&server, ca.tls()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Tls { kind, .. } if *kind == expected),
            "{error:?}"
        );
        assert!(
            !error.is_retryable() && !error.is_timeout() && !error.is_auth() && !error.is_lost()
        );
        let addr = server.addr().to_string();
        assert_eq!(
            (error.operation(), error.key(), error.server()),
            (Some(Operation::Ping), None, Some(&*addr))
        );
        assert!(std::error::Error::source(&error).is_some());
        reads_well(&error, &["ping", &addr, names[0], names[1]]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_certificate_of_the_issuer_suffices() {
    let ca = TestCa::new();
    let server = server(&ca.issue(HOST)).await;
    ping(&server, ca.tls()).await.unwrap();
    // One of several trusted certificates suffices.
    ping(
        &server,
        Tls::ca_pem(TestCa::new().pem() + &ca.pem()).unwrap(),
    )
    .await
    .unwrap();
}

// A CA certificate used as a server certificate, as `openssl req -x509` creates it.
#[tokio::test(start_paused = true)]
async fn a_self_signed_certificate_is_trusted_unless_it_is_a_ca() {
    for (is_ca, believed) in [
        (IsCa::ExplicitNoCa, true),
        (IsCa::NoCa, true),
        (IsCa::Ca(BasicConstraints::Unconstrained), false),
    ] {
        let cert = TestCert::self_signed(HOST, is_ca);
        let server = server(&cert).await;
        match ping(&server, Tls::ca_pem(&cert.certificate).unwrap()).await {
            Ok(()) => assert!(believed, "{is_ca:?}"),
            Err(error) => {
                assert!(
                    !believed
                        && matches!(
                            error,
                            Error::Tls {
                                kind: TlsErrorKind::Certificate,
                                ..
                            }
                        ),
                    "{is_ca:?}: {error:?}"
                );
                reads_well(&error, &["is for servers and not a CA's"]);
            }
        }
    }
}

// Covers bug T39. The certificate is verified for another name, and the connection goes to the same
// host.
#[tokio::test]
async fn a_given_server_name_is_verified_instead_of_the_host() {
    let ca = TestCa::new();
    let server = server(&ca.issue("lock.internal")).await;
    let client = |name: &str| {
        let tls = ca.tls().server_name(name).unwrap();
        server.client_builder().tls(tls).build().unwrap()
    };
    client("lock.internal").ping().await.unwrap();
    let error = client("other.internal").ping().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tls {
                kind: TlsErrorKind::Name,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.server(), Some(&*server.addr().to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_user_defined_rustls_configuration_is_used_unchanged() {
    let ca = TestCa::new();
    let server = server(&ca.issue(HOST)).await;
    ping(&server, Tls::from_config(ca.client_config()))
        .await
        .unwrap();
    let error = ping(
        &server,
        Tls::from_config(Arc::new(TestCa::new().client_config())),
    )
    .await
    .unwrap_err();
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
