//! Unusable certificates and keys are rejected before any connection.

use dflock::server::ServerTls;
use dflock::{ConfigError, PemErrorKind, PemSectionErrorKind, Tls};

use super::temp_dir::TempDir;
use super::test_ca::{HOST, TestCa};
use crate::bad_input::reads_well;

/// Asserts that the result is an error of the kind `expected` whose message contains `names`.
fn assert_rejected<T: std::fmt::Debug>(
    result: Result<T, ConfigError>,
    expected: &PemErrorKind,
    names: &[&str],
) {
    let error = result.unwrap_err();
    let ConfigError::Pem { kind, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        std::mem::discriminant(kind),
        std::mem::discriminant(expected),
        "{error:?}"
    );
    reads_well(&error, names);
}

const UNREADABLE: PemErrorKind = PemErrorKind::Unreadable {
    error: String::new(),
};
const MALFORMED: PemErrorKind = PemErrorKind::Malformed {
    section: 1,
    kind: PemSectionErrorKind::NoEnd,
};
const UNUSABLE: PemErrorKind = PemErrorKind::Unusable { section: 1 };
const NO_CERTIFICATE: PemErrorKind = PemErrorKind::NoCertificate { found: None };
const NO_KEY: PemErrorKind = PemErrorKind::NoKey { found: None };

/// Valid PEM without a certificate.
const EMPTY_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const TRUNCATED: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n";

#[test]
fn an_unusable_ca_certificate_is_rejected() {
    let dir = TempDir::new();
    let (missing, empty) = (dir.path("missing.pem"), dir.file("empty.pem", ""));
    assert_rejected(
        Tls::ca_pem_file(&missing),
        &UNREADABLE,
        &["the CA certificate", &missing, "cannot be read"],
    );
    // A directory is not a file.
    let directory = dir.path("");
    assert_rejected(
        Tls::ca_pem_file(&directory),
        &UNREADABLE,
        &["the CA certificate", &directory],
    );
    assert_rejected(
        Tls::ca_pem_file(&empty),
        &NO_CERTIFICATE,
        &["the CA certificate", &empty, "`BEGIN CERTIFICATE`"],
    );
    let key = TestCa::new().issue(HOST).key;
    for (pem, expected) in [
        ("", NO_CERTIFICATE),
        ("hello", NO_CERTIFICATE),
        (key.as_str(), NO_CERTIFICATE),
        (TRUNCATED, MALFORMED),
        (EMPTY_CERTIFICATE, UNUSABLE),
    ] {
        assert_rejected(Tls::ca_pem(pem), &expected, &["the CA certificate"]);
    }
}

/// Functions of client and server that load a certificate and key, and their names in errors.
type CertLoader = (
    &'static str,
    &'static str,
    fn(&str, &str) -> Result<(), ConfigError>,
);

const CERT_LOADERS: [CertLoader; 2] = [
    ("the client certificate", "the client key", |chain, key| {
        TestCa::new().tls().client_pem(chain, key).map(drop)
    }),
    ("the server certificate", "the server key", |chain, key| {
        ServerTls::pem(chain, key).map(drop)
    }),
];

#[test]
fn an_unusable_certificate_or_key_is_rejected_and_named() {
    let ca = TestCa::new();
    let (cert, other) = (ca.issue(HOST), ca.issue(HOST));
    for (certificate, key, take) in CERT_LOADERS {
        take(&cert.certificate, &cert.key).unwrap();
        // One file may contain both.
        let both = format!("{}{}", cert.key, cert.certificate);
        take(&both, &both).unwrap();
        for (chain, expected) in [
            ("", NO_CERTIFICATE),
            (&cert.key, NO_CERTIFICATE),
            (TRUNCATED, MALFORMED),
        ] {
            assert_rejected(take(chain, &cert.key), &expected, &[certificate]);
        }
        assert_rejected(
            take(EMPTY_CERTIFICATE, &cert.key),
            &UNUSABLE,
            &[certificate],
        );
        for (private, expected) in [
            ("", NO_KEY),
            (&cert.certificate, NO_KEY),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", MALFORMED),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                UNUSABLE,
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n\
                 -----END ENCRYPTED PRIVATE KEY-----\n",
                NO_KEY,
            ),
            (&other.key, PemErrorKind::Mismatch),
        ] {
            assert_rejected(take(&cert.certificate, private), &expected, &[key]);
        }
    }
}

#[test]
fn unreadable_certificate_and_key_files_are_named() {
    let cert = TestCa::new().issue(HOST);
    let dir = TempDir::new();
    let (chain, key) = (
        dir.file("my.pem", &cert.certificate),
        dir.file("my.key", &cert.key),
    );
    let missing = dir.path("missing.pem");
    let tls = || TestCa::new().tls();
    tls().client_pem_files(&chain, &key).unwrap();
    ServerTls::pem_files(&chain, &key).unwrap();
    assert_rejected(
        tls().client_pem_files(&missing, &key),
        &UNREADABLE,
        &["the client certificate", &missing],
    );
    assert_rejected(
        tls().client_pem_files(&chain, &missing),
        &UNREADABLE,
        &["the client key", &missing],
    );
    assert_rejected(
        ServerTls::pem_files(&missing, &key),
        &UNREADABLE,
        &["the server certificate", &missing],
    );
    assert_rejected(
        ServerTls::pem_files(&chain, &missing),
        &UNREADABLE,
        &["the server key", &missing],
    );
    assert_rejected(
        ServerTls::pem_files(&chain, &chain),
        &NO_KEY,
        &["the server key", &chain],
    );
}

#[test]
fn an_invalid_server_name_is_rejected() {
    let tls = || TestCa::new().tls();
    let error = tls().server_name("lock internal").unwrap_err();
    reads_well(&error, &["\"lock internal\"", "lock.internal"]);
    // The system's resolver accepts host names that are invalid in a certificate.
    let error = dflock::Client::builder()
        .servers(["schlüssel:6388"])
        .tls(tls())
        .build()
        .unwrap_err();
    assert_eq!(
        error,
        ConfigError::ServerName {
            name: "schlüssel".to_owned()
        }
    );
    let named = tls().server_name("lock.internal").unwrap();
    dflock::Client::builder()
        .servers(["schlüssel:6388"])
        .tls(named)
        .build()
        .unwrap();
}
