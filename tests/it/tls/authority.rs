//! Certificates, made as a test needs them, so that none is stored and none runs out.

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

/// Where the tests' servers are.
pub(crate) const HOST: &str = "127.0.0.1";

/// An issuer of certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Papers {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        // else it would have the name of what it signs
        params.distinguished_name.push(DnType::CommonName, "issuer");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The issuer's own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Papers for a host or an address.
    pub(crate) fn papers(&self, name: &str) -> Papers {
        self.papers_with(name, |_| {})
    }

    /// The same, but for a `change`.
    pub(crate) fn papers_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Papers {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // Python is as strict as RFC 5280 is
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Papers {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// For clients that trust this issuer.
    pub(crate) fn tls(&self) -> Tls {
        Tls::ca_pem(self.pem()).unwrap()
    }

    /// For a server on [`HOST`].
    pub(crate) fn server(&self) -> ServerTls {
        self.papers(HOST).server()
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap())
            .unwrap();
        Arc::new(roots)
    }

    /// The configuration of a client that trusts this issuer.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let versions = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        versions
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }
}

impl Papers {
    /// A certificate that nobody else issued.
    pub(crate) fn self_signed(name: &str, is_ca: IsCa) -> Self {
        Self::self_signed_with(name, |params| params.is_ca = is_ca)
    }

    /// The same, but for a `change`.
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

    /// The configuration of a server that shows these papers.
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
