//! TLS between `dflock` and `dflock serve`.

use std::fs;
use std::path::PathBuf;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::program::{Run, dflock, done, status, text};

/// A file of one test's own; it is deleted with this.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: String) -> Self {
        let path = std::env::temp_dir().join(format!("dflock-cli-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // nothing is lost but a file
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn with_the_certificate_of_the_server_it_is_trusted_and_not_else() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = generate_simple_self_signed(["127.0.0.1".to_owned()])
        .unwrap()
        .cert;
    let (cert, key) = (
        File::new("cert.pem", cert.pem()),
        File::new("key.pem", signing_key.serialize_pem()),
    );
    let stranger = File::new("stranger.pem", stranger.pem());
    let mut serve = Run::of(&mut dflock(&[
        "serve",
        "--port",
        "0",
        "--tls-cert",
        cert.path(),
        "--tls-key",
        key.path(),
    ]));
    let addr = serve.line().await.unwrap();

    let job = ["run", "--servers", &addr, "--key", "job"];
    for (trust, want) in [
        (&["--tls-ca", cert.path()][..], 0),
        (&["--tls-ca", stranger.path()], 69),
        // what is no certificate
        (&["--tls-ca", key.path()], 64),
        // plain text
        (&[], 69),
    ] {
        let output = done(&mut dflock(&[&job[..], trust, &["echo", "ran"]].concat())).await;
        assert_eq!(status(&output), want, "{trust:?}: {}", text(&output.stderr));
        assert_eq!(
            text(&output.stdout),
            if want == 0 { "ran\n" } else { "" },
            "{trust:?}"
        );
    }
    let output =
        done(dflock(&["stats", "--servers", &addr]).env("DFLOCK_TLS_CA", cert.path())).await;
    assert_eq!(status(&output), 0, "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_secret_in_the_clear_is_warned_of_once() {
    let secret = File::new("clear", "hush\n".to_owned());
    // nobody is there; the first is no address of this machine alone
    for (servers, warnings) in [
        ("0.0.0.0:1,0.0.0.0:2", 1),
        ("127.0.0.1:1,[::1]:1,localhost:1", 0),
    ] {
        let stats = ["stats", "--servers", servers];
        let by_file = done(&mut dflock(
            &[&stats[..], &["--auth-token-file", secret.path()]].concat(),
        ))
        .await;
        let by_variable = done(dflock(&stats).env("DFLOCK_AUTH_TOKEN", "hush")).await;
        for output in [by_file, by_variable] {
            let said = text(&output.stderr);
            assert_eq!(said.matches("in the clear").count(), warnings, "{said}");
            assert!(!said.contains("hush"));
        }
        let without = done(&mut dflock(&stats)).await;
        assert_eq!(text(&without.stderr), "");
    }
}
