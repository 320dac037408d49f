//! Certificates and keys as files and programs hand them over.

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{Error, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys};
use zeroize::Zeroizing;

use crate::error::{ConfigError, PemFault};

/// PEM, and what is said of it when it cannot be used. It may hold a key, so it is wiped when it is dropped, and not `Debug`.
pub(crate) struct Pem {
    what: &'static str,
    file: Option<PathBuf>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Pem {
    pub(crate) fn new(what: &'static str, bytes: &[u8]) -> Self {
        Self { what, file: None, bytes: Zeroizing::new(bytes.to_vec()) }
    }

    pub(crate) fn read(what: &'static str, path: &Path) -> Result<Self, ConfigError> {
        let file = Some(path.to_owned());
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self { what, file, bytes: Zeroizing::new(bytes) }),
            Err(error) => Err(ConfigError::Pem { what, file, why: PemFault::Unreadable { error: error.to_string() } }),
        }
    }

    /// All certificates in it, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let certificates = CertificateDer::pem_slice_iter(&self.bytes).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| self.refused(PemFault::Malformed { error: error.to_string() }))?;
        if certificates.is_empty() { Err(self.refused(PemFault::NoCertificate)) } else { Ok(certificates) }
    }

    /// The first private key in it.
    fn key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| {
            self.refused(match error {
                Error::NoItemsFound => PemFault::NoKey,
                error => PemFault::Malformed { error: error.to_string() },
            })
        })
    }

    /// The error that says why this PEM cannot be used.
    pub(crate) fn refused(&self, why: PemFault) -> ConfigError {
        ConfigError::Pem { what: self.what, file: self.file.clone(), why }
    }

    /// The error for what rustls will not take.
    pub(crate) fn unusable(&self, error: &rustls::Error) -> ConfigError {
        self.refused(PemFault::Unusable { error: error.to_string() })
    }
}

/// A certificate, those that lead to its issuer, and its key: they belong together.
pub(crate) fn identity(chain: &Pem, key: &Pem, provider: &CryptoProvider) -> Result<CertifiedKey, ConfigError> {
    let signer = provider.key_provider.load_private_key(key.key()?).map_err(|error| key.unusable(&error))?;
    let identity = CertifiedKey::new(chain.certificates()?, signer);
    match identity.keys_match() {
        // a signer that does not tell its public half is a hardware one, and none of these
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => Err(key.refused(PemFault::Mismatch)),
        Err(error) => Err(chain.unusable(&error)),
    }
}
