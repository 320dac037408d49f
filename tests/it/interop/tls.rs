//! The Python client speaks TLS to `local_server`, and works beside Rust there.

use super::program::Program;
use super::python::interop;
use crate::tls::authority::{Authority, HOST};
use crate::tls::folder::Folder;

#[tokio::test]
async fn the_python_client_does_all_it_can_over_tls() {
    interop(async |python| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let server = secured(&authority, &folder, &["--auth-token", "s3cret"]).await;
        let ca = folder.file("ca.pem", authority.pem());
        let args = [
            "--servers",
            &server.addr.to_string(),
            "--ca",
            &ca,
            "--auth-token",
            "s3cret",
        ];
        python.passes("client.py", &args, "").await;
    })
    .await;
}

#[tokio::test]
async fn what_rust_holds_over_tls_is_held_for_python() {
    interop(async |python| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let server = secured(&authority, &folder, &[]).await;
        let ca = folder.file("ca.pem", authority.pem());
        let client = server
            .client_builder()
            .tls(authority.tls())
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

/// `local_server` with papers of `authority`, and with `flags`.
async fn secured(authority: &Authority, folder: &Folder, flags: &[&str]) -> Program {
    let papers = authority.papers(HOST);
    let (chain, key) = (
        folder.file("server.pem", papers.certificate),
        folder.file("server.key", papers.key),
    );
    Program::local_server(&[&["--tls-cert", &chain, "--tls-key", &key], flags].concat()).await
}
