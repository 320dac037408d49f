//! The TLS options of a client.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls_native_certs::{CertificateResult, ErrorKind};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::config::{
    CA, CLIENT_CERTIFICATE, CLIENT_KEY, CaFile, IdentityFiles, ReloadableConfig, client_config,
};
use super::error::classify_handshake;
use crate::engine::dflockd::BoxStream;
use crate::engine::dflockd::file::Reloadable;
use crate::engine::dflockd::pem::{Pem, identity};
use crate::engine::dflockd::pool::CallContext;
use crate::error::{ConfigError, Error, public_part};

/// TLS options of a client: the trusted certificates, the client certificate and the server name.
/// Cheap to clone.
///
/// Every value is valid, and its methods may be called in any order. Clones share the TLS sessions,
/// so that a second connection to a server resumes the session of the first.
///
/// Files are read again before a new connection if they have changed, because Kubernetes and
/// cert-manager replace them. Open connections stay open. If a changed file cannot be used, the
/// last good one is kept, and an event is emitted ([`telemetry`](crate::telemetry)).
///
/// Each new connection checks the metadata of each file, on the thread of the task that connects.
/// The files should therefore be on a local file system. Anything but a regular file, such as a
/// pipe, is read once.
///
/// PEM is parsed like in OpenSSL, but a section that OpenSSL would skip or misread is refused. The
/// error contains its number. This concerns a section that is indented, that is not on separate
/// lines, or that is a `TRUSTED CERTIFICATE`.
///
/// The crypto provider is ring with the feature `tls`, and aws-lc-rs with `tls-aws-lc` alone. It is
/// not installed as the default of the process.
///
/// # Examples
///
/// ```
/// use dflock::{Client, ConfigError, Tls};
///
/// fn client() -> Result<Client, ConfigError> {
///     let tls = Tls::ca_pem_file("/etc/dflock/ca.pem")?
///         .client_pem_files("/etc/dflock/me.pem", "/etc/dflock/me.key")?;
///     Client::builder().servers(["lock-1.internal:6388"]).tls(tls).build()
/// }
/// // The file does not exist here.
/// let error = client().unwrap_err();
/// assert!(error.to_string().contains("/etc/dflock/ca.pem"));
/// ```
#[derive(Clone)]
pub struct Tls {
    config: Arc<ReloadableConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Trusts the root certificates of the system, which are read once, now.
    ///
    /// The variables `SSL_CERT_FILE` and `SSL_CERT_DIR`, if set, replace them.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoNativeRoots`] if the system has no usable certificate.
    pub fn native_roots() -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        add_native(&mut roots, rustls_native_certs::load_native_certs())?;
        Ok(Self::from_roots(roots))
    }

    /// Trusts only the certificates in a PEM file: those of the issuers, or a self-signed one of a
    /// server.
    ///
    /// A self-signed certificate of a server must not be that of a CA (`CA:FALSE`). `openssl req
    /// -x509` makes one with `CA:TRUE`, unless it is called with `-addext
    /// basicConstraints=critical,CA:FALSE`. A server with such a certificate is refused with
    /// [`TlsErrorKind::Certificate`](crate::TlsErrorKind::Certificate).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] if the file cannot be read, or contains no certificate or an unusable
    /// one.
    pub fn ca_pem_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let trust = CaFile::open(RootCertStore::empty(), path.as_ref())?;
        Ok(Self::from_trust(trust))
    }

    /// Like [`ca_pem_file`](Self::ca_pem_file), with the content of the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] if the text contains no certificate or an unusable one.
    pub fn ca_pem(pem: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        Pem::new(CA, pem.as_ref()).add_to(&mut roots)?;
        Ok(Self::from_roots(roots))
    }

    /// Uses `config`, including its crypto provider. It must be made with
    /// [`dflock::rustls`](crate::rustls).
    #[must_use]
    pub fn from_config(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self::from_trust(Reloadable::Fixed(config.into()))
    }

    /// Sets the client certificate, for servers that request one. It replaces a previous one.
    ///
    /// `chain` is PEM of the certificate, followed by those that lead to its issuer. `key` is PEM
    /// of its key, not encrypted.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] if one of them cannot be used, or if they do not match.
    pub fn client_pem(
        self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, ConfigError> {
        let chain = Pem::new(CLIENT_CERTIFICATE, chain.as_ref());
        let key = Pem::new(CLIENT_KEY, key.as_ref());
        let identity = identity(&chain, &key, &self.config.provider())?;
        Ok(self.with_identity(Reloadable::from_value(identity)))
    }

    /// Like [`client_pem`](Self::client_pem), from two files, which may be the same file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] if one of them cannot be read or used, or if they do not match.
    pub fn client_pem_files(
        self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, ConfigError> {
        let files = IdentityFiles::open(chain.as_ref(), key.as_ref(), self.config.provider())?;
        Ok(self.with_identity(files))
    }

    /// Sets the name or IP address for which the certificate of every server must be valid.
    /// Defaults to the configured host of the server.
    ///
    /// It changes only the check of the certificate, and not the address of the connection.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ServerName`] if it is not a valid server name.
    pub fn server_name(self, name: impl Into<String>) -> Result<Self, ConfigError> {
        let server_name = Some(server_name(&name.into())?);
        Ok(Self {
            server_name,
            ..self
        })
    }

    /// Trusts the root certificates of the system and those of a PEM file.
    pub(crate) fn native_roots_and(path: &Path) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        add_native(&mut roots, rustls_native_certs::load_native_certs())?;
        Ok(Self::from_trust(CaFile::open(roots, path)?))
    }

    pub(crate) fn from_roots(roots: RootCertStore) -> Self {
        Self::from_config(Arc::new(client_config(roots)))
    }

    /// Checks that the certificate of `server` can be verified: that its host, as configured, is a
    /// valid server name.
    pub(crate) fn check(&self, server: &str) -> Result<(), ConfigError> {
        self.server_name_for(server).map(drop)
    }

    /// Performs the handshake over `stream` with the server of `context`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the stream. An error closes it, too.
    pub(in crate::engine::dflockd) async fn handshake(
        &self,
        stream: BoxStream,
        context: CallContext<'_>,
    ) -> Result<BoxStream, Error> {
        let name = self.server_name_for(context.server)?;
        match TlsConnector::from(self.config.current())
            .connect(name, stream)
            .await
        {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => {
                let kind = classify_handshake(&source);
                let context = context.to_error_context();
                Err(match kind {
                    Some(kind) => Error::Tls {
                        context,
                        kind,
                        source,
                    },
                    None => Error::Connect { context, source },
                })
            }
        }
    }

    /// Performs the handshake over `stream` with `server` for HTTP/2, which etcd expects by ALPN.
    ///
    /// # Errors
    ///
    /// The error of rustls or of the stream, and its kind if it comes from TLS.
    #[cfg(feature = "etcd")]
    pub(crate) async fn handshake_http2(
        &self,
        stream: BoxStream,
        server: &str,
    ) -> Result<BoxStream, (std::io::Error, Option<crate::error::TlsErrorKind>)> {
        let invalid = |error: ConfigError| (std::io::Error::other(error), None);
        let name = self.server_name_for(server).map_err(invalid)?;
        let mut config = ClientConfig::clone(&self.config.current());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match connect.await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let kind = classify_handshake(&error);
                Err((error, kind))
            }
        }
    }

    fn from_trust(trust: Reloadable<CaFile>) -> Self {
        Self {
            config: Arc::new(ReloadableConfig::new(trust)),
            server_name: None,
        }
    }

    fn with_identity(self, identity: Reloadable<IdentityFiles>) -> Self {
        let config = Arc::new(self.config.with_identity(identity));
        Self { config, ..self }
    }

    fn server_name_for(&self, server: &str) -> Result<ServerName<'static>, ConfigError> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        server_name(host.trim_matches(['[', ']']))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration contains the client's key, so it is not shown.
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ConfigError> {
    ServerName::try_from(name)
        .map(|name| name.to_owned())
        .map_err(|_| ConfigError::ServerName {
            name: public_part(name).to_owned(),
        })
}

/// Adds the system's certificates to `roots`. Some may be invalid; one valid certificate suffices.
fn add_native(roots: &mut RootCertStore, found: CertificateResult) -> Result<(), ConfigError> {
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(());
    }
    let reason = match found.errors.first() {
        // An error about PEM quotes its input, and `SSL_CERT_FILE` may be a key.
        Some(error) if matches!(error.kind, ErrorKind::Pem(_)) => "a file is not PEM".to_owned(),
        Some(error) => error.to_string(),
        None => "it has none".to_owned(),
    };
    Err(ConfigError::NoNativeRoots { reason })
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::crypto::CryptoProvider;

    use super::*;

    fn tls() -> Tls {
        Tls::from_roots(RootCertStore::empty())
    }

    #[test]
    fn the_server_name_is_the_host_unless_another_is_given() {
        for (server, want) in [
            ("lock-1.internal:6388", "lock-1.internal"),
            ("lock_1:6388", "lock_1"),
            ("127.0.0.1:6388", "127.0.0.1"),
            ("[::1]:6388", "::1"),
        ] {
            assert_eq!(tls().server_name_for(server).unwrap().to_str(), want);
            assert_eq!(
                tls()
                    .server_name("other")
                    .unwrap()
                    .server_name_for(server)
                    .unwrap()
                    .to_str(),
                "other"
            );
        }
        for bad in [
            "",
            "a b",
            "schlüssel",
            "a..b",
            "[::1]",
            "lock:6388",
            "-",
            &"x".repeat(300),
        ] {
            let error = tls().server_name(bad).unwrap_err();
            assert_eq!(
                error,
                ConfigError::ServerName {
                    name: bad.to_owned()
                }
            );
        }
        let error = tls().server_name("user:hunter2@lock-1").unwrap_err();
        assert_eq!(
            error,
            ConfigError::ServerName {
                name: "lock-1".to_owned()
            }
        );
    }

    #[test]
    fn a_system_without_root_certificates_is_an_error() {
        let mut roots = RootCertStore::empty();
        let error = add_native(&mut roots, CertificateResult::default()).unwrap_err();
        assert_eq!(
            error,
            ConfigError::NoNativeRoots {
                reason: "it has none".to_owned()
            }
        );
        let mut odd = CertificateResult::default();
        odd.certs.push(b"no certificate".to_vec().into());
        assert!(add_native(&mut roots, odd).is_err());
    }

    #[test]
    fn no_crypto_provider_is_installed_for_the_process() {
        let _ = tls();
        assert!(CryptoProvider::get_default().is_none());
    }
}
