//! No descriptor is left behind: T48, P01, T13, G07, T06.
#![cfg(target_os = "linux")]

use std::process::Command;

use dflock::Client;
use tokio::net::TcpSocket;

use crate::peer::*;

/// How many descriptors this process has open.
fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn none_is_left_behind() {
    // in a process of its own: the other tests open some, too
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "descriptors::every_way_to_end",
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
#[ignore = "counts the descriptors of its whole process; `none_is_left_behind` runs it alone"]
async fn every_way_to_end() {
    const TIMES: usize = 10_000;
    let round = vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)];
    let peer = Peer::tcp([vec![round; TIMES].concat()]).await;
    let mut pool = peer.pool();
    let before = open();
    for _ in 0..TIMES {
        pool = pool.acquire().await.unwrap().release().await.unwrap();
    }
    // one for each side of the only connection
    assert_eq!(open(), before + 2);
    peer.finish().await;
    drop(pool);
    same_after(refused_connections, 300).await;
    same_after(refused_secrets, 300).await;
    same_after(refused_renewals, 300).await;
    same_after(dropped_holds, 300).await;
}

async fn same_after(way: impl AsyncFn(usize), times: usize) {
    // what is opened once, by the runtime or by the first use, is open now
    way(1).await;
    let before = open();
    way(times).await;
    assert_eq!(open(), before);
}

async fn refused_connections(times: usize) {
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

async fn refused_secrets(times: usize) {
    let peer = Peer::tcp(vec![vec![hear(AUTH), say("error_auth\n"), close()]; times]).await;
    let client = peer.builder().auth("hush").build().unwrap();
    for _ in 0..times {
        assert!(client.ping().await.unwrap_err().is_auth());
    }
    peer.finish().await;
}

async fn refused_renewals(times: usize) {
    let script = vec![
        hear(ACQUIRE),
        say(GRANT),
        hear(RENEW),
        say("error\n"),
        hear(RELEASE),
        hear_end(),
        close(),
    ];
    let peer = Peer::tcp(vec![script; times]).await;
    let pool = peer.pool();
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
    peer.finish().await;
}

async fn dropped_holds(times: usize) {
    let peer = Peer::tcp(vec![
        vec![
            hear(ACQUIRE),
            say(GRANT),
            hear(RELEASE),
            hear_end(),
            close()
        ];
        times
    ])
    .await;
    let pool = peer.pool();
    for _ in 0..times {
        drop(pool.clone().acquire().await.unwrap());
    }
    peer.finish().await;
}
