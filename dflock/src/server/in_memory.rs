//! In-memory connections to the server.

use std::io;
use std::sync::Arc;

use tokio::io::duplex;
use tokio::sync::mpsc;

use super::control::Control;
use crate::clock::Clock;
use crate::engine::dflockd::{BoxStream, ConnectFuture, Connector};

/// Capacity in bytes of each direction of an in-memory connection.
const DUPLEX_CAPACITY: usize = 64 * 1024;

/// Connector to a [`Server`](super::Server) in the same process, without a socket. Returned by
/// [`Server::connector`](super::Server::connector).
///
/// It connects to its own server, whatever address it is given. A server with TLS uses TLS here,
/// too. Its clock is that of tokio, so that a test can pause the time; client and server then have
/// to run on one current-thread runtime. A connector does not keep the server running.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dflock::Connector;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let server = dflock::server::Server::start().await?;
/// let mut stream = server.connector().connect("anything").await?;
/// stream.write_all(b"ping\n_\n_\n").await?;
/// let mut reply = [0; 3];
/// stream.read_exact(&mut reply).await?;
/// assert_eq!(&reply, b"ok\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MemoryConnector {
    pub(super) incoming: mpsc::Sender<BoxStream>,
    pub(super) control: Arc<Control>,
}

impl MemoryConnector {
    /// Accepts `stream` as a new connection of the server, for simulated networks.
    #[doc(hidden)]
    pub async fn accept_stream(&self, stream: BoxStream) -> io::Result<()> {
        if self.control.refuses_connections() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        // An error means that the server has stopped.
        self.incoming
            .send(stream)
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}

impl Connector for MemoryConnector {
    fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async {
            let (client, server) = duplex(DUPLEX_CAPACITY);
            self.accept_stream(Box::new(server)).await?;
            Ok(Box::new(client) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}
