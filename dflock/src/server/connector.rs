//! Connections that need no network.

use std::io;
use std::sync::Arc;

use tokio::io::duplex;
use tokio::sync::mpsc;

use super::condition::Condition;
use crate::transport::{BoxStream, Clock, Connecting, Connector};

/// What a socket takes before its reader reads.
const PIPE: usize = 64 * 1024;

/// Connects to a [`Server`](super::Server) in the same process, without a socket. From [`Server::connector`](super::Server::connector).
///
/// Whatever server it is asked for, it connects to its own; one with TLS speaks it here, too. Its clock is Tokio's, so it works when a test has paused the time;
/// then client and server belong on one current-thread runtime. It does not keep the server alive.
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
    pub(super) arrivals: mpsc::Sender<BoxStream>,
    pub(super) condition: Arc<Condition>,
}

impl MemoryConnector {
    /// Connects the client at the other end of `stream`: for simulated networks.
    #[doc(hidden)]
    pub async fn admit(&self, stream: BoxStream) -> io::Result<()> {
        if self.condition.is_refusing() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        // an error says that nobody listens any more
        self.arrivals.send(stream).await.map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}

impl Connector for MemoryConnector {
    fn connect<'a>(&'a self, _server: &'a str) -> Connecting<'a> {
        Box::pin(async {
            let (ours, theirs) = duplex(PIPE);
            self.admit(Box::new(theirs)).await?;
            Ok(Box::new(ours) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}
