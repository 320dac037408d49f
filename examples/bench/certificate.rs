//! A certificate for the servers that are measured.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// The files of a certificate for 127.0.0.1, which go when this is dropped.
pub(crate) struct Certificate {
    folder: PathBuf,
}

impl Certificate {
    /// Makes one that vouches for itself: ECDSA, P-256.
    pub(crate) fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let folder = std::env::temp_dir().join(format!("dflock-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let certificate = Self { folder };
        fs::write(certificate.chain(), made.cert.pem())?;
        fs::write(certificate.key(), made.signing_key.serialize_pem())?;
        Ok(certificate)
    }

    /// What the server shows, and what the client trusts.
    pub(crate) fn chain(&self) -> PathBuf {
        self.folder.join("chain.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// The options by which dflockd, and this program as a server, are told.
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
        // what is left is of no use to anybody
        let _ = fs::remove_dir_all(&self.folder);
    }
}
