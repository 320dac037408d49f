//! Leaks of file descriptors: covers bugs T48, P01, T13, G07, T06.
#![cfg(target_os = "linux")]

use std::process::Command;

use dflock::Client;
use tokio::net::TcpSocket;

use crate::scripted_server::*;

/// Returns the number of open descriptors of this process.
fn count_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_descriptor_is_leaked() {
    // A separate process, because the other tests open descriptors as well.
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "descriptors::child_process_ends_connections_in_every_way",
            "--ignored",
            "--test-threads=1",
        ])
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && output.contains("1 passed"),
        "{output}"
    );
}

#[tokio::test]
#[ignore = "counts the descriptors of its whole process; `no_descriptor_is_leaked` runs it alone"]
async fn child_process_ends_connections_in_every_way() {
    const TIMES: usize = 10_000;
    let cycle = vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)];
    let server = ScriptedServer::tcp([vec![cycle; TIMES].concat()]).await;
    let mut pool = server.pool();
    let before = count_descriptors();
    for _ in 0..TIMES {
        pool = pool.acquire().await.unwrap().release().await.unwrap();
    }
    // One descriptor for each end of the connection.
    assert_eq!(count_descriptors(), before + 2);
    server.finish().await;
    drop(pool);
    assert_no_leak(fail_connections, 300).await;
    assert_no_leak(fail_authentications, 300).await;
    assert_no_leak(fail_renewals, 300).await;
    assert_no_leak(drop_holds, 300).await;
}

async fn assert_no_leak(operation: impl AsyncFn(usize), times: usize) {
    // The first run opens the descriptors that the runtime opens once.
    operation(1).await;
    let before = count_descriptors();
    operation(times).await;
    assert_eq!(count_descriptors(), before);
}

async fn fail_connections(times: usize) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let client = Client::builder()
        .servers([socket.local_addr().unwrap().to_string()])
        .build()
        .unwrap();
    for _ in 0..times {
        client.ping().await.unwrap_err();
    }
}

async fn fail_authentications(times: usize) {
    let server = ScriptedServer::tcp(vec![
        vec![expect(AUTH), send("error_auth\n"), close()];
        times
    ])
    .await;
    let client = server.builder().auth("hush").build().unwrap();
    for _ in 0..times {
        assert!(client.ping().await.unwrap_err().is_auth());
    }
    server.finish().await;
}

async fn fail_renewals(times: usize) {
    let script = vec![
        expect(ACQUIRE),
        send(GRANT),
        expect(RENEW),
        send("error\n"),
        expect(RELEASE),
        expect_eof(),
        close(),
    ];
    let server = ScriptedServer::tcp(vec![script; times]).await;
    let pool = server.pool();
    for _ in 0..times {
        assert!(
            pool.clone()
                .acquire()
                .await
                .unwrap()
                .renew()
                .await
                .unwrap_err()
                .is_lost()
        );
    }
    server.finish().await;
}

async fn drop_holds(times: usize) {
    let server = ScriptedServer::tcp(vec![
        vec![
            expect(ACQUIRE),
            send(GRANT),
            expect(RELEASE),
            expect_eof(),
            close()
        ];
        times
    ])
    .await;
    let pool = server.pool();
    for _ in 0..times {
        drop(pool.clone().acquire().await.unwrap());
    }
    server.finish().await;
}
