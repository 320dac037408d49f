//! The interface that opens byte streams to servers.

mod tcp;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock::Clock;

pub(crate) use tcp::Tcp;

/// A byte stream to a server.
pub type BoxStream = Box<dyn Stream>;

/// Future of [`Connector::connect`].
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = io::Result<BoxStream>> + Send + 'a>>;

/// A type that implements [`AsyncRead`], [`AsyncWrite`], [`Send`] and [`Unpin`]. It is implemented
/// for all such types.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// Opens byte streams to servers. The default is TCP.
///
/// Unix sockets, proxies and simulated networks implement it; see
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
///         Box::pin(async {
///             let stream = tokio::net::UnixStream::connect(&self.0).await?;
///             Ok(Box::new(stream) as BoxStream)
///         })
///     }
///
///     fn clock(&self) -> Clock {
///         Clock::Boottime
///     }
/// }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// Opens a new stream to `server`, which is `host:port` as configured.
    ///
    /// # Errors
    ///
    /// Any error that prevents the stream. The client's error has it as its source.
    ///
    /// # Cancel safety
    ///
    /// The client drops the future after `connect_timeout`. The future must then close what it has
    /// opened.
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a>;

    /// Returns the clock that measures the leases.
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
