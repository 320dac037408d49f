//! Rotation: certificate and token files that are replaced while a client uses them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use dflock::rustls::ServerConfig;
use dflock::rustls::server::WebPkiClientVerifier;
use dflock::server::{Server, ServerTls};
use dflock::{AuthErrorKind, Client, ClientBuilder, Error, Tls, TlsErrorKind};

use super::auth_token::Warnings;
use super::redaction::assert_hides;
use super::temp_dir::TempDir;
use super::test_ca::{HOST, TestCa, provider};

/// Directory as Kubernetes mounts it. A symbolic link replaces all files at once.
struct Mount {
    dir: TempDir,
    generation: u32,
}

impl Mount {
    fn new(files: &[(&str, &str)]) -> Self {
        let mut mount = Self {
            dir: TempDir::new(),
            generation: 0,
        };
        mount.replace(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), mount.dir.path(name)).unwrap();
        }
        mount
    }

    fn replace(&mut self, files: &[(&str, &str)]) {
        self.generation += 1;
        let directory = PathBuf::from(self.dir.path(&format!("..{}", self.generation)));
        fs::create_dir(&directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
        symlink(&directory, self.dir.path("..new")).unwrap();
        fs::rename(self.dir.path("..new"), self.dir.path("..data")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path(name)
    }
}

async fn start(test_ca: &TestCa) -> Server {
    Server::builder()
        .tls(test_ca.server())
        .build()
        .start()
        .await
        .unwrap()
}

/// Pings the server on a new connection with `tls`.
async fn ping(server: &Server, tls: &Tls) -> Result<(), Error> {
    Client::builder()
        .servers([server.addr().to_string()])
        .tls(tls.clone())
        .build()?
        .ping()
        .await
}

fn is_distrusted(result: &Result<(), Error>) -> bool {
    matches!(
        result,
        Err(Error::Tls {
            kind: TlsErrorKind::Issuer,
            ..
        })
    )
}

#[tokio::test]
async fn a_replaced_ca_file_applies_to_new_connections_only() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let (old_server, new_server) = (start(&old).await, start(&new).await);
    let mut mount = Mount::new(&[("ca.pem", &old.pem())]);
    let tls = Tls::ca_pem_file(mount.path("ca.pem"))
        .unwrap()
        .server_name(HOST)
        .unwrap();
    let client = Client::builder()
        .servers([old_server.addr().to_string()])
        .tls(tls.clone())
        .build()
        .unwrap();
    let pool = client.semaphore("pool", 5).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    client.ping().await.unwrap();
    assert!(is_distrusted(&ping(&new_server, &tls).await));

    mount.replace(&[("ca.pem", &new.pem())]);
    ping(&new_server, &tls).await.unwrap();
    assert!(is_distrusted(&ping(&old_server, &tls).await));
    // The slot and the idle connection remain usable.
    held.renew().await.unwrap();
    client.ping().await.unwrap();
    held.release().await.unwrap();
}

// The file is overwritten in place with the same length, so that only its content differs.
#[tokio::test]
async fn a_file_overwritten_in_place_is_reloaded() {
    let (one, two) = (start_with("hush-1").await, start_with("hush-2").await);
    let dir = TempDir::new();
    let path = dir.file("token", "hush-1\n");
    let builder = Client::builder().auth_file(&path);
    for (content, server) in [("hush-2\n", &two), ("hush-1\n", &one), ("hush-2\n", &two)] {
        dir.file("token", content);
        let client = builder
            .clone()
            .servers([server.addr().to_string()])
            .build()
            .unwrap();
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn an_invalid_file_keeps_the_last_valid_one_and_warns_once_per_change() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let (old_server, new_server) = (start(&old).await, start(&new).await);
    let key = old.issue(HOST).key;
    let dir = TempDir::new();
    let path = dir.file("ca.pem", old.pem());
    let tls = Tls::ca_pem_file(&path).unwrap();
    let (warnings, guard) = Warnings::listen();
    for invalid in [
        "",
        "hello",
        &new.pem()[..200],
        &key,
        &key.replace('\n', "\\n"),
    ] {
        dir.file("ca.pem", invalid);
        for _ in 0..3 {
            ping(&old_server, &tls).await.unwrap();
        }
        let messages = warnings.take();
        assert_eq!(messages.len(), 1, "{invalid:?}: {messages:?}");
        assert!(
            messages[0].contains(&path) && messages[0].contains("the last good one is kept"),
            "{messages:?}"
        );
        assert_hides(&messages[0], &key);
    }
    fs::remove_file(&path).unwrap();
    for _ in 0..3 {
        ping(&old_server, &tls).await.unwrap();
    }
    let messages = warnings.take();
    assert!(
        messages.len() == 1 && messages[0].contains("cannot be read"),
        "{messages:?}"
    );
    // Opening a pipe would block.
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    ping(&old_server, &tls).await.unwrap();
    let messages = warnings.take();
    assert!(
        messages.len() == 1 && messages[0].contains("not a regular file"),
        "{messages:?}"
    );
    fs::remove_file(&path).unwrap();

    dir.file("ca.pem", new.pem());
    ping(&new_server, &tls).await.unwrap();
    assert!(is_distrusted(&ping(&old_server, &tls).await));
    assert_eq!(warnings.take(), [""; 0]);
    drop(guard);
}

/// Starts a server that requires a client certificate of `ca`.
async fn start_asking(test_ca: &TestCa) -> Server {
    let cert = test_ca.issue(HOST);
    let verifier = WebPkiClientVerifier::builder_with_provider(test_ca.roots(), provider());
    let config =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap());
    let config = config
        .with_single_cert(cert.chain(), cert.private_key())
        .unwrap();
    Server::builder()
        .tls(ServerTls::from_config(Arc::new(config)))
        .build()
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_replaced_client_certificate_is_sent_instead_of_a_session_resumption() {
    let (known, unknown) = (TestCa::new(), TestCa::new());
    let server = start_asking(&known).await;
    let (trusted, untrusted) = (known.issue("worker-1"), unknown.issue("worker-1"));
    let mut mount = Mount::new(&[("tls.crt", &trusted.certificate), ("tls.key", &trusted.key)]);
    let (chain, key) = (mount.path("tls.crt"), mount.path("tls.key"));
    let tls = known.tls().client_pem_files(&chain, &key).unwrap();
    ping(&server, &tls).await.unwrap();
    ping(&server, &tls).await.unwrap();

    mount.replace(&[
        ("tls.crt", &untrusted.certificate),
        ("tls.key", &untrusted.key),
    ]);
    let error = ping(&server, &tls).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tls {
                kind: TlsErrorKind::Refused,
                ..
            }
        ),
        "{error:?}"
    );

    // A partial replacement: the key belongs to another certificate.
    let (warnings, _guard) = Warnings::listen();
    let next = known.issue("worker-1");
    mount.replace(&[("tls.crt", &trusted.certificate), ("tls.key", &trusted.key)]);
    ping(&server, &tls).await.unwrap();
    mount.replace(&[("tls.crt", &next.certificate), ("tls.key", &trusted.key)]);
    ping(&server, &tls).await.unwrap();
    let messages = warnings.take();
    assert!(
        messages.len() == 1 && messages[0].contains(&key),
        "{messages:?}"
    );
    mount.replace(&[("tls.crt", &next.certificate), ("tls.key", &next.key)]);
    ping(&server, &tls).await.unwrap();
    assert_eq!(warnings.take(), [""; 0]);
}

// Each file is followed separately, so that an invalid one does not delay the other.
#[tokio::test]
async fn an_invalid_client_certificate_does_not_block_a_new_ca() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let new_server = start(&new).await;
    let cert = old.issue("worker-1");
    let dir = TempDir::new();
    let ca = dir.file("ca.pem", old.pem());
    let (chain, key) = (
        dir.file("tls.crt", &cert.certificate),
        dir.file("tls.key", &cert.key),
    );
    let tls = Tls::ca_pem_file(ca)
        .unwrap()
        .client_pem_files(chain, key)
        .unwrap();
    assert!(is_distrusted(&ping(&new_server, &tls).await));
    dir.file("tls.key", "");
    dir.file("ca.pem", new.pem());
    ping(&new_server, &tls).await.unwrap();
}

async fn start_with(token: &str) -> Server {
    Server::builder()
        .auth_token(token)
        .build()
        .start()
        .await
        .unwrap()
}

/// Returns a builder for each index to name the token file.
fn auth_file_builders(path: &str) -> [ClientBuilder; 2] {
    let lookup = |name| (name == "DFLOCK_AUTH_TOKEN_FILE").then(|| path.into());
    [
        Client::builder().auth_file(path),
        ClientBuilder::from_lookup(lookup).unwrap(),
    ]
}

#[tokio::test]
async fn a_replaced_auth_token_applies_to_new_connections_only() {
    let (one, two) = (start_with("hush").await, start_with("hush hush").await);
    for index in 0..2 {
        let mut mount = Mount::new(&[("token", "hush\n")]);
        let builder = auth_file_builders(&mount.path("token"))
            .into_iter()
            .nth(index)
            .unwrap();
        let client = |server: &Server| {
            builder
                .clone()
                .servers([server.addr().to_string()])
                .build()
                .unwrap()
        };
        let client_of_first = client(&one);
        let held = client_of_first
            .semaphore("pool", 5)
            .unwrap()
            .acquire()
            .await
            .unwrap();
        client_of_first.ping().await.unwrap();
        let error = client(&two).ping().await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Auth {
                    kind: AuthErrorKind::Wrong { .. },
                    ..
                }
            ),
            "{error:?}"
        );

        mount.replace(&[("token", "hush hush\n")]);
        client(&two).ping().await.unwrap();
        let error = client(&one).ping().await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Auth {
                    kind: AuthErrorKind::Wrong { .. },
                    ..
                }
            ),
            "{error:?}"
        );
        held.renew().await.unwrap();
        client_of_first.ping().await.unwrap();
        held.release().await.unwrap();
    }
}

#[tokio::test]
async fn an_invalid_auth_token_keeps_the_last_valid_one_and_warns_once_per_change() {
    let server = start_with("hush").await;
    let dir = TempDir::new();
    let path = dir.file("token", "hush\n");
    for builder in auth_file_builders(&path) {
        dir.file("token", "hush\n");
        let builder = builder.servers([server.addr().to_string()]);
        let ping = async || builder.clone().build().unwrap().ping().await;
        let (warnings, _guard) = Warnings::listen();
        for (invalid, why) in [
            (&b""[..], "no auth token in it"),
            (b"\n \n", "no auth token in it"),
            (b"secretive\nsecretive\n", "line break"),
            ("secretive\u{200b}\n".as_bytes(), "U+200B ZERO WIDTH SPACE"),
            (b"secretive\xff\n", "not UTF-8"),
        ] {
            dir.file("token", invalid);
            for _ in 0..3 {
                ping().await.unwrap();
            }
            let messages = warnings.take();
            assert!(
                messages.len() == 1 && messages[0].contains(&path) && messages[0].contains(why),
                "{messages:?}"
            );
            assert_hides(&messages[0], "secretive");
        }
    }
}

// The client follows the CA file of the environment as well.
#[tokio::test]
async fn the_ca_file_of_the_environment_is_reloaded() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let new_server = start(&new).await;
    let dir = TempDir::new();
    let path = dir.file("ca.pem", old.pem());
    let lookup = |name| (name == "DFLOCK_TLS_CA").then(|| path.clone().into());
    let builder = ClientBuilder::from_lookup(lookup)
        .unwrap()
        .servers([new_server.addr().to_string()]);
    assert!(is_distrusted(
        &builder.clone().build().unwrap().ping().await
    ));
    dir.file("ca.pem", new.pem());
    builder.build().unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn the_client_certificate_of_the_environment_is_reloaded() {
    let (known, unknown) = (TestCa::new(), TestCa::new());
    let server = start_asking(&known).await;
    let dir = TempDir::new();
    let write = |issuer: &TestCa| {
        let cert = issuer.issue("worker-1");
        [
            dir.file("tls.crt", cert.certificate),
            dir.file("tls.key", cert.key),
        ]
    };
    let ca = dir.file("ca.pem", known.pem());
    let [chain, key] = write(&unknown);
    let lookup = |name| match name {
        "DFLOCK_TLS_CA" => Some(ca.clone().into()),
        "DFLOCK_TLS_CERT" => Some(chain.clone().into()),
        "DFLOCK_TLS_KEY" => Some(key.clone().into()),
        _ => None,
    };
    let builder = ClientBuilder::from_lookup(lookup)
        .unwrap()
        .servers([server.addr().to_string()]);
    let refused = builder.clone().build().unwrap().ping().await;
    assert!(
        matches!(
            refused,
            Err(Error::Tls {
                kind: TlsErrorKind::Refused,
                ..
            })
        ),
        "{refused:?}"
    );
    write(&known);
    builder.build().unwrap().ping().await.unwrap();
}
