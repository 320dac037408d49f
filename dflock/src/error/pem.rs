//! Errors about certificates and keys. None of them holds a byte of the input.

use std::fmt;

/// The reason why a certificate or a key is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemErrorKind {
    /// The file cannot be read.
    Unreadable {
        /// The error of the operating system.
        error: String,
    },
    /// The file cannot be read, and the value that was given as its path may be the key itself.
    NotPath {
        /// The error of the operating system.
        error: String,
    },
    /// The text is UTF-16, not ASCII or UTF-8.
    Utf16,
    /// One of its sections, from a BEGIN line to an END line, is malformed.
    Malformed {
        /// The position of the section among all sections, from 1.
        section: usize,
        /// The reason why the section is malformed.
        kind: PemSectionErrorKind,
    },
    /// No certificate.
    NoCertificate {
        /// The content of the first section, if there is one.
        found: Option<PemContent>,
    },
    /// No private key that TLS can use.
    NoKey {
        /// The unusable private key, or else the content of the first section.
        found: Option<PemContent>,
    },
    /// A certificate or key of a kind that TLS cannot use.
    Unusable {
        /// The position of the section among all sections, from 1.
        section: usize,
    },
    /// The key belongs to another certificate.
    Mismatch,
}

impl fmt::Display for PemErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GIVE_CERTIFICATE: &str = "give PEM with at least one `BEGIN CERTIFICATE`";
        const GIVE_KEY: &str = "give PEM with one `BEGIN PRIVATE KEY` that is not encrypted";
        match self {
            Self::Unreadable { error } => write!(f, "it cannot be read: {error}"),
            Self::NotPath { error } => write!(
                f,
                "the file cannot be read: {error}; the value is not shown, as it may be the key \
                 itself; give the path of a PEM file"
            ),
            Self::Utf16 => f.write_str("it is UTF-16; save it as ASCII or UTF-8"),
            Self::Malformed { section, kind } => write!(f, "section {section} is not PEM: {kind}"),
            Self::NoCertificate { found: None } => {
                write!(f, "it has no certificate in it; {GIVE_CERTIFICATE}")
            }
            Self::NoCertificate {
                found: Some(content),
            } => {
                write!(
                    f,
                    "it has no certificate in it, but {content}; {GIVE_CERTIFICATE}"
                )
            }
            Self::NoKey { found: None } => write!(f, "it has no private key in it; {GIVE_KEY}"),
            Self::NoKey {
                found: Some(PemContent::EncryptedPrivateKey),
            } => {
                write!(
                    f,
                    "its private key is encrypted; decrypt it, as with `openssl pkey`"
                )
            }
            Self::NoKey {
                found: Some(PemContent::PrivateKey),
            } => {
                write!(
                    f,
                    "its private key is of a form that TLS cannot use; {GIVE_KEY}"
                )
            }
            Self::NoKey {
                found: Some(content),
            } => {
                write!(f, "it has no private key in it, but {content}; {GIVE_KEY}")
            }
            Self::Unusable { section } => write!(
                f,
                "TLS cannot use section {section}; give an X.509 certificate, and a key that is \
                 RSA of 2048 bits or more, ECDSA or Ed25519"
            ),
            Self::Mismatch => f.write_str(
                "it is not the key of the first certificate of the chain; give the key of that \
                 certificate",
            ),
        }
    }
}

/// The reason why a section of PEM is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemSectionErrorKind {
    /// There is no line break after the BEGIN line.
    NoLineBreakAfterBegin,
    /// The line breaks are written as a backslash and an `n` or `r`.
    EscapedLineBreaks,
    /// There is text after the dashes of the END line.
    NoLineBreakAfterEnd,
    /// The BEGIN is on the END line of the section before it.
    JoinedToEnd,
    /// The BEGIN or END is not at the start of a line.
    NotAtLineStart,
    /// The BEGIN or END does not have five dashes on either side.
    Damaged,
    /// The END has no BEGIN before it.
    NoBegin,
    /// The BEGIN has no END after it.
    NoEnd,
    /// The BEGIN and the END name different things.
    OtherEnd,
    /// The text is not base64.
    NotBase64,
    /// A `TRUSTED CERTIFICATE`, a format of OpenSSL.
    TrustedCertificate,
    /// The BEGIN line has an unknown label, and the section may contain a certificate.
    UnknownLabel,
}

impl fmt::Display for PemSectionErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLineBreakAfterBegin => "no line break after the BEGIN line",
            Self::EscapedLineBreaks => {
                "no line break after the BEGIN line: line breaks are written as backslashes and \
                 letters"
            }
            Self::NoLineBreakAfterEnd => "no line break after the END line",
            Self::JoinedToEnd => "no line break between its BEGIN and the END before it",
            Self::NotAtLineStart => {
                "there is text before BEGIN or END on the same line, which may be invisible"
            }
            Self::Damaged => "BEGIN or END does not have five dashes on either side",
            Self::NoBegin => "no BEGIN line before the END line",
            Self::NoEnd => "no END line after the BEGIN line",
            Self::OtherEnd => "the BEGIN and the END line name different things",
            Self::NotBase64 => "the text between its BEGIN and its END line is not base64",
            Self::TrustedCertificate => {
                "it is a `TRUSTED CERTIFICATE`, a format of OpenSSL; convert it with \
                 `openssl x509`"
            }
            Self::UnknownLabel => "its BEGIN line has an unknown label",
        })
    }
}

/// The content of one section of PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemContent {
    /// A certificate.
    Certificate,
    /// A private key.
    PrivateKey,
    /// A private key that is encrypted.
    EncryptedPrivateKey,
    /// A request for a certificate, which an issuer answers with the certificate.
    CertificateRequest,
    /// A public key.
    PublicKey,
    /// A list of revoked certificates.
    RevocationList,
    /// Parameters of a key.
    Parameters,
}

impl fmt::Display for PemContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "a certificate",
            Self::PrivateKey => "a private key",
            Self::EncryptedPrivateKey => "an encrypted private key",
            Self::CertificateRequest => "a certificate request",
            Self::PublicKey => "a public key",
            Self::RevocationList => "a list of revoked certificates",
            Self::Parameters => "the parameters of a key",
        })
    }
}
