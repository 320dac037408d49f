//! TLS between the Python client and `dflock serve`.

use super::program::Program;
use super::python::interop;
use crate::tls::temp_dir::TempDir;
use crate::tls::test_ca::{HOST, TestCa};

#[tokio::test]
async fn all_operations_of_the_python_client_work_over_tls() {
    interop(async |python| {
        let (test_ca, dir) = (TestCa::new(), TempDir::new());
        let server = start_tls_server(&test_ca, &dir, &["--auth-token", "s3cret"]).await;
        let ca = dir.file("ca.pem", test_ca.pem());
        let args = [
            "--servers",
            &server.addr.to_string(),
            "--ca",
            &ca,
            "--auth-token",
            "s3cret",
        ];
        python.run_cases("client.py", &args, "").await;
    })
    .await;
}

#[tokio::test]
async fn python_respects_holds_of_rust_over_tls() {
    interop(async |python| {
        let (test_ca, dir) = (TestCa::new(), TempDir::new());
        let server = start_tls_server(&test_ca, &dir, &[]).await;
        let ca = dir.file("ca.pem", test_ca.pem());
        let client = server.client_builder().tls(test_ca.tls()).build().unwrap();
        let lock = client.lock("job").unwrap().acquire().await.unwrap();
        let pool = client.semaphore("job", 3).unwrap();
        let slots = [
            pool.clone().acquire().await.unwrap(),
            pool.clone().acquire().await.unwrap(),
            pool.acquire().await.unwrap(),
        ];
        python
            .run_cases(
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

/// Starts `dflock serve` with a certificate of `test_ca` and with `flags`.
async fn start_tls_server(test_ca: &TestCa, dir: &TempDir, flags: &[&str]) -> Program {
    let test_cert = test_ca.issue(HOST);
    let (chain, key) = (
        dir.file("server.pem", test_cert.certificate),
        dir.file("server.key", test_cert.key),
    );
    Program::dflock_serve(&[&["--tls-cert", &chain, "--tls-key", &key], flags].concat()).await
}
