//! TLS between `dflock` and `dflock serve`.

use std::fs;
use std::path::PathBuf;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::process::{Process, dflock, output_of, run, status, text};

/// A temporary file, deleted on drop.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: String) -> Self {
        let path = std::env::temp_dir().join(format!("dflock-cli-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // A failure leaves only a temporary file behind.
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn only_the_trusted_certificate_of_the_server_is_accepted() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()])
        .unwrap()
        .cert;
    let (cert, key) = (
        TempFile::new("cert.pem", cert.pem()),
        TempFile::new("key.pem", signing_key.serialize_pem()),
    );
    let other = TempFile::new("other.pem", other.pem());
    let mut serve = Process::spawn(&mut dflock(&[
        "serve",
        "--port",
        "0",
        "--tls-cert",
        cert.path(),
        "--tls-key",
        key.path(),
    ]));
    let addr = serve.next_line().await.unwrap();

    for (trust, expected) in [
        (&["--tls-ca", cert.path()][..], 0),
        (&["--tls-ca", other.path()], 69),
        // Not a certificate.
        (&["--tls-ca", key.path()], 64),
        // Without TLS.
        (&[], 69),
    ] {
        let output = output_of(&mut run(&addr, &[trust, &["echo", "ran"]].concat())).await;
        assert_eq!(
            status(&output),
            expected,
            "{trust:?}: {}",
            text(&output.stderr)
        );
        assert_eq!(
            text(&output.stdout),
            if expected == 0 { "ran\n" } else { "" },
            "{trust:?}"
        );
    }
    let output =
        output_of(dflock(&["stats", "--servers", &addr]).env("DFLOCK_TLS_CA", cert.path())).await;
    assert_eq!(status(&output), 0, "{}", text(&output.stderr));
}

#[tokio::test]
async fn an_auth_token_in_clear_text_is_warned_about_once() {
    let token = TempFile::new("token", "hush\n".to_owned());
    // No server listens there. 0.0.0.0 is not a loopback address.
    for (servers, warnings) in [
        ("0.0.0.0:1,0.0.0.0:2", 1),
        ("127.0.0.1:1,[::1]:1,localhost:1", 0),
    ] {
        let stats = ["stats", "--servers", servers];
        let by_file = output_of(&mut dflock(
            &[&stats[..], &["--auth-token-file", token.path()]].concat(),
        ))
        .await;
        let by_variable = output_of(dflock(&stats).env("DFLOCK_AUTH_TOKEN", "hush")).await;
        for output in [by_file, by_variable] {
            let stderr = text(&output.stderr);
            assert_eq!(
                stderr.matches("in clear text").count(),
                warnings,
                "{stderr}"
            );
            assert!(!stderr.contains("hush"));
        }
        let without = output_of(&mut dflock(&stats)).await;
        assert_eq!(text(&without.stderr), "");
    }
}
