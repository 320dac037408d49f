//! Certificates and keys in PEM, from files and from memory.

mod section;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore};
use zeroize::Zeroizing;

use super::file;
use crate::error::{ConfigError, PemContent, PemErrorKind, PemSectionErrorKind};
use section::{Section, sections};

type ReadResult = io::Result<Zeroizing<Vec<u8>>>;

/// PEM, and its description for errors. It may contain a key, so it is wiped when it is dropped,
/// and does not implement `Debug`.
pub(crate) struct Pem {
    what: &'static str,
    file: Option<PathBuf>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Pem {
    pub(crate) fn new(what: &'static str, bytes: &[u8]) -> Self {
        Self {
            what,
            file: None,
            bytes: Zeroizing::new(bytes.to_vec()),
        }
    }

    /// Reads a file or, once, a pipe.
    pub(crate) fn read(what: &'static str, path: &Path) -> Result<Self, ConfigError> {
        Self::from_read(what, path, fs::read(path).map(Zeroizing::new))
    }

    /// Reads a regular file. Any other file is refused, because reading it could block the caller.
    pub(crate) fn read_regular(what: &'static str, path: &Path) -> Result<Self, ConfigError> {
        Self::from_read(what, path, file::read_regular(path))
    }

    fn from_read(what: &'static str, path: &Path, read: ReadResult) -> Result<Self, ConfigError> {
        match read {
            Ok(bytes) => Ok(Self {
                what,
                file: Some(path.to_owned()),
                bytes,
            }),
            // The "path" may be the key itself, which no error may show.
            Err(error) if !file::is_path(path, &error) => {
                let kind = PemErrorKind::NotPath {
                    error: error.to_string(),
                };
                Err(ConfigError::Pem {
                    role: what,
                    file: None,
                    kind,
                })
            }
            Err(error) => {
                let kind = PemErrorKind::Unreadable {
                    error: error.to_string(),
                };
                Err(ConfigError::Pem {
                    role: what,
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

    /// Passes each certificate to `take`. A section that may be meant as a certificate is never
    /// skipped, because otherwise the missing certificate shows only later, as an untrusted server.
    fn for_each_certificate<F>(&self, mut take: F) -> Result<(), ConfigError>
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
                    take(certificate).map_err(unusable)?;
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
            role: self.what,
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
