//! Certificates generated for each test, so that none is stored and none expires.

use std::sync::Arc;

use dflock::Tls;
use dflock::rustls::crypto::{CryptoProvider, ring};
use dflock::rustls::pki_types::pem::PemObject;
use dflock::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use dflock::rustls::{ClientConfig, RootCertStore, ServerConfig};
use dflock::server::ServerTls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

/// Address of the test servers.
pub(crate) const HOST: &str = "127.0.0.1";

/// Certificate authority of a test.
pub(crate) struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key in PEM.
pub(crate) struct TestCert {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        // Without a separate name, the issuer would have that of its certificates.
        params.distinguished_name.push(DnType::CommonName, "issuer");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns the certificate of the issuer.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for a host or an address.
    pub(crate) fn issue(&self, name: &str) -> TestCert {
        self.issue_with(name, |_| {})
    }

    /// Creates a certificate whose parameters are modified by `change`.
    pub(crate) fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> TestCert {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // Python verifies as strictly as RFC 5280 demands.
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        TestCert {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Returns the configuration of clients that trust this issuer.
    pub(crate) fn tls(&self) -> Tls {
        Tls::ca_pem(self.pem()).unwrap()
    }

    /// Returns the configuration of a server on [`HOST`].
    pub(crate) fn server(&self) -> ServerTls {
        self.issue(HOST).server()
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap())
            .unwrap();
        Arc::new(roots)
    }

    /// Returns the rustls configuration of a client that trusts this issuer.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let versions = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        versions
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }
}

impl TestCert {
    /// Creates a self-signed certificate.
    pub(crate) fn self_signed(name: &str, is_ca: IsCa) -> Self {
        Self::self_signed_with(name, |params| params.is_ca = is_ca)
    }

    /// Creates a self-signed certificate whose parameters are modified by `change`.
    pub(crate) fn self_signed_with(
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn server(&self) -> ServerTls {
        ServerTls::pem(&self.certificate, &self.key).unwrap()
    }

    /// Returns the rustls configuration of a server with this certificate.
    pub(crate) fn server_config(&self) -> ServerConfig {
        let versions = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        versions
            .with_no_client_auth()
            .with_single_cert(self.chain(), self.private_key())
            .unwrap()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .map(Result::unwrap)
            .collect()
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
