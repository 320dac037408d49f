//! TLS between the Python client and `local_server`.

use super::program::Program;
use super::python::interop;
use crate::tls::test_ca::{TestCa, HOST};
use crate::tls::temp_dir::TempDir;

#[tokio::test]
async fn the_python_client_does_all_it_can_over_tls() {
    interop(async |python| {
        let (test_ca, dir) = (TestCa::new(), TempDir::new());
        let server = secured(&test_ca, &dir, &["--auth-token", "s3cret"]).await;
        let ca = dir.file("ca.pem", test_ca.pem());
        let args = [
            "--servers",
            &server.addr.to_string(),
            "--ca",
            &ca,
            "--secret",
            "s3cret",
        ];
        python.passes("client.py", &args, "").await;
    })
    .await;
}

#[tokio::test]
async fn what_rust_holds_over_tls_is_held_for_python() {
    interop(async |python| {
        let (test_ca, dir) = (TestCa::new(), TempDir::new());
        let server = secured(&test_ca, &dir, &[]).await;
        let ca = dir.file("ca.pem", test_ca.pem());
        let client = server
            .client_builder()
            .tls(test_ca.tls())
            .build()
            .unwrap();
        let lock = client.lock("job").unwrap().acquire().await.unwrap();
        let pool = client.semaphore("job", 3).unwrap();
        let slots = [
            pool.clone().acquire().await.unwrap(),
            pool.clone().acquire().await.unwrap(),
            pool.acquire().await.unwrap(),
        ];
        python
            .passes(
                "elsewhere.py",
                &["--servers", &server.addr.to_string(), "--ca", &ca],
                "job",
            )
            .await;
        lock.release().await.unwrap();
        for slot in slots {
            slot.release().await.unwrap();
        }
    })
    .await;
}

/// Starts `local_server` with a certificate of `test_ca` and with `flags`.
async fn secured(test_ca: &TestCa, dir: &TempDir, flags: &[&str]) -> Program {
    let test_cert = test_ca.issue(HOST);
    let (chain, key) = (
        dir.file("server.pem", test_cert.certificate),
        dir.file("server.key", test_cert.key),
    );
    Program::local_server(&[&["--tls-cert", &chain, "--tls-key", &key], flags].concat()).await
}
