//! TLS to the members, with client certificates.

use dflock::{ClientBuilder, Error, Tls, TlsErrorKind};

use super::builder;
use crate::tls::temp_dir::TempDir;
use crate::tls::test_ca::{HOST, TestCa};
use dflock_tests::etcd_cluster::{ClusterOptions, EtcdCluster};

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_on_both_sides() {
    let (ca, folder) = (TestCa::new(), TempDir::new());
    let server = ca.issue(HOST);
    let arguments = [
        (
            "--cert-file",
            folder.file("server.pem", &server.certificate),
        ),
        ("--key-file", folder.file("server.key", &server.key)),
        ("--trusted-ca-file", folder.file("ca.pem", ca.pem())),
    ];
    let arguments = arguments
        .into_iter()
        .flat_map(|(flag, path)| [flag.to_owned(), path]);
    let options = ClusterOptions {
        arguments: arguments.chain(["--client-cert-auth".to_owned()]).collect(),
        scheme: "https".to_owned(),
        ..ClusterOptions::default()
    };
    let Some(cluster) = EtcdCluster::start_with(1, &options) else {
        return;
    };
    let cycle_of = async |builder: ClientBuilder| {
        let client = builder.socket_timeout(super::SECOND * 2).build()?;
        let held = client.semaphore("tls", 1)?.acquire().await?;
        held.renew().await?;
        held.release().await.map(drop)
    };
    let cycle = async |tls: Option<Tls>| match tls {
        Some(tls) => cycle_of(builder(&cluster).tls(tls)).await,
        None => cycle_of(builder(&cluster)).await,
    };
    let me = ca.issue("me");
    let tls = |ca: &TestCa| ca.tls().client_pem(&me.certificate, &me.key).unwrap();
    cycle(Some(tls(&ca))).await.unwrap();
    let variables = [
        (
            "DFLOCK_SERVERS",
            format!("etcd://{}", cluster.addresses()[0]),
        ),
        ("DFLOCK_TLS_CA", folder.path("ca.pem")),
        ("DFLOCK_TLS_CERT", folder.file("me.pem", &me.certificate)),
        ("DFLOCK_TLS_KEY", folder.file("me.key", &me.key)),
    ];
    let lookup = |wanted| {
        let variable = variables.iter().find(|(name, _)| *name == wanted);
        variable.map(|(_, value)| value.into())
    };
    cycle_of(ClientBuilder::from_lookup(lookup).unwrap())
        .await
        .unwrap();
    let kind = |error| match error {
        Error::Tls { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    let wrong_ca = cycle(Some(tls(&TestCa::new()))).await.unwrap_err();
    assert_eq!(kind(wrong_ca), TlsErrorKind::Issuer);
    let no_certificate = cycle(Some(ca.tls())).await.unwrap_err();
    assert_eq!(kind(no_certificate), TlsErrorKind::Refused);
    let no_tls = cycle(None).await.unwrap_err();
    assert!(
        matches!(no_tls, Error::Unavailable { .. } | Error::Connect { .. }),
        "{no_tls:?}"
    );
}
