//! TLS options from the environment, each in a separate process.

use dflock::Client;
use dflock::rustls::version::TLS13;
use dflock::server::Server;
use tokio::process::Command;

use super::client_certificate;
use super::redaction::assert_hides;
use super::temp_dir::TempDir;
use super::test_ca::TestCa;

/// Returns the outcome of `Client::from_env` and a ping with these variables.
async fn outcome(server: &Server, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "tls::environment::child_process_pings_the_server",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().chain(NAMES) {
        child.env_remove(name);
    }
    child
        .env("DFLOCK_SERVERS", server.addr().to_string())
        .envs(variables.iter().copied());
    let output = child.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .find_map(|line| line.split_once("outcome: "))
        .unwrap_or_else(|| panic!("{text}"))
        .1
        .to_owned()
}

const NAMES: [&str; 14] = [
    "DFLOCK_SERVERS",
    "DFLOCK_AUTH_TOKEN",
    "DFLOCK_AUTH_TOKEN_FILE",
    "DFLOCK_TLS",
    "DFLOCK_TLS_CA",
    "DFLOCK_TLS_CERT",
    "DFLOCK_TLS_KEY",
    "DFLOCK_CONNECT_TIMEOUT",
    "DFLOCK_SOCKET_TIMEOUT",
    "DFLOCK_SERVER_READ_TIMEOUT",
    "DFLOCK_HEARTBEAT",
    "DFLOCK_MAX_CONNECTION_AGE",
    "DFLOCK_ETCD_PREFIX",
    "DFLOCK_ON_LIMIT_MISMATCH",
];

#[tokio::test]
#[ignore = "needs a separate environment; the tests below run it in a child process"]
async fn child_process_pings_the_server() {
    let outcome = async { Client::from_env()?.ping().await };
    match outcome.await {
        Ok(()) => println!("\noutcome: fine"),
        Err(error) => println!("\noutcome: {error}"),
    }
}

// Covers bug G27.
#[tokio::test]
async fn the_environment_selects_the_trusted_certificates() {
    let test_ca = TestCa::new();
    let server = Server::builder()
        .tls(test_ca.server())
        .build()
        .start()
        .await
        .unwrap();
    let dir = TempDir::new();
    let (ca, other) = (
        dir.file("ca.pem", test_ca.pem()),
        dir.file("other.pem", TestCa::new().pem()),
    );
    assert_eq!(outcome(&server, &[("DFLOCK_TLS_CA", &ca)]).await, "fine");
    // This file contains the system's trusted certificates.
    assert_eq!(
        outcome(&server, &[("DFLOCK_TLS", "native"), ("SSL_CERT_FILE", &ca)]).await,
        "fine"
    );
    // Both sources are trusted.
    for (native, named) in [(&ca, &other), (&other, &ca)] {
        let variables = [
            ("DFLOCK_TLS", "native"),
            ("SSL_CERT_FILE", native),
            ("DFLOCK_TLS_CA", named),
        ];
        assert_eq!(outcome(&server, &variables).await, "fine");
    }
    for variables in [
        &[("DFLOCK_TLS_CA", other.as_str())][..],
        &[("DFLOCK_TLS", "native"), ("SSL_CERT_FILE", &other)],
    ] {
        let error = outcome(&server, variables).await;
        assert!(
            error.contains("the server's certificate is not issued by a trusted CA"),
            "{error}"
        );
    }
    for variables in [&[][..], &[("DFLOCK_TLS", "off")]] {
        let error = outcome(&server, variables).await;
        assert!(error.contains("give the client `tls`"), "{error}");
    }
}

#[tokio::test]
async fn the_environment_names_the_client_certificate() {
    let test_ca = TestCa::new();
    let server = client_certificate::server(&test_ca, &TLS13).await;
    let dir = TempDir::new();
    let ca = dir.file("ca.pem", test_ca.pem());
    let with = async |trust: &[(&str, &str)], issuer: &TestCa| {
        let cert = issuer.issue("worker-1");
        let both = dir.file("both.pem", format!("{}{}", cert.certificate, cert.key));
        let chain = dir.file("me.pem", cert.certificate);
        let key = dir.file("me.key", cert.key);
        let two_files = [("DFLOCK_TLS_CERT", &*chain), ("DFLOCK_TLS_KEY", &key)];
        let one_file = [("DFLOCK_TLS_CERT", &*both), ("DFLOCK_TLS_KEY", &both)];
        let two_files = outcome(&server, &[trust, &two_files].concat()).await;
        let one_file = outcome(&server, &[trust, &one_file].concat()).await;
        assert_eq!(one_file, two_files);
        two_files
    };
    let trust = [("DFLOCK_TLS_CA", &*ca)];
    let native = [("DFLOCK_TLS", "native"), ("SSL_CERT_FILE", &*ca)];
    assert_eq!(with(&trust, &test_ca).await, "fine");
    assert_eq!(with(&native, &test_ca).await, "fine");
    for error in [
        with(&trust, &TestCa::new()).await,
        outcome(&server, &trust).await,
    ] {
        assert!(error.contains("`DFLOCK_TLS_CERT`"), "{error}");
    }
}

#[tokio::test]
async fn an_invalid_environment_variable_is_named() {
    let server = Server::start().await.unwrap();
    let dir = TempDir::new();
    let (empty, missing) = (dir.file("empty.pem", ""), dir.path("missing.pem"));
    let ca = dir.file("ca.pem", TestCa::new().pem());
    let cert = TestCa::new().issue("worker-1");
    let chain = dir.file("me.pem", cert.certificate);
    let key = dir.file("me.key", cert.key);
    let other_key = dir.file("other.key", TestCa::new().issue("worker-1").key);
    let trust = ("DFLOCK_TLS_CA", &*ca);
    for (variables, names) in [
        (
            &[("DFLOCK_TLS_CA", empty.as_str())][..],
            ["DFLOCK_TLS_CA", "no certificate in it"],
        ),
        (
            &[("DFLOCK_TLS_CA", &missing)],
            ["DFLOCK_TLS_CA", "the value is not shown"],
        ),
        (
            &[("DFLOCK_TLS_CA", &missing), ("DFLOCK_TLS", "off")],
            ["DFLOCK_TLS_CA", "`DFLOCK_TLS` is `off`"],
        ),
        (
            &[("DFLOCK_TLS", "yes")],
            ["DFLOCK_TLS", "neither `native` nor `off`"],
        ),
        (
            &[("DFLOCK_TLS", "native"), ("SSL_CERT_FILE", &empty)],
            ["DFLOCK_TLS", "unset `DFLOCK_TLS`"],
        ),
        // The system has no certificates; the file is valid.
        (
            &[
                ("DFLOCK_TLS", "native"),
                ("SSL_CERT_FILE", &empty),
                ("DFLOCK_TLS_CA", &ca),
            ],
            ["variable DFLOCK_TLS is", "the system has no certificate"],
        ),
        (
            &[trust, ("DFLOCK_TLS_CERT", &chain)],
            ["variable DFLOCK_TLS_CERT is", "`DFLOCK_TLS_KEY` is not set"],
        ),
        (
            &[trust, ("DFLOCK_TLS_KEY", &key)],
            ["variable DFLOCK_TLS_KEY is", "`DFLOCK_TLS_CERT` is not set"],
        ),
        (
            &[("DFLOCK_TLS_CERT", &chain), ("DFLOCK_TLS_KEY", &key)],
            ["variable DFLOCK_TLS_CERT is", "set `DFLOCK_TLS_CA`"],
        ),
        (
            &[
                trust,
                ("DFLOCK_TLS_CERT", &missing),
                ("DFLOCK_TLS_KEY", &key),
            ],
            ["variable DFLOCK_TLS_CERT is", "the value is not shown"],
        ),
        (
            &[
                trust,
                ("DFLOCK_TLS_CERT", &chain),
                ("DFLOCK_TLS_KEY", &missing),
            ],
            ["variable DFLOCK_TLS_KEY is", "the value is not shown"],
        ),
        // The key of another certificate.
        (
            &[
                trust,
                ("DFLOCK_TLS_CERT", &chain),
                ("DFLOCK_TLS_KEY", &other_key),
            ],
            ["variable DFLOCK_TLS_KEY is", "not the key of the first"],
        ),
    ] {
        let error = outcome(&server, variables).await;
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
        assert!(!error.contains("Tls::"), "{error}");
    }
    assert_eq!(outcome(&server, &[("DFLOCK_TLS", "off")]).await, "fine");
}

#[tokio::test]
async fn a_key_in_place_of_the_system_certificates_is_redacted() {
    let server = Server::start().await.unwrap();
    let dir = TempDir::new();
    let key = TestCa::new().issue("lock").key;
    let file = dir.file("key.pem", key.replace('\n', "\\n"));
    let error = outcome(
        &server,
        &[("DFLOCK_TLS", "native"), ("SSL_CERT_FILE", &file)],
    )
    .await;
    assert!(error.contains("a file is not PEM"), "{error}");
    assert_hides(&error, &key);
}
