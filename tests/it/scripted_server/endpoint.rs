//! Transport between the client and the scripted server: TCP or memory.

use std::io;
use std::time::Duration;

use dflock::{BoxStream, Client, ClientBuilder, Clock, ConnectFuture, Connector};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Address of the server, for the client.
pub(super) enum Target {
    Tcp(String),
    Memory(MemoryConnector),
}

/// Source of new connections, for the server.
pub(super) enum Listener {
    Tcp(TcpListener),
    Memory(mpsc::UnboundedReceiver<DuplexStream>),
}

/// Connector that connects through memory, on tokio's clock.
#[derive(Clone, Debug)]
pub(super) struct MemoryConnector {
    connections: mpsc::UnboundedSender<DuplexStream>,
    /// Bytes buffered in each direction.
    capacity: usize,
}

impl Target {
    pub(super) fn tcp(listener: TcpListener) -> (Self, Listener) {
        (
            Self::Tcp(listener.local_addr().unwrap().to_string()),
            Listener::Tcp(listener),
        )
    }

    pub(super) fn memory(capacity: usize) -> (Self, Listener) {
        let (connections, accepted) = mpsc::unbounded_channel();
        let connector = MemoryConnector {
            connections,
            capacity,
        };
        (Self::Memory(connector), Listener::Memory(accepted))
    }

    pub(super) fn address(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Memory(_) => "memory:1",
        }
    }

    /// Returns a connector that reaches the server through memory.
    pub(super) fn connector(&self) -> Box<dyn Connector> {
        match self {
            Self::Tcp(_) => panic!("this server is not in memory"),
            Self::Memory(memory) => Box::new(memory.clone()),
        }
    }

    pub(super) fn builder(&self) -> ClientBuilder {
        let builder = Client::builder().servers([self.address()]);
        match self {
            Self::Tcp(_) => builder,
            Self::Memory(memory) => builder.connector(memory.clone()),
        }
    }
}

impl Listener {
    pub(super) async fn accept(&mut self) -> Box<dyn Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Memory(accepted) => match accepted.recv().await {
                Some(stream) => Box::new(stream),
                // Every client has been dropped, so no further connection can arrive.
                None => std::future::pending().await,
            },
        }
    }
}

impl Connector for MemoryConnector {
    fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async {
            let (local, remote) = duplex(self.capacity);
            self.connections
                .send(remote)
                .map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(local) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

/// The server's end of one connection.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {
    /// Closes the connection with a reset instead of an orderly shutdown.
    fn reset(self: Box<Self>);
}

impl Socket for TcpStream {
    fn reset(self: Box<Self>) {
        SockRef::from(&*self)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

impl Socket for DuplexStream {
    fn reset(self: Box<Self>) {
        panic!("an in-memory connection has no reset");
    }
}
