//! How a client comes to the peer: by TCP, or through memory.

use std::io;
use std::time::Duration;

use dflock::{BoxStream, Client, ClientBuilder, Clock, ConnectFuture, Connector};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The client's side.
pub(super) enum Entrance {
    Tcp(String),
    Memory(Memory),
}

/// The peer's side.
pub(super) enum Door {
    Tcp(TcpListener),
    Memory(mpsc::UnboundedReceiver<DuplexStream>),
}

/// Connects through memory, on tokio's clock.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    door: mpsc::UnboundedSender<DuplexStream>,
    /// How many bytes are under way at most.
    room: usize,
}

impl Entrance {
    pub(super) fn on(listener: TcpListener) -> (Self, Door) {
        (
            Self::Tcp(listener.local_addr().unwrap().to_string()),
            Door::Tcp(listener),
        )
    }

    pub(super) fn memory(room: usize) -> (Self, Door) {
        let (door, inside) = mpsc::unbounded_channel();
        (Self::Memory(Memory { door, room }), Door::Memory(inside))
    }

    pub(super) fn address(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Memory(_) => "memory:1",
        }
    }

    /// Connects to the peer through memory.
    pub(super) fn connector(&self) -> Box<dyn Connector> {
        match self {
            Self::Tcp(_) => panic!("it is not in memory"),
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

impl Door {
    pub(super) async fn open(&mut self) -> Box<dyn Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Memory(inside) => match inside.recv().await {
                Some(stream) => Box::new(stream),
                // every client is gone
                None => std::future::pending().await,
            },
        }
    }
}

impl Connector for Memory {
    fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async {
            let (ours, theirs) = duplex(self.room);
            self.door
                .send(theirs)
                .map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(ours) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

/// One connection, on the peer's side.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ends it with a reset instead of in order.
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
        panic!("memory has no reset");
    }
}
