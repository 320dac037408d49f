//! TLS on the server's side.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::sign::SingleCertAndKey;

use super::pinned::pinned;
use crate::client::ClientBuilder;
use crate::error::ConfigError;
use crate::transport::{BoxStream, Pem, Tls, identity, provider};

/// How a server uses TLS: who it is. Cheap to clone; clones share the sessions that clients may resume.
///
/// A server made from PEM is known to its own clients, [`Server::client`](super::Server::client) and
/// [`Server::client_builder`](super::Server::client_builder): they trust its very certificate, whatever name and time it is for.
///
/// # Examples
///
/// ```
/// use dflock::server::{Server, ServerTls};
///
/// async fn secured() -> Result<Server, Box<dyn std::error::Error>> {
///     let tls = ServerTls::pem_files("/etc/dflock/server.pem", "/etc/dflock/server.key")?;
///     Ok(Server::builder().tls(tls).build().start().await?)
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert!(secured().await.unwrap_err().to_string().contains("/etc/dflock/server.pem"), "there is no such file here");
/// # }
/// ```
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// For the server's own clients.
    client: Option<Tls>,
}

impl ServerTls {
    /// Shows every client a certificate: PEM of it, with those that lead to its issuer behind it, and PEM of its key, which is not
    /// encrypted.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] when either cannot be used, or when they do not belong together.
    pub fn pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Self::known_by(&Pem::new(CERTIFICATE, chain.as_ref()), &Pem::new(KEY, key.as_ref()))
    }

    /// The same as [`pem`](Self::pem), from two files, which may be one. They are read now, and not again.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] when either cannot be read or used, or when they do not belong together.
    pub fn pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::known_by(&Pem::read(CERTIFICATE, chain.as_ref())?, &Pem::read(KEY, key.as_ref())?)
    }

    /// As `config` says, which may ask for client certificates, too; [`dflock::rustls`](crate::rustls) is the rustls that it must be
    /// made with.
    ///
    /// Whom to trust does not follow from it: the server's own clients must be told with
    /// [`ClientBuilder::tls`](crate::ClientBuilder::tls).
    #[must_use]
    pub fn from_config(config: impl Into<Arc<ServerConfig>>) -> Self {
        Self { config: config.into(), client: None }
    }

    /// Puts TLS over the stream of a client.
    pub(super) async fn accept(&self, stream: BoxStream) -> io::Result<BoxStream> {
        let stream = TlsAcceptor::from(self.config.clone()).accept(stream).await?;
        Ok(Box::new(stream))
    }

    /// Lets a client of this server know it, where that can be done.
    pub(super) fn introduce(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.client {
            Some(tls) => builder.tls(tls.clone()),
            None => builder,
        }
    }

    fn known_by(chain: &Pem, key: &Pem) -> Result<Self, ConfigError> {
        let identity = identity(chain, key, &provider())?;
        let client = identity.cert.first().map(|certificate| Tls::from_config(pinned(certificate.clone())));
        #[expect(clippy::expect_used, reason = "both providers know both versions")]
        let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("TLS 1.2 and 1.3");
        let config = versions.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        Ok(Self { config: Arc::new(config), client })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the key is in the configuration
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

const CERTIFICATE: &str = "the server certificate";
const KEY: &str = "the server key";
