//! The Python client speaks TLS to `local_server`, and works beside Rust there.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use dflock::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::program::Program;
use super::python::interop;

#[tokio::test]
async fn the_python_client_does_all_it_can_over_tls() {
    interop(async |python| {
        let papers = Papers::new("client");
        let server = papers.server(&["--auth-token", "s3cret"]).await;
        let args = ["--servers", &server.addr.to_string(), "--ca", papers.ca.to_str().unwrap(), "--secret", "s3cret"];
        python.passes("client.py", &args, "").await;
    })
    .await;
}

#[tokio::test]
async fn what_rust_holds_over_tls_is_held_for_python() {
    interop(async |python| {
        let papers = Papers::new("beside");
        let server = papers.server(&[]).await;
        let client = server.client_builder().tls(Tls::ca_pem_file(&papers.ca).unwrap()).build().unwrap();
        let lock = client.lock("job").unwrap().acquire().await.unwrap();
        let pool = client.semaphore("job", 3).unwrap();
        let slots = [pool.clone().acquire().await.unwrap(), pool.clone().acquire().await.unwrap(), pool.acquire().await.unwrap()];
        let args = ["--servers", &server.addr.to_string(), "--ca", papers.ca.to_str().unwrap()];
        python.passes("elsewhere.py", &args, "job").await;
        lock.release().await.unwrap();
        for slot in slots {
            slot.release().await.unwrap();
        }
    })
    .await;
}

/// A certificate for 127.0.0.1, its key, and the certificate of its issuer: files of one test's own, deleted with this.
struct Papers {
    folder: PathBuf,
    ca: PathBuf,
}

impl Papers {
    fn new(test: &str) -> Self {
        let folder = env::temp_dir().join(format!("dflock-interop-{}-{test}", process::id()));
        fs::create_dir(&folder).unwrap();
        let issuer = issuer();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        // Python is as strict as RFC 5280 is
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        let ca = folder.join("ca.pem");
        Self { folder, ca }
    }

    async fn server(&self, flags: &[&str]) -> Program {
        let path = |name| self.folder.join(name).into_os_string().into_string().unwrap();
        Program::local_server(&[&["--tls-cert", &path("server.pem"), "--tls-key", &path("server.key")], flags].concat()).await
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.folder));
    }
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    // else it would have the name of what it signs
    params.distinguished_name.push(DnType::CommonName, "issuer");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}
