//! Runtimes: slots and connections end with the runtime that created them and serve no other.

use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use dflock::server::{Server, ServerError};
use dflock::{
    BoxStream, Client, Clock, ConfigError, ConnectFuture, Connector, Enqueued, Error, LostReason,
    Semaphore,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Result};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Limit of every wait. It is longer than any operation here.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Socket timeout of tests with a silent server, which wait for it once. It is long enough for a
/// busy machine.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(2);

fn current_thread_runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

// Covers bug N4. A check from another runtime reports the loss before the slot is free.
#[test]
fn a_slot_is_lost_before_its_runtime_releases_it() {
    let outside = current_thread_runtime();
    let server = outside.block_on(Server::start()).unwrap();
    let (written, releasing) = mpsc::channel();
    let (resume, resumed) = mpsc::channel();
    let connector = PausingConnector {
        written,
        resumed: Arc::new(Mutex::new(resumed)),
    };
    let client = server
        .client_builder()
        .connector(connector)
        .build()
        .unwrap();
    let stopped_runtime = current_thread_runtime();
    let held = stopped_runtime
        .block_on(client.semaphore("pool", 1).unwrap().acquire())
        .unwrap();
    let end = thread::spawn(move || drop(stopped_runtime));
    releasing
        .recv_timeout(TEST_TIMEOUT)
        .expect("nothing is released");
    let second = outside
        .block_on(
            server
                .client()
                .semaphore("pool", 1)
                .unwrap()
                .acquire_within(TEST_TIMEOUT),
        )
        .unwrap();
    assert!(held.is_lost());
    resume
        .send(())
        .expect("the writer did not wait for the test");
    end.join().unwrap();
    drop(second);
}

#[test]
fn a_connection_released_on_another_runtime_is_not_used_there() {
    let outside = current_thread_runtime();
    let server = outside.block_on(Server::start()).unwrap();
    let pool = server.client().semaphore("pool", 1).unwrap();
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let first = {
        let pool = pool.clone();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                sender.send(pool.acquire().await.unwrap()).unwrap();
                let _ = stopped.await;
            });
            runtime
        })
    };
    let held = receiver.recv().unwrap();
    let elsewhere = Builder::new_current_thread().enable_all().build().unwrap();
    elsewhere.block_on(held.release()).unwrap();
    stop.send(()).unwrap();
    // The runtime exists and is not driven, so its tasks do not run.
    let idle = first.join().unwrap();
    elsewhere.block_on(pool.acquire()).unwrap().close();
    drop(idle);
}

#[test]
fn a_connection_released_on_another_runtime_is_not_reused_after_its_runtime_ended() {
    let outside = current_thread_runtime();
    let server = outside.block_on(Server::start()).unwrap();
    let client = server
        .client_builder()
        .socket_timeout(SOCKET_TIMEOUT)
        .build()
        .unwrap();
    let pool = client.semaphore("pool", 2).unwrap();
    let (here, elsewhere) = (current_thread_runtime(), current_thread_runtime());
    let (first, second) = here.block_on(async {
        (
            pool.clone().acquire().await.unwrap(),
            pool.clone().acquire().await.unwrap(),
        )
    });
    // Other connections are idle in that pool.
    here.block_on(first.release()).unwrap();
    elsewhere.block_on(second.release()).unwrap();
    // This is long before the client closes idle connections.
    outside.block_on(async {
        timeout(Duration::from_secs(10), wait_for_connections(&server, 1))
            .await
            .expect("the connection stays open");
    });
    // Dropping this runtime earlier would end its timers.
    drop(elsewhere);
    server.faults().freeze();
    let error = here.block_on(async {
        timeout(TEST_TIMEOUT, pool.acquire_within(Duration::ZERO))
            .await
            .expect("it hangs")
    });
    assert!(matches!(error.unwrap_err(), Error::Unresponsive { .. }));
}

async fn wait_for_connections(server: &Server, count: u64) {
    while server.stats().connections != count {
        tokio::task::yield_now().await;
    }
}

// The runtime of the connection drives neither its socket nor its timers.
#[test]
fn a_release_on_another_runtime_times_out() {
    let outside = current_thread_runtime();
    let server = outside.block_on(Server::start()).unwrap();
    let client = server
        .client_builder()
        .socket_timeout(SOCKET_TIMEOUT)
        .build()
        .unwrap();
    let idle = Builder::new_current_thread().enable_all().build().unwrap();
    let held = idle
        .block_on(client.semaphore("pool", 1).unwrap().acquire())
        .unwrap();
    server.faults().freeze();
    let elsewhere = Builder::new_current_thread().enable_all().build().unwrap();
    let error = elsewhere
        .block_on(async {
            timeout(TEST_TIMEOUT, held.release())
                .await
                .expect("it hangs")
        })
        .unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
}

/// Returns a runtime without timers and IO.
fn runtime_without_drivers() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Returns a runtime with timers and without IO.
fn runtime_without_io() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Asserts that every call of `client` that connects fails with `expected` and does not panic.
fn assert_rejected(runtime: &Runtime, client: &Client, expected: &ConfigError) {
    runtime.block_on(async {
        let (pool, lock) = (
            client.semaphore("pool", 1).unwrap(),
            client.lock("pool").unwrap(),
        );
        let errors = [
            pool.clone().acquire().await.unwrap_err(),
            pool.clone()
                .acquire_within(Duration::from_millis(10))
                .await
                .unwrap_err(),
            pool.clone().try_acquire().await.unwrap_err(),
            pool.clone().enqueue().await.unwrap_err(),
            pool.with_slot(async |_| ()).await.unwrap_err(),
            lock.clone().acquire().await.unwrap_err(),
            lock.enqueue().await.unwrap_err(),
            client.ping().await.unwrap_err(),
            client.stats().await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(&error, Error::Config(it) if it == expected),
                "{error:?}"
            );
            assert!(!error.is_retryable());
        }
    });
}

#[test]
fn a_runtime_without_timers_or_io_is_an_error_instead_of_a_panic() {
    let outside = current_thread_runtime();
    let server = outside.block_on(Server::start()).unwrap();
    let in_memory = server
        .client_builder()
        .connector(server.connector())
        .build()
        .unwrap();
    for client in [server.client(), in_memory.clone()] {
        assert_rejected(&runtime_without_drivers(), &client, &ConfigError::NoTimers);
        // No slot was taken.
        assert!(server.stats().semaphores.is_empty());
    }
    assert_rejected(&runtime_without_io(), &server.client(), &ConfigError::NoIo);
    // An in-memory connection needs no socket.
    runtime_without_io().block_on(async {
        in_memory.ping().await.unwrap();
        in_memory
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    });
    assert!(ConfigError::NoTimers.to_string().contains("`enable_time`"));
    assert!(ConfigError::NoIo.to_string().contains("`enable_io`"));
}

#[test]
fn a_server_needs_a_runtime_with_timers_and_io() {
    let start = |runtime: &Runtime| runtime.block_on(Server::start()).unwrap_err();
    for (error, expected) in [
        (start(&runtime_without_drivers()), ConfigError::NoTimers),
        (start(&runtime_without_io()), ConfigError::NoIo),
        (
            runtime_without_drivers()
                .block_on(async { Server::builder().build().start_in_memory() })
                .unwrap_err(),
            ConfigError::NoTimers,
        ),
        (
            Server::builder().build().start_in_memory().unwrap_err(),
            ConfigError::NoRuntime,
        ),
        (
            block_on(Server::start()).unwrap_err(),
            ConfigError::NoRuntime,
        ),
    ] {
        assert_eq!(error.to_string(), expected.to_string());
        assert!(matches!(error, ServerError::Runtime(it) if it == expected));
    }
    drop(
        runtime_without_io()
            .block_on(async { Server::builder().build().start_in_memory() })
            .unwrap(),
    );
}

// A slot acquired on a complete runtime and used on a runtime without timers.
#[test]
fn a_slot_on_a_runtime_without_timers_is_an_error_instead_of_a_panic() {
    for auto_release in [true, false] {
        let outside = current_thread_runtime();
        let server = outside
            .block_on(Server::builder().auto_release(auto_release).build().start())
            .unwrap();
        let pool = server.client().semaphore("pool", 1).unwrap();
        let held = outside.block_on(pool.clone().acquire()).unwrap();
        let Enqueued::Queued(queued) = outside.block_on(pool.clone().enqueue()).unwrap() else {
            panic!("the slot is taken")
        };
        runtime_without_drivers().block_on(async {
            assert!(matches!(
                held.renew().await.unwrap_err(),
                Error::Config(ConfigError::NoTimers)
            ));
            assert!(matches!(
                held.run(async {}).await.unwrap_err(),
                Error::Config(ConfigError::NoTimers)
            ));
            assert!(matches!(
                queued.wait().await.unwrap_err(),
                Error::Config(ConfigError::NoTimers)
            ));
            held.check().unwrap();
            assert!(matches!(
                held.release().await.unwrap_err(),
                Error::Config(ConfigError::NoTimers)
            ));
        });
        // The slot was released nevertheless.
        outside
            .block_on(pool.acquire_within(Duration::from_secs(10)))
            .unwrap();
    }
}

// The keep-alive task uses the timers of the runtime that made the connection.
#[test]
fn a_loss_is_reported_on_a_runtime_without_timers_and_outside_any_runtime() {
    let outside = current_thread_runtime();
    let server = outside.block_on(Server::start()).unwrap();
    let client = server
        .client_builder()
        .heartbeat(Duration::from_millis(300))
        .build()
        .unwrap();
    let lease = Duration::from_secs(1);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(2)
        .lease_ttl(lease)
        .client(client)
        .build()
        .unwrap();
    let slots = outside.block_on(async {
        [
            pool.clone().acquire().await.unwrap(),
            pool.clone().acquire().await.unwrap(),
        ]
    });
    server.faults().freeze();
    let [first, second] = slots
        .each_ref()
        .map(|held| async { held.lost().await.reason });
    thread::scope(|scope| {
        let first = scope.spawn(|| runtime_without_drivers().block_on(first));
        let second = scope.spawn(|| block_on(second));
        for reason in [first.join().unwrap(), second.join().unwrap()] {
            assert_eq!(reason, LostReason::Unreachable);
        }
    });
}

/// Runs a future outside of tokio.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park_timeout(TEST_TIMEOUT);
    }
}

/// TCP connector that pauses the writer of a release until the test continues.
#[derive(Clone)]
struct PausingConnector {
    /// Receives a message for every release that has been written.
    written: mpsc::Sender<()>,
    resumed: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Connector for PausingConnector {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(server).await?;
            Ok(Box::new(PausingStream {
                stream,
                connector: self.clone(),
            }) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Boottime
    }
}

struct PausingStream {
    stream: TcpStream,
    connector: PausingConnector,
}

impl AsyncRead for PausingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PausingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if bytes.starts_with(b"sr\n") && written.is_ready() {
            // The receiver is gone when the test has failed.
            let _ = self.connector.written.send(());
            let _ = self
                .connector
                .resumed
                .lock()
                .unwrap()
                .recv_timeout(TEST_TIMEOUT);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
