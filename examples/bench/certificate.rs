//! TLS certificate of the measured servers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// Files of a certificate for 127.0.0.1, which are deleted on drop.
pub(crate) struct Certificate {
    dir: PathBuf,
}

impl Certificate {
    /// Creates a self-signed certificate: ECDSA, P-256.
    pub(crate) fn new() -> Result<Self> {
        let generated = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let dir = std::env::temp_dir().join(format!("dflock-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let certificate = Self { dir };
        fs::write(certificate.chain(), generated.cert.pem())?;
        fs::write(certificate.key(), generated.signing_key.serialize_pem())?;
        Ok(certificate)
    }

    /// Returns the file of the chain, which the server sends and the client trusts.
    pub(crate) fn chain(&self) -> PathBuf {
        self.dir.join("chain.pem")
    }

    /// Returns the file of the private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// Returns the command line options for dflockd, and for this program as a server.
    pub(crate) fn options(&self) -> [PathBuf; 4] {
        [
            Path::new("--tls-cert").to_owned(),
            self.chain(),
            Path::new("--tls-key").to_owned(),
            self.key(),
        ]
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // Files that remain are harmless: the next run creates a new certificate.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
