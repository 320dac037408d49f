//! The server's certificate: which are believed, and what is said of the others.

use std::sync::Arc;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Error, Operation, Tls, TlsErrorKind};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use tokio::time::sleep;

use super::authority::{Authority, HOST, Papers};
use crate::bad_input::reads_well;

async fn server(papers: &Papers) -> Server {
    Server::builder()
        .tls(papers.server())
        .build()
        .start()
        .await
        .unwrap()
}

/// What a client with `tls` makes of the server, which has no connection left when it is refused (P04).
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
async fn a_certificate_that_cannot_be_believed_says_why() {
    let authority = Authority::new();
    let expired =
        |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2001, 1, 1);
    let early =
        |params: &mut rcgen::CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    let for_clients = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    for (papers, want, names) in [
        (
            authority.papers("lock.internal"),
            TlsErrorKind::Name,
            ["another name", "`Tls::server_name`"],
        ),
        (
            authority.papers("127.0.0.2"),
            TlsErrorKind::Name,
            ["another name", "`servers`"],
        ),
        (
            authority.papers_with(HOST, expired),
            TlsErrorKind::Date,
            ["out of date", "clock"],
        ),
        (
            authority.papers_with(HOST, early),
            TlsErrorKind::Date,
            ["not valid yet", "clock"],
        ),
        (
            Authority::new().papers(HOST),
            TlsErrorKind::Issuer,
            ["nobody who is trusted", "`Tls::ca_pem_file`"],
        ),
        (
            authority.papers_with(HOST, for_clients),
            TlsErrorKind::Certificate,
            ["refused", "see the cause"],
        ),
    ] {
        let server = server(&papers).await;
        let error = ping(&server, authority.tls()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Tls { fault, .. } if *fault == want),
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
async fn the_issuers_certificate_is_all_that_is_needed() {
    let authority = Authority::new();
    let server = server(&authority.papers(HOST)).await;
    ping(&server, authority.tls()).await.unwrap();
    // one of several will do
    ping(
        &server,
        Tls::ca_pem(Authority::new().pem() + &authority.pem()).unwrap(),
    )
    .await
    .unwrap();
}

// a CA's certificate that is shown as a server's own, as `openssl req -x509` makes it
#[tokio::test(start_paused = true)]
async fn a_self_signed_certificate_is_believed_unless_it_is_a_cas() {
    for (is_ca, believed) in [
        (IsCa::ExplicitNoCa, true),
        (IsCa::NoCa, true),
        (IsCa::Ca(BasicConstraints::Unconstrained), false),
    ] {
        let papers = Papers::self_signed(HOST, is_ca);
        let server = server(&papers).await;
        match ping(&server, Tls::ca_pem(&papers.certificate).unwrap()).await {
            Ok(()) => assert!(believed, "{is_ca:?}"),
            Err(error) => {
                assert!(
                    !believed
                        && matches!(
                            error,
                            Error::Tls {
                                fault: TlsErrorKind::Certificate,
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

// T39: another name is asked for in the certificate, on the connection that would have been made anyway
#[tokio::test]
async fn the_name_that_is_given_is_asked_for_instead_of_the_host() {
    let authority = Authority::new();
    let server = server(&authority.papers("lock.internal")).await;
    let client = |name: &str| {
        let tls = authority.tls().server_name(name).unwrap();
        server.client_builder().tls(tls).build().unwrap()
    };
    client("lock.internal").ping().await.unwrap();
    let error = client("other.internal").ping().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tls {
                fault: TlsErrorKind::Name,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.server(), Some(&*server.addr().to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_of_the_users_own_is_used_as_it_is() {
    let authority = Authority::new();
    let server = server(&authority.papers(HOST)).await;
    ping(&server, Tls::from_config(authority.client_config()))
        .await
        .unwrap();
    let error = ping(
        &server,
        Tls::from_config(Arc::new(Authority::new().client_config())),
    )
    .await
    .unwrap_err();
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
