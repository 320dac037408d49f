//! TLS between `dflock` and `dflock serve`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use dflock::rustls::crypto::ring;
use dflock::rustls::pki_types::PrivateKeyDer;
use dflock::rustls::server::WebPkiClientVerifier;
use dflock::rustls::{RootCertStore, ServerConfig};
use dflock::server::{Server, ServerTls};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::process::{Process, TIMEOUT, dflock, output_of, run, status, text};

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

/// Starts a server with `certificate` that accepts only clients with that certificate.
async fn start_asking(CertifiedKey { cert, signing_key }: &CertifiedKey<KeyPair>) -> Server {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_client_cert_verifier(verifier.unwrap());
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = config.with_single_cert(vec![cert.der().clone()], key);
    Server::builder()
        .tls(ServerTls::from_config(Arc::new(config.unwrap())))
        .build()
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_client_certificate_is_that_of_the_options_or_the_environment() {
    let name = || vec!["127.0.0.1".to_owned()];
    let mine = generate_simple_self_signed(name()).unwrap();
    let server = start_asking(&mine).await;
    let cert = TempFile::new("mine.pem", mine.cert.pem());
    let key = TempFile::new("mine.key", mine.signing_key.serialize_pem());
    let other = generate_simple_self_signed(name()).unwrap();
    let other_cert = TempFile::new("others.pem", other.cert.pem());
    let other_key = TempFile::new("others.key", other.signing_key.serialize_pem());
    let ca = ["--tls-ca", cert.path()];
    let pair = ["--tls-cert", cert.path(), "--tls-key", key.path()];
    let variables = [
        ("DFLOCK_TLS_CERT", cert.path()),
        ("DFLOCK_TLS_KEY", key.path()),
    ];
    let other_variables = [
        ("DFLOCK_TLS_CERT", other_cert.path()),
        ("DFLOCK_TLS_KEY", other_key.path()),
    ];
    let ca_variable = [("DFLOCK_TLS_CA", cert.path())];
    let all_variables = [&ca_variable[..], &variables].concat();
    let wrong_key = ["--tls-cert", cert.path(), "--tls-key", other_key.path()];
    let no_file = ["--tls-cert", cert.path(), "--tls-key", "no/such/key"];
    for (args, variables, expected, message) in [
        ([&ca[..], &pair].concat(), &[][..], 0, ""),
        (vec![], &all_variables, 0, ""),
        // An option, and the variables that it does not replace.
        (ca.to_vec(), &variables, 0, ""),
        (pair.to_vec(), &ca_variable, 0, ""),
        ([&ca[..], &pair].concat(), &other_variables, 0, ""),
        (
            ca.to_vec(),
            &other_variables,
            69,
            "--tls-cert and --tls-key",
        ),
        (ca.to_vec(), &[], 69, "--tls-cert and --tls-key"),
        (pair.to_vec(), &[], 64, "--tls-cert is refused without TLS"),
        (
            vec![],
            &variables,
            64,
            "DFLOCK_TLS_CERT is refused: TLS is off",
        ),
        ([&ca[..], &pair[..2]].concat(), &[], 64, "--tls-key"),
        ([&ca[..], &pair[2..]].concat(), &[], 64, "--tls-cert"),
        ([&ca[..], &wrong_key].concat(), &[], 64, other_key.path()),
        ([&ca[..], &no_file].concat(), &[], 64, "no/such/key"),
    ] {
        let addr = server.addr().to_string();
        let mut stats = dflock(&[&["stats", "--servers", &addr], &args[..]].concat());
        let output = output_of(stats.envs(variables.iter().copied())).await;
        let stderr = text(&output.stderr);
        assert_eq!(
            status(&output),
            expected,
            "{args:?} {variables:?}: {stderr}"
        );
        let shown = format!("{stderr}{}", text(&output.stdout));
        assert!(shown.contains(message), "{args:?} {variables:?}: {shown}");
    }
    // A pipe can be read once only.
    let addr = server.addr().to_string();
    let mut stats = dflock(&["stats", "--servers", &addr, "--tls-ca", "/dev/stdin"]);
    let mut stats = stats.envs(variables).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = stats.stdin.take().unwrap();
    stdin.write_all(mine.cert.pem().as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(TIMEOUT, stats.wait_with_output()).await.unwrap();
    let output = output.unwrap();
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
