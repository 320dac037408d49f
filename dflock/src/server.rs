//! A dflockd-compatible server in the same process, for tests, examples and one-machine use.
//!
//! It speaks the whole protocol: locks and semaphores under separate names, two-phase acquires, `ping`, `stats`, fencing tokens.
//! Each behaviour of the real server that a client can hear is the same, but for the bugs.
//!
//! Older servers differ: before v1.14 a lock and a semaphore of one key share it, as
//! [`Lock`](crate::Lock#locks-and-semaphores-of-one-key) says, which no test on this server shows.

mod client;
mod condition;
mod config;
mod connector;
mod desk;
mod draining;
mod error;
mod faults;
mod observer;
mod peer;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod pinned;
mod reception;
mod session;
mod table;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod tls;
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
#[path = "server/no_tls.rs"]
mod tls;
#[cfg(any(test, fuzzing))]
mod visitors;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::Client;
use crate::error::public_part;
use crate::stats::Stats;
use crate::transport::{BoxStream, Resolver, driver};
use crate::wire::LeaseSeconds;
use condition::Condition;
pub use config::{ServerBuilder, ServerConfig};
pub use connector::MemoryConnector;
use desk::Desk;
use draining::Draining;
pub use error::ServerError;
pub use faults::Faults;
#[doc(hidden)]
pub use observer::{Ending, Event};
use reception::{Listen, Nowhere};
#[cfg(dflock_bench)]
#[doc(hidden)]
pub use table::cycle::Cycle;
#[cfg(any(test, fuzzing))]
pub(crate) use table::model;
use table::{Mint, Table};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use tls::ServerTls;
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
use tls::ServerTls;
#[cfg(any(test, fuzzing))]
pub(crate) use visitors::visit;

/// How many connections may wait to be let in, as in a socket's backlog.
const BACKLOG: usize = 128;

/// A server that runs. Dropping it stops it at once: it listens no longer, and all connections are closed.
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
    arrivals: mpsc::Sender<BoxStream>,
    reception: Reception,
}

/// What all tasks of a server share.
#[derive(Debug)]
struct Shared {
    config: ServerConfig,
    default_lease: LeaseSeconds,
    desk: Arc<Desk>,
    draining: Draining,
    condition: Arc<Condition>,
}

impl Server {
    /// Starts a server with the default options, on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// [`ServerError`] when there is no free port, or when the system has no random numbers.
    /// [`ServerError::Runtime`] outside of a tokio runtime, and on one without timers or IO.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, nothing was started.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// println!("listens on {}", server.addr());
    /// # Ok(()) }
    /// ```
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().build().start().await
    }

    /// Options to start a server with.
    pub fn builder() -> ServerBuilder {
        ServerConfig::builder()
    }

    /// Where it listens, with the port that it was given.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Who holds what at this moment, by key.
    pub fn stats(&self) -> Stats {
        self.shared.desk.stats()
    }

    /// Connects to this server without a socket.
    pub fn connector(&self) -> MemoryConnector {
        MemoryConnector { arrivals: self.arrivals.clone(), condition: Arc::clone(&self.shared.condition) }
    }

    /// Makes it misbehave.
    pub fn faults(&self) -> Faults<'_> {
        Faults { shared: &self.shared }
    }

    /// Stops in good order: no new connections; who waits in line is answered `error_draining`, and so is who wants a slot; who has
    /// slots can still release them. A connection without slots is closed, and when all are, or `shutdown_timeout` is over, the
    /// server is gone. A frozen server is thawed first.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the server stops at once.
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
        self.faults().thaw();
        self.shared.draining.begin();
        self.shared.desk.ring_all();
        let last = &mut self.reception.0;
        let patience = self.shared.config.shutdown_timeout;
        // however the last connection ends, nothing is left to do but to drop the rest
        if patience.is_zero() {
            let _ = last.await;
        } else if timeout(patience, &mut *last).await.is_err() {
            last.abort();
            let _ = last.await;
        }
    }

    async fn with(config: ServerConfig) -> Result<Self, ServerError> {
        config.validated()?;
        driver::require_timers().map_err(ServerError::Runtime)?;
        let bind = |source| ServerError::Bind { address: public_part(&config.bind).to_owned(), source };
        let addresses = Resolver::default().resolve(&config.bind).await.map_err(bind)?;
        let listener = driver::catch_missing(TcpListener::bind(&*addresses)).await;
        let listener = listener.map_err(ServerError::Runtime)?.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        Self::open(config, listener, addr)
    }

    fn in_memory(config: ServerConfig) -> Result<Self, ServerError> {
        driver::require_timers().map_err(ServerError::Runtime)?;
        // an address that a client can be built with; nobody listens on it
        Self::open(config, Nowhere, SocketAddr::from(([127, 0, 0, 1], 6388)))
    }

    fn open(config: ServerConfig, listener: impl Listen + 'static, addr: SocketAddr) -> Result<Self, ServerError> {
        let default_lease = config.validated()?;
        let mint = match config.seed {
            Some(seed) => Mint::seeded(seed),
            None => Mint::new().map_err(|source| ServerError::NoRandomness { source: source.into() })?,
        };
        let client = client::client_of(addr, &config).build()?;
        let desk = Desk::new(Table::new(config.rules(), mint).observed(config.observer.clone()), config.max_connections);
        let (draining, condition) = (Draining::default(), Arc::<Condition>::default());
        let shared = Arc::new(Shared { config, default_lease, desk, draining, condition });
        let (arrivals, arrived) = mpsc::channel(BACKLOG);
        let serve = reception::serve(Arc::clone(&shared), listener, arrivals.clone(), arrived);
        let condition = Arc::clone(&shared.condition);
        let reception = Reception(tokio::spawn(async move { condition.unless_frozen(serve).await }));
        Ok(Self { addr, client, shared, arrivals, reception })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr).field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// The task that owns the listener and every session.
struct Reception(JoinHandle<()>);

impl Drop for Reception {
    fn drop(&mut self) {
        self.0.abort();
    }
}
