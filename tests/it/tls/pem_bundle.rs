//! PEM files with several certificates: each is used, or the file is rejected. None is skipped.

use dflock::server::{Server, ServerTls};
use dflock::{ConfigError, PemContent, PemErrorKind, PemSectionErrorKind, Tls};

use super::test_ca::{HOST, TestCa};
use crate::bad_input::reads_well;

/// Returns whether a client that trusts `bundle` connects to a server of `ca`.
async fn is_trusted(ca: &TestCa, bundle: &str) -> bool {
    let server = Server::builder()
        .tls(ca.server())
        .build()
        .start()
        .await
        .unwrap();
    let client = server
        .client_builder()
        .tls(Tls::ca_pem(bundle).unwrap())
        .build()
        .unwrap();
    client.ping().await.is_ok()
}

/// Relabels the certificate `pem`.
fn with_label(pem: &str, label: &str) -> String {
    pem.replace("BEGIN CERTIFICATE", &format!("BEGIN {label}"))
        .replace("END CERTIFICATE", &format!("END {label}"))
}

// OpenSSL 3.0 reads each of these files. `openssl storeutl -certs` finds two certificates in each.
#[tokio::test]
async fn every_certificate_that_openssl_reads_is_loaded() {
    let (one, two) = (TestCa::new(), TestCa::new());
    let (a, b) = (one.pem(), two.pem());
    for bundle in [
        format!("{a}{b}"),
        format!("\u{feff}{a}{b}"),
        format!("{}{b}", with_label(&a, "X509 CERTIFICATE")),
        format!("{a}{}", with_label(&b, "X509 CERTIFICATE")),
        format!("subject=CN = one\nBag Attributes\n    friendlyName: one\n{a}\n\n# two\n{b}"),
        format!("{a}{b}").replace('\n', "\r\n"),
        format!("{a}{b}").replace('\n', "  \n"),
        format!("{a}{}", b.trim_end()),
        format!("{a}{}{b}", TestCa::new().issue(HOST).key),
        // The base64 body may be one line.
        {
            let (begin, rest) = a.split_once('\n').unwrap();
            let (body, end) = rest.trim_end().rsplit_once('\n').unwrap();
            format!("{begin}\n{}\n{end}\n{b}", body.replace('\n', ""))
        },
    ] {
        for ca in [&one, &two] {
            assert!(is_trusted(ca, &bundle).await, "{bundle}");
        }
    }
}

type Loader = (&'static str, fn(&str, &str) -> Result<(), ConfigError>);

/// Functions that load certificates.
const LOADERS: [Loader; 3] = [
    ("the CA certificate", |bundle, _| {
        Tls::ca_pem(bundle).map(drop)
    }),
    ("the client certificate", |chain, key| {
        TestCa::new().tls().client_pem(chain, key).map(drop)
    }),
    ("the server certificate", |chain, key| {
        ServerTls::pem(chain, key).map(drop)
    }),
];

#[test]
fn an_unusable_section_is_rejected_with_its_number() {
    use PemSectionErrorKind as Kind;

    let issuer = TestCa::new();
    let cert = issuer.issue(HOST);
    let (a, b) = (cert.certificate, issuer.pem());
    let replace_first = |pem: &str, from: &str, to: &str| pem.replacen(from, to, 1);
    for (bundle, section, why) in [
        (
            format!("  {}{b}", a.replace('\n', "\n  ")),
            1,
            Kind::NotAtLineStart,
        ),
        (format!("{a}\t{b}"), 2, Kind::NotAtLineStart),
        (format!("issuer: {a}{b}"), 1, Kind::NotAtLineStart),
        (format!("# {a}{b}"), 1, Kind::NotAtLineStart),
        (format!("{a}issuer: {b}"), 2, Kind::NotAtLineStart),
        // Two joined files that both start with a byte order mark.
        (format!("\u{feff}{a}\u{feff}{b}"), 2, Kind::NotAtLineStart),
        (format!("{a}\u{200b}{b}"), 2, Kind::NotAtLineStart),
        (format!("{}{b}", a.trim_end()), 2, Kind::JoinedToEnd),
        (format!("{a}{}{a}", b.trim_end()), 3, Kind::JoinedToEnd),
        (format!("{} and {b}", a.trim_end()), 2, Kind::JoinedToEnd),
        (
            format!("{} end\n{b}", a.trim_end()),
            1,
            Kind::NoLineBreakAfterEnd,
        ),
        (
            format!("{}{b}", with_label(&a, "TRUSTED CERTIFICATE")),
            1,
            Kind::TrustedCertificate,
        ),
        (
            format!("{a}{}", with_label(&b, "TRUSTED CERTIFICATE")),
            2,
            Kind::TrustedCertificate,
        ),
        // This format contains certificates, too.
        (
            format!("{a}{}", with_label(&b, "PKCS7")),
            2,
            Kind::UnknownLabel,
        ),
        (
            format!("{a}{}", with_label(&b, "certificate")),
            2,
            Kind::UnknownLabel,
        ),
        (
            format!("{a}{}", with_label(&b, "CERTIFICATE ")),
            2,
            Kind::UnknownLabel,
        ),
        (
            format!("{}{b}", replace_first(&a, "-----BEGIN", "----BEGIN")),
            1,
            Kind::Damaged,
        ),
        (
            format!(
                "{}{b}",
                replace_first(&a, "CERTIFICATE-----", "CERTIFICATE----")
            ),
            1,
            Kind::Damaged,
        ),
        (
            format!(
                "{}{b}",
                replace_first(&a, "CERTIFICATE-----", "CERTIFICATE------")
            ),
            1,
            Kind::NoLineBreakAfterBegin,
        ),
        (
            format!("{a}{}", b.replace("-----", "\u{2014}\u{2014}-")),
            2,
            Kind::Damaged,
        ),
        (
            format!("{a}{}", b.replace("-----", "\u{2013}")),
            2,
            Kind::Damaged,
        ),
        (
            format!("{a}{}", with_label(&b, " CERTIFICATE")),
            2,
            Kind::UnknownLabel,
        ),
        (
            format!(
                "{a}{}",
                replace_first(&b, "-----BEGIN CERTIFICATE-----\n", "")
            ),
            2,
            Kind::NoBegin,
        ),
        (
            format!(
                "{}{b}",
                replace_first(&a, "-----END CERTIFICATE-----\n", "")
            ),
            1,
            Kind::NoEnd,
        ),
        (
            format!(
                "{a}{}",
                replace_first(&b, "-----END CERTIFICATE-----\n", "")
            ),
            2,
            Kind::NoEnd,
        ),
        (
            format!("{a}{}", replace_first(&b, "END CERTIFICATE", "END CERT")),
            2,
            Kind::OtherEnd,
        ),
        (
            format!("{a}{}", replace_first(&b, "M", "*")),
            2,
            Kind::NotBase64,
        ),
    ] {
        for (loader_name, load) in LOADERS {
            let error = load(&bundle, &cert.key).expect_err(&bundle);
            let ConfigError::Pem {
                kind:
                    PemErrorKind::Malformed {
                        section: at,
                        kind: found,
                    },
                ..
            } = error
            else {
                panic!("{error:?} of {bundle}");
            };
            assert_eq!((at, found), (section, why), "{loader_name}: {bundle}");
            reads_well(&error, &[loader_name, &format!("section {section} ")]);
        }
    }
}

#[test]
fn a_section_of_another_kind_is_named_in_the_error() {
    let cert = TestCa::new().issue(HOST);
    let body = cert
        .key
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect::<String>();
    let of = |label: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    for (label, content, text) in [
        ("PRIVATE KEY", PemContent::PrivateKey, "but a private key"),
        (
            "RSA PRIVATE KEY",
            PemContent::PrivateKey,
            "but a private key",
        ),
        (
            "ENCRYPTED PRIVATE KEY",
            PemContent::EncryptedPrivateKey,
            "but an encrypted private key",
        ),
        (
            "CERTIFICATE REQUEST",
            PemContent::CertificateRequest,
            "but a certificate request",
        ),
        (
            "NEW CERTIFICATE REQUEST",
            PemContent::CertificateRequest,
            "but a certificate request",
        ),
        ("PUBLIC KEY", PemContent::PublicKey, "but a public key"),
        (
            "X509 CRL",
            PemContent::RevocationList,
            "but a list of revoked certificates",
        ),
        (
            "EC PARAMETERS",
            PemContent::Parameters,
            "but the parameters of a key",
        ),
    ] {
        for (loader_name, load) in LOADERS {
            let error = load(&of(label), &cert.key).unwrap_err();
            let ConfigError::Pem {
                kind: PemErrorKind::NoCertificate { found },
                ..
            } = error
            else {
                panic!("{error:?} of {label}");
            };
            assert_eq!(found, Some(content));
            reads_well(&error, &[loader_name, text, "`BEGIN CERTIFICATE`"]);
        }
    }
}

#[test]
fn an_unusable_key_is_rejected_with_its_reason() {
    let cert = TestCa::new().issue(HOST);
    let body = cert
        .key
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect::<String>();
    let of = |label: &str, headers: &str| {
        format!("-----BEGIN {label}-----\n{headers}{body}\n-----END {label}-----\n")
    };
    let load = |key: &str| TestCa::new().tls().client_pem(&cert.certificate, key);
    // OpenSSL writes these parameters before an elliptic curve key.
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    load(&format!("{parameters}{}", cert.key)).unwrap();
    for (key, text) in [
        (of("ENCRYPTED PRIVATE KEY", ""), "encrypted"),
        (
            of(
                "RSA PRIVATE KEY",
                "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
            ),
            "encrypted",
        ),
        (
            format!("{parameters}{}", of("ENCRYPTED PRIVATE KEY", "")),
            "encrypted",
        ),
        (
            of("OPENSSH PRIVATE KEY", ""),
            "of a form that TLS cannot use",
        ),
        (cert.certificate.clone(), "but a certificate"),
        (of("RSA PRIVATE KEY", ""), "TLS cannot use section 1"),
    ] {
        let error = load(&key).unwrap_err();
        reads_well(&error, &["the client key", text]);
    }
}

#[test]
fn utf_16_is_named_in_the_error() {
    let pem = TestCa::new().pem();
    for (mark, bytes) in [
        ([0xff, 0xfe], u16::to_le_bytes as fn(u16) -> [u8; 2]),
        ([0xfe, 0xff], u16::to_be_bytes),
    ] {
        let text = [mark.to_vec(), pem.encode_utf16().flat_map(bytes).collect()].concat();
        let error = Tls::ca_pem(text).unwrap_err();
        reads_well(&error, &["the CA certificate", "UTF-16", "save it as"]);
    }
}
