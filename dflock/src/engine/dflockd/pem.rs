//! Certificates and keys in PEM, from files and from memory.
//!
//! `rustls-pki-types` decodes a section of PEM. Its search for sections is not used, because it
//! silently skips a damaged BEGIN line, and its errors quote the input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore};
use zeroize::Zeroizing;

use super::file;
use crate::error::{ConfigError, PemContent, PemErrorKind, PemSectionErrorKind};

const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();
const DASHES: &[u8] = b"-----";

type DecodeResult<T> = Result<T, PemSectionErrorKind>;
type ReadResult = io::Result<Zeroizing<Vec<u8>>>;

/// PEM, and its description for errors. It may contain a key, so it is wiped when it is dropped,
/// and does not implement `Debug`.
pub(crate) struct Pem {
    role: &'static str,
    file: Option<PathBuf>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Pem {
    pub(crate) fn new(role: &'static str, bytes: &[u8]) -> Self {
        Self {
            role,
            file: None,
            bytes: Zeroizing::new(bytes.to_vec()),
        }
    }

    /// Reads a file of any type, such as a pipe.
    pub(crate) fn read(role: &'static str, path: &Path) -> Result<Self, ConfigError> {
        Self::from_read(role, path, fs::read(path).map(Zeroizing::new))
    }

    /// Reads a regular file. Any other file is refused, because reading it could block the caller.
    pub(crate) fn read_regular(role: &'static str, path: &Path) -> Result<Self, ConfigError> {
        Self::from_read(role, path, file::read_regular(path))
    }

    fn from_read(role: &'static str, path: &Path, read: ReadResult) -> Result<Self, ConfigError> {
        match read {
            Ok(bytes) => Ok(Self {
                role,
                file: Some(path.to_owned()),
                bytes,
            }),
            // The "path" may be the key itself, which no error may show.
            Err(error) if !file::may_show_path(path, &error) => {
                let kind = PemErrorKind::NotPath {
                    error: error.to_string(),
                };
                Err(ConfigError::Pem {
                    role,
                    file: None,
                    kind,
                })
            }
            Err(error) => {
                let kind = PemErrorKind::Unreadable {
                    error: error.to_string(),
                };
                Err(ConfigError::Pem {
                    role,
                    file: Some(path.to_owned()),
                    kind,
                })
            }
        }
    }

    /// Returns all certificates. There is at least one, and TLS can use each.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let mut chain = Vec::new();
        self.for_each_certificate(|certificate| {
            ParsedCertificate::try_from(&certificate)?;
            chain.push(certificate);
            Ok(())
        })?;
        Ok(chain)
    }

    /// Adds all certificates to `roots`. There is at least one.
    pub(crate) fn add_to(&self, roots: &mut RootCertStore) -> Result<(), ConfigError> {
        self.for_each_certificate(|certificate| roots.add(certificate))
    }

    /// Calls `add` with each certificate. A section that may be intended as a certificate is refused,
    /// because otherwise its absence would only show later, as an untrusted server.
    fn for_each_certificate<F>(&self, mut add: F) -> Result<(), ConfigError>
    where
        F: FnMut(CertificateDer<'static>) -> Result<(), rustls::Error>,
    {
        let (mut count, mut other) = (0, None);
        for section in self.sections()? {
            let malformed = |kind| self.malformed(section.number, kind);
            match section.content() {
                Some(PemContent::Certificate) => {
                    let certificate = section.certificate().map_err(malformed)?;
                    let unusable = |_| {
                        self.error(PemErrorKind::Unusable {
                            section: section.number,
                        })
                    };
                    add(certificate).map_err(unusable)?;
                    count += 1;
                }
                Some(content) => other = other.or(Some(content)),
                None if section.is_trusted_certificate() => {
                    return Err(malformed(PemSectionErrorKind::TrustedCertificate));
                }
                None => return Err(malformed(PemSectionErrorKind::UnknownLabel)),
            }
        }
        if count > 0 {
            Ok(())
        } else {
            Err(self.error(PemErrorKind::NoCertificate { found: other }))
        }
    }

    /// Returns the first private key and the number of its section.
    fn key(&self) -> Result<(usize, PrivateKeyDer<'static>), ConfigError> {
        let sections = self.sections()?;
        for section in &sections {
            if let Some(key) = section.private_key() {
                let malformed = |kind| self.malformed(section.number, kind);
                return Ok((section.number, key.map_err(malformed)?));
            }
        }
        let contents = || sections.iter().filter_map(Section::content);
        let keys = [PemContent::EncryptedPrivateKey, PemContent::PrivateKey];
        let found = contents()
            .find(|content| keys.contains(content))
            .or_else(|| contents().next());
        Err(self.error(PemErrorKind::NoKey { found }))
    }

    fn sections(&self) -> Result<Vec<Section<'_>>, ConfigError> {
        if self.bytes.starts_with(&[0xFE, 0xFF]) || self.bytes.starts_with(&[0xFF, 0xFE]) {
            return Err(self.error(PemErrorKind::Utf16));
        }
        sections(&self.bytes).map_err(|(section, kind)| self.malformed(section, kind))
    }

    fn malformed(&self, section: usize, kind: PemSectionErrorKind) -> ConfigError {
        self.error(PemErrorKind::Malformed { section, kind })
    }

    /// Returns the error that this PEM cannot be used because of `kind`.
    fn error(&self, kind: PemErrorKind) -> ConfigError {
        ConfigError::Pem {
            role: self.role,
            file: self.file.clone(),
            kind,
        }
    }
}

/// Returns the certificate chain with its key. Checks that they match.
pub(crate) fn identity(
    chain: &Pem,
    key: &Pem,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, ConfigError> {
    let (section, private_key) = key.key()?;
    // Omit the errors of rustls: some quote their input.
    let unusable = |_| key.error(PemErrorKind::Unusable { section });
    let signer = provider
        .key_provider
        .load_private_key(private_key)
        .map_err(unusable)?;
    let identity = CertifiedKey::new(chain.certificates()?, signer);
    match identity.keys_match() {
        // A signer without a public half belongs to a hardware key, and this one does not.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(identity),
        Err(_) => Err(key.error(PemErrorKind::Mismatch)),
    }
}

/// One section. It may contain a key, so it does not implement `Debug`.
struct Section<'a> {
    /// The position among the sections of the text, from 1.
    number: usize,
    /// The words between BEGIN and the dashes.
    label: &'a [u8],
    /// The text between the BEGIN line and the END line.
    body: &'a [u8],
}

impl Section<'_> {
    /// Returns the kind of content, if the label is a known one.
    fn content(&self) -> Option<PemContent> {
        Some(match self.label {
            // OpenSSL also reads the old label.
            b"CERTIFICATE" | b"X509 CERTIFICATE" => PemContent::Certificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => PemContent::CertificateRequest,
            b"ENCRYPTED PRIVATE KEY" => PemContent::EncryptedPrivateKey,
            // An encrypted key in OpenSSL's older format has a header. Base64 contains no colon.
            label if label.ends_with(b"PRIVATE KEY") && self.body.contains(&b':') => {
                PemContent::EncryptedPrivateKey
            }
            label if label.ends_with(b"PRIVATE KEY") => PemContent::PrivateKey,
            label if label.ends_with(b"PUBLIC KEY") => PemContent::PublicKey,
            b"X509 CRL" => PemContent::RevocationList,
            label if label.ends_with(b"PARAMETERS") => PemContent::Parameters,
            _ => return None,
        })
    }

    /// Returns whether this is a certificate in OpenSSL's own format, with its trusted purposes.
    /// rustls does not support these.
    fn is_trusted_certificate(&self) -> bool {
        self.label == b"TRUSTED CERTIFICATE"
    }

    fn certificate(&self) -> DecodeResult<CertificateDer<'static>> {
        self.decode(b"CERTIFICATE")
    }

    /// Decodes the private key. `None` if the section contains none, or one that TLS cannot use.
    fn private_key(&self) -> Option<DecodeResult<PrivateKeyDer<'static>>> {
        let is_key = matches!(
            self.label,
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY"
        );
        (is_key && self.content() == Some(PemContent::PrivateKey)).then(|| self.decode(self.label))
    }

    fn decode<T: PemObject>(&self, label: &[u8]) -> DecodeResult<T> {
        let begin = [b"-----BEGIN ", label, b"-----\n"].concat();
        let end = [b"\n-----END ", label, b"-----\n"].concat();
        let text = Zeroizing::new([&begin, self.body, &end].concat());
        // Omit the error: it quotes a byte of the body.
        T::from_pem_slice(&text).map_err(|_| PemSectionErrorKind::NotBase64)
    }
}

/// Returns the sections of `text`, or the number of the first malformed one and the reason.
///
/// Text between sections is allowed, because `openssl x509 -text` writes it. A BEGIN or END that is
/// not on a separate line is an error, because otherwise the section would be skipped.
fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, (usize, PemSectionErrorKind)> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut sections = Vec::new();
    let mut open: Option<(&[u8], usize)> = None;
    let mut offset = 0;
    for line in text.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        let start = offset;
        offset += line.len();
        let number = sections.len() + 1;
        let malformed = |kind| (number, kind);
        match (open, Marker::parse(line).map_err(malformed)?) {
            (_, None) => {}
            (None, Some(Marker::Begin(label))) => open = Some((label, offset)),
            (None, Some(Marker::End(_))) => return Err(malformed(PemSectionErrorKind::NoBegin)),
            (Some(_), Some(Marker::Begin(_))) => return Err(malformed(PemSectionErrorKind::NoEnd)),
            (Some((label, body)), Some(Marker::End(end))) => {
                if end != label {
                    return Err(malformed(PemSectionErrorKind::OtherEnd));
                }
                sections.push(Section {
                    number,
                    label,
                    body: &text[body..start],
                });
                open = None;
            }
            (_, Some(Marker::EndAndBegin)) => {
                // The section that would be skipped begins on this line.
                let number = number + usize::from(open.is_some());
                return Err((number, PemSectionErrorKind::JoinedToEnd));
            }
        }
    }
    match open {
        Some(_) => Err((sections.len() + 1, PemSectionErrorKind::NoEnd)),
        None => Ok(sections),
    }
}

/// A line that begins or ends a section.
#[derive(Clone, Copy)]
enum Marker<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
    /// An END followed by a BEGIN, as in files that were joined without a line break.
    EndAndBegin,
}

impl<'a> Marker<'a> {
    /// Returns the marker in `line`, if there is one.
    fn parse(line: &'a [u8]) -> Result<Option<Self>, PemSectionErrorKind> {
        let line = line.trim_ascii_end();
        let (begin, end) = (find(line, b"-----BEGIN "), find(line, b"-----END "));
        let Some(at) = begin.into_iter().chain(end).min() else {
            let damaged = is_damaged_marker(line).then_some(PemSectionErrorKind::Damaged);
            return damaged.map_or(Ok(None), Err);
        };
        let is_begin = begin == Some(at);
        if at > 0 {
            return Err(PemSectionErrorKind::NotAtLineStart);
        }
        let label = &line[if is_begin {
            b"-----BEGIN ".len()
        } else {
            b"-----END ".len()
        }..];
        let length = find(label, DASHES).ok_or(PemSectionErrorKind::Damaged)?;
        let (label, rest) = (&label[..length], &label[length + DASHES.len()..]);
        match (is_begin, rest) {
            (true, []) => Ok(Some(Self::Begin(label))),
            (false, []) => Ok(Some(Self::End(label))),
            (true, [b'\\', b'n' | b'r', ..]) => Err(PemSectionErrorKind::EscapedLineBreaks),
            (true, _) => Err(PemSectionErrorKind::NoLineBreakAfterBegin),
            (false, rest) if find(rest, b"BEGIN ").is_some() => Ok(Some(Self::EndAndBegin)),
            (false, _) => Err(PemSectionErrorKind::NoLineBreakAfterEnd),
        }
    }
}

/// Returns whether `line` is a BEGIN or END with wrong dashes, such as those of a word processor.
fn is_damaged_marker(line: &[u8]) -> bool {
    let is_dash = |c| matches!(c, '-' | '\u{AD}' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let Ok(line) = str::from_utf8(line) else {
        return false;
    };
    let line = line.trim();
    let words = line.trim_matches(is_dash).trim_start();
    let is_marker = ["BEGIN ", "END "].iter().any(|word| {
        words
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    });
    is_marker && line.starts_with(is_dash) && line.ends_with(is_dash)
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, pattern)
}
