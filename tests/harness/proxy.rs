//! TCP proxy that injects network faults.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Shaping of the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Shaping {
    #[default]
    /// Bytes are forwarded immediately.
    Immediate,
    /// Bytes are held back until the shaping changes.
    Stalled,
    /// Bytes are forwarded after this delay.
    Delayed(Duration),
    /// Each byte is sent in a separate segment.
    Trickled,
}

/// Ways to end connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disconnect {
    /// Both sides receive a FIN.
    Closed,
    /// Both sides receive a RST.
    Reset,
    /// The client receives a FIN; the server receives nothing until the network recovers.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, Default)]
struct NetworkState {
    up: Shaping,
    down: Shaping,
    disconnects: u64,
    last_disconnect: Option<Disconnect>,
}

/// A proxy. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    network: watch::Sender<NetworkState>,
    accept_task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy that forwards each connection to the current address of the server.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system, such as a lack of free ports.
    pub async fn start(server: watch::Receiver<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let network = watch::Sender::new(NetworkState::default());
        let accept_task = tokio::spawn(accept_loop(listener, server, network.subscribe()));
        Ok(Self {
            addr,
            network,
            accept_task,
        })
    }

    /// Returns the address on which the proxy listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the shaping from now on: `up` to the server, `down` to the client.
    pub fn shape(&self, up: Shaping, down: Shaping) {
        self.network
            .send_modify(|network| (network.up, network.down) = (up, down));
    }

    /// Ends all connections.
    pub fn disconnect(&self, kind: Disconnect) {
        self.network.send_modify(|network| {
            network.disconnects += 1;
            network.last_disconnect = Some(kind);
        });
    }

    /// Removes the shaping.
    pub fn heal(&self) {
        self.shape(Shaping::Immediate, Shaping::Immediate);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept_task.abort();
    }
}

async fn accept_loop(
    listener: TcpListener,
    server: watch::Receiver<SocketAddr>,
    network: watch::Receiver<NetworkState>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                let addr = *server.borrow();
                connections.spawn(forward(client, addr, network.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(
    mut client: TcpStream,
    addr: SocketAddr,
    mut network: watch::Receiver<NetworkState>,
) {
    let before = network.borrow_and_update().disconnects;
    // If the server is down, the client's connection is closed, as the server's system would do.
    let Ok(mut server) = TcpStream::connect(addr).await else {
        return;
    };
    for stream in [&client, &server] {
        if stream.set_nodelay(true).is_err() {
            return;
        }
    }
    let kind = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = pump(from_client, to_server, network.clone(), |network| {
            network.up
        });
        let down = pump(from_server, to_client, network.clone(), |network| {
            network.down
        });
        tokio::select! {
            _ = async { tokio::try_join!(up, down) } => return,
            changed = network.wait_for(|network| network.disconnects != before) => match changed {
                Ok(network) => network.last_disconnect,
                Err(_) => return,
            },
        }
    };
    match kind {
        Some(Disconnect::Reset) => {
            for stream in [&client, &server] {
                // A socket that is already closed needs no reset.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
        Some(Disconnect::HalfOpen) => {
            drop(client);
            let _ = network.changed().await;
        }
        Some(Disconnect::Closed) | None => {}
    }
}

/// Forwards bytes, and the end of the stream, in one direction.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut network: watch::Receiver<NetworkState>,
    shaping: fn(&NetworkState) -> Shaping,
) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let count = from.read(&mut bytes).await?;
        let current = match network
            .wait_for(|network| shaping(network) != Shaping::Stalled)
            .await
        {
            Ok(network) => shaping(&network),
            Err(_) => return Ok(()),
        };
        if let Shaping::Delayed(delay) = current {
            sleep(delay).await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        if current == Shaping::Trickled {
            for byte in &bytes[..count] {
                to.write_all(std::slice::from_ref(byte)).await?;
                sleep(Duration::from_millis(1)).await;
            }
        } else {
            to.write_all(&bytes[..count]).await?;
        }
    }
}
