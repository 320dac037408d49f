//! `dflock run` in the queue: its limit of time, and a place that is lost.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dflock::server::Server;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use crate::program::{PATIENCE, Run, dflock, done, status, text};

/// A proxy that ends connections when the test says so.
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
                    // without a server behind it, it closes the connection
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

/// Returns `dflock run` on the server, with `options`; its command prints `ran`.
fn run(addr: SocketAddr, options: &[&str]) -> Command {
    let addr = addr.to_string();
    let run = ["run", "--servers", &addr, "--key", "job"];
    dflock(&[&run[..], options, &["echo", "ran"]].concat())
}

/// A `dflock run` in the queue, and the rest of its standard error.
struct Waiting {
    dflock: Child,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Waiting {
    async fn start(addr: SocketAddr, options: &[&str]) -> Self {
        let mut command = run(addr, options);
        // of itself it warns when it knows its place
        let mut dflock = command.env("DFLOCK_KEY", "job").spawn().unwrap();
        let stderr = BufReader::new(dflock.stderr.take().unwrap()).lines();
        let mut waiting = Self { dflock, stderr };
        assert!(waiting.warning().await.contains("waits for itself"));
        waiting
    }

    async fn warning(&mut self) -> String {
        let line = timeout(PATIENCE, self.stderr.next_line());
        line.await.expect("it warns").unwrap().unwrap()
    }

    /// Returns its exit status, its output, and the rest of its standard error.
    async fn ends(mut self) -> (i32, String, Vec<String>) {
        let output = timeout(PATIENCE, self.dflock.wait_with_output());
        let output = output.await.expect("it ends").unwrap();
        let mut said = Vec::new();
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            said.push(line);
        }
        (status(&output), text(&output.stdout).to_owned(), said)
    }
}

/// Waits until the queue for `job` has this length.
async fn has_waiters(server: &Server, count: u64) {
    let waiters = || {
        let stats = server.stats();
        let mut keys = stats.semaphores.iter();
        keys.find(|key| key.key == "job")
            .map_or(0, |key| key.waiters)
    };
    let wait = async {
        while waiters() != count {
            yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the queue changes");
}

#[tokio::test]
async fn the_timeout_bounds_a_server_that_says_nothing() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    for wait in ["300ms", "1s"] {
        let mut command = run(addr, &["--timeout", wait]);
        // the limit of a reply is not what ends it
        let output = done(command.env("DFLOCK_SOCKET_TIMEOUT", "3600")).await;
        let said = text(&output.stderr);
        assert_eq!((status(&output), text(&output.stdout)), (75, ""), "{said}");
        assert!(
            said.contains("did not answer in time") && said.contains(&addr.to_string()),
            "{said}"
        );
    }
}

#[tokio::test]
async fn without_a_timeout_a_server_that_says_nothing_is_69() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = run(server.local_addr().unwrap(), &[]);
    let output = done(command.env("DFLOCK_SOCKET_TIMEOUT", "0.1")).await;
    assert_eq!((status(&output), text(&output.stdout)), (69, ""));
}

#[tokio::test]
async fn a_place_that_a_proxy_ends_is_taken_again_and_one_warning_says_so() {
    let server = Server::start().await.unwrap();
    let holder = server.client().semaphore("job", 1).unwrap();
    let held = holder.acquire().await.unwrap();
    let proxy = Proxy::start(server.addr()).await;
    let mut waiting = Waiting::start(proxy.addr, &["--timeout", "1h"]).await;
    proxy.disconnect();
    let line = waiting.warning().await;
    assert!(line.contains("lost the place in the queue"), "{line}");
    for _ in 0..2 {
        // the server may not have noticed yet: then this is lost before it is queued again
        has_waiters(&server, 1).await;
        proxy.disconnect();
    }
    has_waiters(&server, 1).await;
    held.release().await.unwrap();
    assert_eq!(waiting.ends().await, (0, "ran\n".to_owned(), vec![]));
}

#[tokio::test]
async fn a_server_that_restarts_finds_the_waiters_back() {
    let first = Server::start().await.unwrap();
    let holder = first.client().semaphore("job", 1).unwrap();
    let held = holder.acquire().await.unwrap();
    let proxy = Proxy::start(first.addr()).await;
    let waiting = Waiting::start(proxy.addr, &[]).await;
    // it answers `error_draining` to the waiter, and then ends
    let (second, _) = tokio::join!(Server::start(), async {
        tokio::join!(first.shutdown(), held.release())
    });
    let second = second.unwrap();
    *proxy.upstream.lock().unwrap() = second.addr();
    let (status, out, _) = waiting.ends().await;
    assert_eq!((status, &*out), (0, "ran\n"));
}

/// Reads the three lines of a request.
async fn request(client: &mut BufReader<TcpStream>) -> String {
    let mut request = String::new();
    for _ in 0..3 {
        client.read_line(&mut request).await.unwrap();
    }
    request
}

#[tokio::test]
async fn the_error_of_an_old_server_that_ends_is_a_place_lost() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut waiting = Run::of(run(server.local_addr().unwrap(), &[]).stderr(Stdio::null()));
    let accept = async || {
        let client = timeout(PATIENCE, server.accept()).await.expect("it comes");
        BufReader::new(client.unwrap().0)
    };
    let mut client = accept().await;
    assert!(request(&mut client).await.starts_with("se\n"));
    client.write_all(b"queued\n").await.unwrap();
    assert!(request(&mut client).await.starts_with("sw\n"));
    client.write_all(b"error\n").await.unwrap();
    drop(client);
    let mut client = accept().await;
    assert!(request(&mut client).await.starts_with("se\n"));
    let token = "0123456789abcdef".repeat(2);
    let granted = format!("acquired {token} 33\n");
    client.write_all(granted.as_bytes()).await.unwrap();
    assert_eq!(waiting.line().await.as_deref(), Some("ran"));
    assert!(request(&mut client).await.starts_with("sr\n"));
    client.write_all(b"ok\n").await.unwrap();
    assert_eq!(waiting.status().await, 0);
}

#[tokio::test]
async fn a_server_that_stays_away_after_a_lost_place_is_69() {
    let server = Server::start().await.unwrap();
    let holder = server.client().semaphore("job", 1).unwrap();
    let _held = holder.acquire().await.unwrap();
    let began = Instant::now();
    let waiting = Waiting::start(server.addr(), &["--timeout", "3s"]).await;
    drop(server);
    let (status, out, said) = waiting.ends().await;
    assert_eq!((status, &*out), (69, ""), "{said:?}");
    assert!(said[0].contains("lost the place in the queue"), "{said:?}");
    // it has tried until the time was over
    assert!(began.elapsed() >= Duration::from_secs(3), "{said:?}");
}
