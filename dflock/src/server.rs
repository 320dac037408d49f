//! A server compatible with dflockd in the same process, for tests, examples and one machine.
//!
//! It implements the whole protocol: locks and semaphores with separate names, two-phase acquires,
//! `ping`, `stats` and fencing tokens. It does not have the known bugs of dflockd.
//!
//! On dflockd before v1.14, a lock and a semaphore of one key share that key; see
//! [`Lock`](crate::Lock#locks-and-semaphores-of-one-key). A test on this server does not show that.

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod cert_verifier;
mod config;
mod connection;
mod control;
mod error;
mod faults;
mod in_memory;
mod listener;
mod observer;
mod registry;
mod session;
mod shared;
mod table;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::{Client, ClientBuilder};
use crate::driver;
use crate::engine::dflockd::{BoxStream, Resolver};
use crate::error::public_part;
use crate::stats::Stats;
pub use config::{ServerBuilder, ServerConfig};
pub use error::ServerError;
pub use faults::Faults;
pub use in_memory::MemoryConnector;
use listener::{Listener, NoListener};
#[doc(hidden)]
pub use observer::{EndReason, Event};
pub(crate) use shared::Shared;
use table::TokenGenerator;
#[cfg(dflock_bench)]
#[doc(hidden)]
pub use table::bench::AcquireRelease;
#[cfg(any(test, fuzzing))]
pub(crate) use table::model;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use tls::ServerTls;

/// Capacity of the queue of accepted connections, like the backlog of a socket.
const BACKLOG: usize = 128;

/// A running server. Dropping it stops it at once: it stops listening and closes all connections.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dflock::server::Server;
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
/// use tokio::net::TcpStream;
///
/// let server = Server::start().await?;
/// let mut client = BufReader::new(TcpStream::connect(server.addr()).await?);
/// client.write_all(b"sl\npool\n0 2 30\n").await?;
/// let mut reply = String::new();
/// client.read_line(&mut reply).await?;
/// assert!(reply.starts_with("ok ") && reply.ends_with(" 30\n"));
/// assert_eq!(server.stats().semaphores[0].holders, 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "a server stops when it is dropped"]
pub struct Server {
    addr: SocketAddr,
    client: Client,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<BoxStream>,
    accept: AcceptTask,
}

impl Server {
    /// Starts a server with the default options, on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// [`ServerError`] when there is no free port, or when the operating system has no random
    /// numbers. [`ServerError::Runtime`] outside of a tokio runtime, and on one without timers or
    /// IO.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call starts nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// println!("listening on {}", server.addr());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().build().start().await
    }

    /// Returns a builder for a server with other options.
    pub fn builder() -> ServerBuilder {
        ServerConfig::builder()
    }

    /// Returns the address on which the server listens, with its actual port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the current holders and waiters of every key.
    pub fn stats(&self) -> Stats {
        self.shared.registry.stats()
    }

    /// Returns a client of this server, over TCP. All clients that this method returns share one
    /// connection pool.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let held = server.client().semaphore("pool", 5)?.acquire().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the options of [`client`](Self::client), to be changed: the server's address, auth
    /// token, certificate and read timeout, and [`fencing`](ClientBuilder::fencing).
    ///
    /// The certificate of a server made with `ServerTls::from_config` is not included. Its clients
    /// need `tls`.
    ///
    /// # Examples
    ///
    /// A test on a paused clock connects to the server in memory:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let client = server.client_builder().connector(server.connector()).build()?;
    /// let held = client.semaphore("pool", 5)?.acquire().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client_builder(&self) -> ClientBuilder {
        self.shared.config.client_builder(self.addr)
    }

    /// Returns a connector to this server that uses no socket.
    pub fn connector(&self) -> MemoryConnector {
        let (incoming, control) = (self.incoming.clone(), Arc::clone(&self.shared.control));
        MemoryConnector { incoming, control }
    }

    /// Returns the fault injection of this server.
    pub fn faults(&self) -> Faults<'_> {
        Faults {
            shared: &self.shared,
        }
    }

    /// Shuts down gracefully: stops accepting, answers waiting and new acquires with
    /// `error_draining`, and still accepts releases.
    ///
    /// A connection that holds no slot is closed. The call returns when all connections are closed
    /// or after `shutdown_timeout`. A frozen server is unfrozen first.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call stops the server at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let addr = server.addr();
    /// server.shutdown().await;
    /// assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(mut self) {
        self.shared.control.shut_down();
        self.shared.registry.notify_all();
        let accept = &mut self.accept.0;
        let limit = self.shared.config.shutdown_timeout;
        // The result is ignored: a task that panicked or was aborted has ended, too.
        if limit.is_zero() {
            let _ = accept.await;
        } else if timeout(limit, &mut *accept).await.is_err() {
            accept.abort();
            let _ = accept.await;
        }
    }

    async fn bind(config: ServerConfig) -> Result<Self, ServerError> {
        config.validate()?;
        driver::require_timers().map_err(ServerError::Runtime)?;
        let address = || public_part(&config.bind).to_owned();
        let error = |source| ServerError::Bind {
            address: address(),
            source,
        };
        let addresses = Resolver::default()
            .resolve(&config.bind)
            .await
            .map_err(error)?;
        let listener = driver::catch_missing_driver(TcpListener::bind(&*addresses)).await;
        let listener = listener.map_err(ServerError::Runtime)?.map_err(error)?;
        let addr = listener.local_addr().map_err(error)?;
        Self::spawn(config, listener, addr)
    }

    fn in_memory(config: ServerConfig) -> Result<Self, ServerError> {
        driver::require_timers().map_err(ServerError::Runtime)?;
        // A client needs an address; nothing listens on this one.
        Self::spawn(config, NoListener, SocketAddr::from(([127, 0, 0, 1], 6388)))
    }

    fn spawn(
        config: ServerConfig,
        listener: impl Listener + 'static,
        addr: SocketAddr,
    ) -> Result<Self, ServerError> {
        let no_randomness = |source| ServerError::NoRandomness {
            source: Box::new(source),
        };
        let tokens = match config.seed {
            Some(seed) => TokenGenerator::seeded(seed),
            None => TokenGenerator::new().map_err(no_randomness)?,
        };
        let shared = Arc::new(Shared::new(config, tokens)?);
        let client = shared.config.client_builder(addr).build()?;
        let (sender, incoming) = mpsc::channel(BACKLOG);
        let serve = listener::serve(Arc::clone(&shared), listener, sender.clone(), incoming);
        let control = Arc::clone(&shared.control);
        let task = tokio::spawn(async move { control.pause_while_frozen(serve).await });
        Ok(Self {
            addr,
            client,
            shared,
            incoming: sender,
            accept: AcceptTask(task),
        })
    }
}

impl ServerConfig {
    /// Starts a server, which stops when the [`Server`] is dropped.
    ///
    /// # Errors
    ///
    /// [`ServerError`] when an option has a value that is not allowed, when the server cannot
    /// listen on the address, or when the operating system has no random numbers.
    /// [`ServerError::Runtime`] outside of a tokio runtime, and on one without timers or IO.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call starts nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::builder().max_waiters(100).build().start().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(self) -> Result<Server, ServerError> {
        Server::bind(self).await
    }

    /// Starts a server without a listener, for simulations. Clients connect with its
    /// [`connector`](Server::connector).
    #[doc(hidden)]
    pub fn start_in_memory(self) -> Result<Server, ServerError> {
        Server::in_memory(self)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addr", &self.addr)
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// Entry points of the fuzz harness.
#[cfg(any(test, fuzzing))]
impl Shared {
    /// Runs a session over `stream`, unless there are too many connections.
    pub(crate) async fn serve(self: Arc<Self>, stream: BoxStream) {
        if let Some((guard, _closed)) = self.registry.register() {
            session::Session::new(stream, guard, self).run().await;
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.registry.stats()
    }
}

/// Handle of the task that owns the listener and all sessions. Dropping it aborts the task.
struct AcceptTask(JoinHandle<()>);

impl Drop for AcceptTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Replacement for TLS in builds without it. It has no values.
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
mod tls {
    use std::io;

    use crate::client::ClientBuilder;
    use crate::engine::dflockd::BoxStream;

    #[derive(Clone, Debug)]
    pub(crate) enum ServerTls {}

    impl ServerTls {
        #[expect(
            clippy::unused_async,
            reason = "the signature is that of the build with TLS"
        )]
        pub(super) async fn accept(&self, _stream: BoxStream) -> io::Result<BoxStream> {
            match *self {}
        }

        pub(super) fn configure_client(&self, _builder: ClientBuilder) -> ClientBuilder {
            match *self {}
        }
    }
}
