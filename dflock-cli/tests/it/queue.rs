//! `dflock run` in the queue: its timeout, and the loss of its place.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dflock::server::Server;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::process::{Process, TIMEOUT, hold, output_of, run, status, text, wait_for_waiters};

/// A proxy whose connections the test can close.
struct Proxy {
    addr: SocketAddr,
    upstream: Arc<Mutex<SocketAddr>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    _accepts: JoinSet<()>,
}

impl Proxy {
    async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let upstream = Arc::new(Mutex::new(upstream));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let mut accepts = JoinSet::new();
        let (to, tasks) = (upstream.clone(), connections.clone());
        accepts.spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let to = *to.lock().unwrap();
                tasks.lock().unwrap().spawn(async move {
                    // Without a server, the proxy closes the connection.
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        drop(copy_bidirectional(&mut client, &mut server).await);
                    }
                });
            }
        });
        Self {
            addr,
            upstream,
            connections,
            _accepts: accepts,
        }
    }

    fn disconnect(&self) {
        self.connections.lock().unwrap().abort_all();
    }
}

/// Returns a `dflock run` with `options` on the server `addr`. Its command prints `ran`.
fn echo(addr: SocketAddr, options: &[&str]) -> Command {
    run(addr, &[options, &["echo", "ran"]].concat())
}

/// A `dflock run` in the queue, and the lines of its standard error.
struct Waiting {
    dflock: Child,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Waiting {
    async fn start(addr: SocketAddr, options: &[&str]) -> Self {
        let mut command = echo(addr, options);
        // With the key of an enclosing `dflock run`, it prints a warning once it is in the queue.
        let mut dflock = command.env("DFLOCK_KEY", "job").spawn().unwrap();
        let stderr = BufReader::new(dflock.stderr.take().unwrap()).lines();
        let mut waiting = Self { dflock, stderr };
        assert!(waiting.next_warning().await.contains("waits for itself"));
        waiting
    }

    async fn next_warning(&mut self) -> String {
        let line = timeout(TIMEOUT, self.stderr.next_line());
        line.await.expect("dflock prints a line").unwrap().unwrap()
    }

    /// Waits until `dflock` ends. Returns its exit status, its output, and the remaining lines of
    /// its standard error.
    async fn output(mut self) -> (i32, String, Vec<String>) {
        let output = timeout(TIMEOUT, self.dflock.wait_with_output());
        let output = output.await.expect("dflock ends").unwrap();
        let mut lines = Vec::new();
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            lines.push(line);
        }
        (status(&output), text(&output.stdout).to_owned(), lines)
    }
}

#[tokio::test]
async fn the_timeout_limits_the_wait_for_the_first_reply() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    for wait in ["300ms", "1s"] {
        let mut command = echo(addr, &["--timeout", wait]);
        // The time limit of a reply is not reached first.
        let output = output_of(command.env("DFLOCK_SOCKET_TIMEOUT", "3600")).await;
        let stderr = text(&output.stderr);
        assert_eq!(
            (status(&output), text(&output.stdout)),
            (75, ""),
            "{stderr}"
        );
        assert!(
            stderr.contains("no reply from") && stderr.contains(&addr.to_string()),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn without_a_timeout_a_server_that_does_not_reply_exits_with_69() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = echo(server.local_addr().unwrap(), &[]);
    let output = output_of(command.env("DFLOCK_SOCKET_TIMEOUT", "0.1")).await;
    assert_eq!((status(&output), text(&output.stdout)), (69, ""));
}

#[tokio::test]
async fn a_client_that_a_proxy_disconnects_joins_the_queue_again_and_warns_once() {
    let server = Server::start().await.unwrap();
    let held = hold(&server).await;
    let proxy = Proxy::start(server.addr()).await;
    let mut waiting = Waiting::start(proxy.addr, &["--timeout", "1h"]).await;
    proxy.disconnect();
    let line = waiting.next_warning().await;
    assert!(line.contains("lost the place in the queue"), "{line}");
    for _ in 0..2 {
        // If the server has not noticed the last disconnect yet, this closes the new connection
        // before it is queued.
        wait_for_waiters(&server, 1).await;
        proxy.disconnect();
    }
    wait_for_waiters(&server, 1).await;
    held.release().await.unwrap();
    assert_eq!(waiting.output().await, (0, "ran\n".to_owned(), vec![]));
}

#[tokio::test]
async fn a_client_joins_the_queue_again_after_a_restart_of_the_server() {
    let first = Server::start().await.unwrap();
    let held = hold(&first).await;
    let proxy = Proxy::start(first.addr()).await;
    let waiting = Waiting::start(proxy.addr, &[]).await;
    // The server replies `error_draining` to the waiter, and then stops.
    let (second, _) = tokio::join!(Server::start(), async {
        tokio::join!(first.shutdown(), held.release())
    });
    let second = second.unwrap();
    *proxy.upstream.lock().unwrap() = second.addr();
    let (status, out, _) = waiting.output().await;
    assert_eq!((status, &*out), (0, "ran\n"));
}

/// Reads the three lines of a request.
async fn read_request(client: &mut BufReader<TcpStream>) -> String {
    let mut request = String::new();
    for _ in 0..3 {
        client.read_line(&mut request).await.unwrap();
    }
    request
}

#[tokio::test]
async fn a_client_joins_the_queue_again_after_the_reply_error_of_an_old_server() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut waiting = Process::spawn(echo(server.local_addr().unwrap(), &[]).stderr(Stdio::null()));
    let accept = async || {
        let client = timeout(TIMEOUT, server.accept())
            .await
            .expect("dflock connects");
        BufReader::new(client.unwrap().0)
    };
    let mut client = accept().await;
    assert!(read_request(&mut client).await.starts_with("se\n"));
    client.write_all(b"queued\n").await.unwrap();
    assert!(read_request(&mut client).await.starts_with("sw\n"));
    client.write_all(b"error\n").await.unwrap();
    drop(client);
    let mut client = accept().await;
    assert!(read_request(&mut client).await.starts_with("se\n"));
    let token = "0123456789abcdef".repeat(2);
    let granted = format!("acquired {token} 33\n");
    client.write_all(granted.as_bytes()).await.unwrap();
    assert_eq!(waiting.next_line().await.as_deref(), Some("ran"));
    assert!(read_request(&mut client).await.starts_with("sr\n"));
    client.write_all(b"ok\n").await.unwrap();
    assert_eq!(waiting.status().await, 0);
}

#[tokio::test]
async fn a_server_that_stays_unreachable_during_the_wait_exits_with_69() {
    let server = Server::start().await.unwrap();
    let _held = hold(&server).await;
    let began = Instant::now();
    let waiting = Waiting::start(server.addr(), &["--timeout", "3s"]).await;
    drop(server);
    let (status, out, stderr) = waiting.output().await;
    assert_eq!((status, &*out), (69, ""), "{stderr:?}");
    assert!(
        stderr[0].contains("lost the place in the queue"),
        "{stderr:?}"
    );
    // It has retried until the timeout.
    assert!(began.elapsed() >= Duration::from_secs(3), "{stderr:?}");
}
