//! How a byte stream to a server is made.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock::Clock;

/// A byte stream to a server.
pub type BoxStream = Box<dyn Stream>;

/// What [`Connector::connect`] gives back.
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = io::Result<BoxStream>> + Send + 'a>>;

/// Anything that bytes can be read from and written to; implemented for every type that qualifies.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// Makes byte streams to servers: TCP unless a client is told otherwise.
///
/// Unix sockets, proxies and simulated networks plug in here, with
/// [`ClientBuilder::connector`](crate::ClientBuilder::connector).
///
/// # Examples
///
/// ```
/// use dflock::{BoxStream, Clock, ConnectFuture, Connector};
///
/// /// Every server is reached through one Unix socket.
/// struct Unix(std::path::PathBuf);
///
/// impl Connector for Unix {
///     fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
///         Box::pin(async { Ok(Box::new(tokio::net::UnixStream::connect(&self.0).await?) as BoxStream) })
///     }
///
///     fn clock(&self) -> Clock {
///         Clock::Boottime
///     }
/// }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// Makes a new stream to `server`, which is `host:port` as it was configured.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being made; the client's error carries it as its source.
    ///
    /// # Cancel safety
    ///
    /// The client limits the time that this may take (`connect_timeout`) and drops the future when it is over, which must close what
    /// it has opened.
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a>;

    /// The clock that deadlines of leases are counted on.
    fn clock(&self) -> Clock;
}

impl<C: Connector + ?Sized> Connector for Arc<C> {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        (**self).connect(server)
    }

    fn clock(&self) -> Clock {
        (**self).clock()
    }
}

impl<C: Connector + ?Sized> Connector for Box<C> {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        (**self).connect(server)
    }

    fn clock(&self) -> Clock {
        (**self).clock()
    }
}
