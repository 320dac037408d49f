//! The configuration of rustls, made again when one of its files changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::engine::dflockd::file::{self, FileSource, Reloadable};
use crate::engine::dflockd::pem::{Pem, identity};
use crate::error::ConfigError;
use crate::mutex::Mutex;

pub(super) const CA: &str = "the CA certificate";
pub(super) const CLIENT_CERTIFICATE: &str = "the client certificate";
pub(crate) const CLIENT_KEY: &str = "the client key";

/// The trusted certificates and the client certificate, each fixed or read from files.
pub(super) struct ReloadableConfig {
    trust: Reloadable<CaFile>,
    identity: Option<Reloadable<IdentityFiles>>,
    latest: Mutex<Merged>,
}

/// A configuration and the values from which it was made.
struct Merged {
    trust: Arc<ClientConfig>,
    identity: Option<Arc<CertifiedKey>>,
    config: Arc<ClientConfig>,
}

/// The file of trusted certificates.
pub(super) struct CaFile {
    /// Certificates that are trusted in addition to those of the file.
    roots: RootCertStore,
    path: PathBuf,
}

/// The files of the client certificate and its key.
pub(super) struct IdentityFiles {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl ReloadableConfig {
    pub(super) fn new(trust: Reloadable<CaFile>) -> Self {
        Self::from_parts(trust, None)
    }

    /// Returns the same with this client certificate.
    pub(super) fn with_identity(&self, identity: Reloadable<IdentityFiles>) -> Self {
        Self::from_parts(self.trust.clone(), Some(identity))
    }

    fn from_parts(trust: Reloadable<CaFile>, identity: Option<Reloadable<IdentityFiles>>) -> Self {
        let latest = Merged::new(trust.current(), identity.as_ref().map(Reloadable::current));
        Self {
            trust,
            identity,
            latest: Mutex::new(latest),
        }
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        self.trust.current().crypto_provider().clone()
    }

    /// Returns the configuration for a new connection. It stays the same, with its TLS sessions,
    /// until a file changes.
    pub(super) fn current(&self) -> Arc<ClientConfig> {
        let trust = self.trust.current();
        let identity = self.identity.as_ref().map(Reloadable::current);
        let mut latest = self.latest.lock();
        if !latest.is_made_from(&trust, identity.as_ref()) {
            *latest = Merged::new(trust, identity);
        }
        latest.config.clone()
    }
}

impl Merged {
    fn new(trust: Arc<ClientConfig>, identity: Option<Arc<CertifiedKey>>) -> Self {
        let config = match &identity {
            Some(identity) => {
                let mut config = ClientConfig::clone(&trust);
                // A session is not resumed with another resolver, so the old certificate is not
                // used.
                let resolver = SingleCertAndKey::from(identity.clone());
                config.client_auth_cert_resolver = Arc::new(resolver);
                Arc::new(config)
            }
            None => trust.clone(),
        };
        Self {
            trust,
            identity,
            config,
        }
    }

    fn is_made_from(
        &self,
        trust: &Arc<ClientConfig>,
        identity: Option<&Arc<CertifiedKey>>,
    ) -> bool {
        let same_identity = match (&self.identity, identity) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_identity && Arc::ptr_eq(&self.trust, trust)
    }
}

impl CaFile {
    /// Reads the file and, if it is a regular file, reads it again when it changes.
    pub(super) fn open(
        mut roots: RootCertStore,
        path: &Path,
    ) -> Result<Reloadable<Self>, ConfigError> {
        if file::is_regular(path) {
            let path = path.to_owned();
            Reloadable::open(Self { roots, path })
        } else {
            Pem::read(CA, path)?.add_to(&mut roots)?;
            Ok(Reloadable::from_value(client_config(roots)))
        }
    }
}

impl FileSource for CaFile {
    type Value = ClientConfig;

    fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&*self.path)
    }

    fn load(&self) -> Result<ClientConfig, ConfigError> {
        let mut roots = self.roots.clone();
        Pem::read_regular(CA, &self.path)?.add_to(&mut roots)?;
        Ok(client_config(roots))
    }
}

impl IdentityFiles {
    /// Reads the files and, if both are regular files, reads them again when one changes.
    pub(super) fn open(
        chain: &Path,
        key: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<Reloadable<Self>, ConfigError> {
        if file::is_regular(chain) && file::is_regular(key) {
            let (chain, key) = (chain.to_owned(), key.to_owned());
            Reloadable::open(Self {
                chain,
                key,
                provider,
            })
        } else {
            let chain = Pem::read(CLIENT_CERTIFICATE, chain)?;
            let key = Pem::read(CLIENT_KEY, key)?;
            identity(&chain, &key, &provider).map(Reloadable::from_value)
        }
    }
}

impl FileSource for IdentityFiles {
    type Value = CertifiedKey;

    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&*self.chain, &*self.key].into_iter()
    }

    fn load(&self) -> Result<CertifiedKey, ConfigError> {
        let chain = Pem::read_regular(CLIENT_CERTIFICATE, &self.chain)?;
        let key = Pem::read_regular(CLIENT_KEY, &self.key)?;
        identity(&chain, &key, &self.provider)
    }
}

/// Returns the crypto provider. With both features it is ring, so that enabling the second feature
/// changes nothing.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    #[cfg(not(feature = "tls"))]
    use rustls::crypto::aws_lc_rs as crypto;
    #[cfg(feature = "tls")]
    use rustls::crypto::ring as crypto;
    Arc::new(crypto::default_provider())
}

/// Returns a configuration that trusts `roots` and has no client certificate.
pub(super) fn client_config(roots: RootCertStore) -> ClientConfig {
    let versions = ClientConfig::builder_with_provider(provider());
    #[expect(clippy::expect_used, reason = "both providers know both versions")]
    let versions = versions
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3");
    versions.with_root_certificates(roots).with_no_client_auth()
}
