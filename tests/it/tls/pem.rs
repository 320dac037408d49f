//! Certificates and keys that cannot be used are refused before anything is connected to.

use dflock::server::ServerTls;
use dflock::{ConfigError, PemErrorKind, PemSectionErrorKind, Tls};

use super::authority::{Authority, HOST};
use super::folder::Folder;
use crate::bad_input::reads_well;

/// Refused for `want`'s reason, in words that name `names`.
fn refused<T: std::fmt::Debug>(
    result: Result<T, ConfigError>,
    want: &PemErrorKind,
    names: &[&str],
) {
    let error = result.unwrap_err();
    let ConfigError::Pem { why, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        std::mem::discriminant(why),
        std::mem::discriminant(want),
        "{error:?}"
    );
    reads_well(&error, names);
}

const UNREADABLE: PemErrorKind = PemErrorKind::Unreadable {
    error: String::new(),
};
const MALFORMED: PemErrorKind = PemErrorKind::Malformed {
    section: 1,
    why: PemSectionErrorKind::NoEnd,
};
const UNUSABLE: PemErrorKind = PemErrorKind::Unusable { section: 1 };
const NO_CERTIFICATE: PemErrorKind = PemErrorKind::NoCertificate { found: None };
const NO_KEY: PemErrorKind = PemErrorKind::NoKey { found: None };

/// PEM in form, and no certificate.
const EMPTY_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const CUT_OFF: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n";

#[test]
fn a_ca_certificate_that_cannot_be_used_is_refused() {
    let folder = Folder::new();
    let (missing, empty) = (folder.path("missing.pem"), folder.file("empty.pem", ""));
    refused(
        Tls::ca_pem_file(&missing),
        &UNREADABLE,
        &["the CA certificate", &missing, "cannot be read"],
    );
    // a folder is no file
    let place = folder.path("");
    refused(
        Tls::ca_pem_file(&place),
        &UNREADABLE,
        &["the CA certificate", &place],
    );
    refused(
        Tls::ca_pem_file(&empty),
        &NO_CERTIFICATE,
        &["the CA certificate", &empty, "`BEGIN CERTIFICATE`"],
    );
    let key = Authority::new().papers(HOST).key;
    for (pem, want) in [
        ("", NO_CERTIFICATE),
        ("hello", NO_CERTIFICATE),
        (key.as_str(), NO_CERTIFICATE),
        (CUT_OFF, MALFORMED),
        (EMPTY_CERTIFICATE, UNUSABLE),
    ] {
        refused(Tls::ca_pem(pem), &want, &["the CA certificate"]);
    }
}

/// What the client's and the server's papers have in common: who takes them, and how they are called in errors.
type Taker = (
    &'static str,
    &'static str,
    fn(&str, &str) -> Result<(), ConfigError>,
);

const TAKERS: [Taker; 2] = [
    ("the client certificate", "the client key", |chain, key| {
        Authority::new().tls().client_pem(chain, key).map(drop)
    }),
    ("the server certificate", "the server key", |chain, key| {
        ServerTls::pem(chain, key).map(drop)
    }),
];

#[test]
fn papers_that_cannot_be_used_are_refused_and_named() {
    let authority = Authority::new();
    let (papers, other) = (authority.papers(HOST), authority.papers(HOST));
    for (certificate, key, take) in TAKERS {
        take(&papers.certificate, &papers.key).unwrap();
        // both may be in one
        let both = format!("{}{}", papers.key, papers.certificate);
        take(&both, &both).unwrap();
        for (chain, want) in [
            ("", NO_CERTIFICATE),
            (&papers.key, NO_CERTIFICATE),
            (CUT_OFF, MALFORMED),
        ] {
            refused(take(chain, &papers.key), &want, &[certificate]);
        }
        refused(
            take(EMPTY_CERTIFICATE, &papers.key),
            &UNUSABLE,
            &[certificate],
        );
        for (private, want) in [
            ("", NO_KEY),
            (&papers.certificate, NO_KEY),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", MALFORMED),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                UNUSABLE,
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                NO_KEY,
            ),
            (&other.key, PemErrorKind::Mismatch),
        ] {
            refused(take(&papers.certificate, private), &want, &[key]);
        }
    }
}

#[test]
fn files_of_papers_are_named_when_they_cannot_be_read() {
    let papers = Authority::new().papers(HOST);
    let folder = Folder::new();
    let (chain, key) = (
        folder.file("my.pem", &papers.certificate),
        folder.file("my.key", &papers.key),
    );
    let missing = folder.path("missing.pem");
    let tls = || Authority::new().tls();
    tls().client_pem_files(&chain, &key).unwrap();
    ServerTls::pem_files(&chain, &key).unwrap();
    refused(
        tls().client_pem_files(&missing, &key),
        &UNREADABLE,
        &["the client certificate", &missing],
    );
    refused(
        tls().client_pem_files(&chain, &missing),
        &UNREADABLE,
        &["the client key", &missing],
    );
    refused(
        ServerTls::pem_files(&missing, &key),
        &UNREADABLE,
        &["the server certificate", &missing],
    );
    refused(
        ServerTls::pem_files(&chain, &missing),
        &UNREADABLE,
        &["the server key", &missing],
    );
    refused(
        ServerTls::pem_files(&chain, &chain),
        &NO_KEY,
        &["the server key", &chain],
    );
}

#[test]
fn a_name_that_no_certificate_is_for_is_refused() {
    let tls = || Authority::new().tls();
    let error = tls().server_name("lock internal").unwrap_err();
    reads_well(&error, &["\"lock internal\"", "lock.internal"]);
    // a host may be fine for the system's resolver and not for a certificate
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
