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
pub enum Flow {
    #[default]
    /// Bytes are forwarded immediately.
    Clear,
    /// Bytes are held back until the shaping changes.
    Stalled,
    /// Bytes are forwarded after this delay.
    Delayed(Duration),
    /// Each byte is sent in a segment of its own.
    Trickled,
}

/// Ways to end connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// Both sides receive a FIN.
    Closed,
    /// Both sides receive a RST.
    Reset,
    /// The client receives a FIN; the server receives nothing until the network recovers.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    up: Flow,
    down: Flow,
    cuts: u64,
    last_cut: Option<Cut>,
}

/// A proxy. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    listening: JoinHandle<()>,
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
        let weather = watch::Sender::new(Weather::default());
        let listening = tokio::spawn(listen(listener, server, weather.subscribe()));
        Ok(Self {
            addr,
            weather,
            listening,
        })
    }

    /// Returns the address on which the proxy listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the shaping from now on: `up` to the server, `down` to the client.
    pub fn set(&self, up: Flow, down: Flow) {
        self.weather
            .send_modify(|weather| (weather.up, weather.down) = (up, down));
    }

    /// Ends all connections.
    pub fn cut(&self, how: Cut) {
        self.weather.send_modify(|weather| {
            weather.cuts += 1;
            weather.last_cut = Some(how);
        });
    }

    /// Removes the shaping.
    pub fn heal(&self) {
        self.set(Flow::Clear, Flow::Clear);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(
    listener: TcpListener,
    server: watch::Receiver<SocketAddr>,
    weather: watch::Receiver<Weather>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                let addr = *server.borrow();
                connections.spawn(connection(client, addr, weather.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    mut client: TcpStream,
    addr: SocketAddr,
    mut weather: watch::Receiver<Weather>,
) {
    let before = weather.borrow_and_update().cuts;
    // If the server is down, the client's connection is closed, as the server's system would do.
    let Ok(mut server) = TcpStream::connect(addr).await else {
        return;
    };
    for stream in [&client, &server] {
        if stream.set_nodelay(true).is_err() {
            return;
        }
    }
    let how = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = pump(from_client, to_server, weather.clone(), |weather| {
            weather.up
        });
        let down = pump(from_server, to_client, weather.clone(), |weather| {
            weather.down
        });
        tokio::select! {
            _ = async { tokio::try_join!(up, down) } => return,
            cut = weather.wait_for(|weather| weather.cuts != before) => match cut {
                Ok(weather) => weather.last_cut,
                Err(_) => return,
            },
        }
    };
    match how {
        Some(Cut::Reset) => {
            for stream in [&client, &server] {
                // A socket that is already closed needs no reset.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
        Some(Cut::HalfOpen) => {
            drop(client);
            let _ = weather.changed().await;
        }
        Some(Cut::Closed) | None => {}
    }
}

/// Forwards bytes, and the end of the stream, in one direction.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    flow: fn(&Weather) -> Flow,
) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let count = from.read(&mut bytes).await?;
        let now = match weather
            .wait_for(|weather| flow(weather) != Flow::Stalled)
            .await
        {
            Ok(weather) => flow(&weather),
            Err(_) => return Ok(()),
        };
        if let Flow::Delayed(delay) = now {
            sleep(delay).await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        if now == Flow::Trickled {
            for byte in &bytes[..count] {
                to.write_all(std::slice::from_ref(byte)).await?;
                sleep(Duration::from_millis(1)).await;
            }
        } else {
            to.write_all(&bytes[..count]).await?;
        }
    }
}
