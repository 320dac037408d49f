//! TLS on the server side.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::sign::SingleCertAndKey;

use super::cert_verifier::pinned_config;
use crate::client::ClientBuilder;
use crate::engine::dflockd::{BoxStream, Pem, Tls, identity, provider};
use crate::error::ConfigError;

/// TLS configuration of a server. Cheap to clone; clones share the session cache.
///
/// [`Server::client`](super::Server::client) and
/// [`Server::client_builder`](super::Server::client_builder) accept the certificate of a server
/// made from PEM, and no other. They ignore its issuer, names and dates.
///
/// # Examples
///
/// ```
/// use dflock::server::{Server, ServerTls};
///
/// async fn start() -> Result<Server, Box<dyn std::error::Error>> {
///     let tls = ServerTls::pem_files("/etc/dflock/server.pem", "/etc/dflock/server.key")?;
///     Ok(Server::builder().tls(tls).build().start().await?)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = start().await.unwrap_err(); // there is no such file here
/// assert!(error.to_string().contains("/etc/dflock/server.pem"));
/// # }
/// ```
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// Configuration for the server's own clients.
    client: Option<Tls>,
}

impl ServerTls {
    /// Uses a certificate chain and a private key in PEM: the server's certificate first, then the
    /// certificates that lead to its issuer. The key must not be encrypted.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] when the chain or the key cannot be used, or when they do not match.
    pub fn pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Self::from_pem(
            &Pem::new(CERTIFICATE, chain.as_ref()),
            &Pem::new(KEY, key.as_ref()),
        )
    }

    /// Like [`pem`](Self::pem), from two files, which may be the same file. They are read now, and
    /// not again.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] when a file cannot be read or used, or when the two do not match.
    pub fn pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::from_pem(
            &Pem::read(CERTIFICATE, chain.as_ref())?,
            &Pem::read(KEY, key.as_ref())?,
        )
    }

    /// Uses a rustls configuration, which may ask for client certificates. Build it with
    /// [`dflock::rustls`](crate::rustls), so that the versions match.
    ///
    /// The trusted issuer does not follow from `config`, so the server's own clients need
    /// [`ClientBuilder::tls`](crate::ClientBuilder::tls).
    #[must_use]
    pub fn from_config(config: impl Into<Arc<ServerConfig>>) -> Self {
        Self {
            config: config.into(),
            client: None,
        }
    }

    /// Performs the handshake with a client.
    pub(super) async fn accept(&self, stream: BoxStream) -> io::Result<BoxStream> {
        let stream = TlsAcceptor::from(self.config.clone())
            .accept(stream)
            .await?;
        Ok(Box::new(stream))
    }

    /// Lets a client accept the certificate of this server, if the certificate is known.
    pub(super) fn configure_client(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.client {
            Some(tls) => builder.tls(tls.clone()),
            None => builder,
        }
    }

    fn from_pem(chain: &Pem, key: &Pem) -> Result<Self, ConfigError> {
        let identity = identity(chain, key, &provider())?;
        let certificate = identity.cert.first().cloned();
        let client = certificate.map(|certificate| Tls::from_config(pinned_config(certificate)));
        #[expect(clippy::expect_used, reason = "both providers support TLS 1.2 and 1.3")]
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3");
        let resolver = Arc::new(SingleCertAndKey::from(identity));
        let config = builder.with_no_client_auth().with_cert_resolver(resolver);
        Ok(Self {
            config: Arc::new(config),
            client,
        })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds the private key.
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

const CERTIFICATE: &str = "the server certificate";
const KEY: &str = "the server key";
