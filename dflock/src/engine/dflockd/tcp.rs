//! The default connector: TCP that notices when its peer is gone.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::resolver::Resolver;
use super::{BoxStream, ConnectFuture, Connector};
use crate::clock::Clock;
use crate::mutex::Mutex;
use crate::telemetry;

/// TCP without delay, with keepalive and with an end to unanswered data.
#[derive(Debug)]
pub(crate) struct Tcp {
    /// After this much silence the system asks whether the peer is still there.
    pub(crate) keepalive: Duration,
    /// Data that is unanswered for this long ends the connection (`TCP_USER_TIMEOUT`, where there is one).
    pub(crate) user_timeout: Duration,
    /// Time for one connection, which the addresses of a name share.
    connect_timeout: Duration,
    resolver: Resolver,
    /// The servers whose names were reported as ambiguous.
    reported: Mutex<HashSet<String>>,
}

impl Connector for Tcp {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async move {
            let stream = match server.parse::<SocketAddr>() {
                Ok(address) => TcpStream::connect(address).await?,
                Err(_) => self.connect_to_name(server).await?,
            };
            self.tune(&stream)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Boottime
    }
}

impl Tcp {
    /// Returns a connector with the system's resolver.
    pub(crate) fn new(
        keepalive: Duration,
        user_timeout: Duration,
        connect_timeout: Duration,
    ) -> Self {
        let (resolver, reported) = (Resolver::default(), Mutex::default());
        Self {
            keepalive,
            user_timeout,
            connect_timeout,
            resolver,
            reported,
        }
    }

    /// Connects to the IPv6 address of a name, and to its IPv4 address when that fails.
    ///
    /// The two families lead to one server: it may listen on either (`localhost`). Two addresses of
    /// one family may be two servers, which would both grant a lock. So all clients use the lowest
    /// address of a family and never another one. A refused connection is no exception: a server
    /// that drains or restarts refuses connections while its clients still hold.
    async fn connect_to_name(&self, server: &str) -> io::Result<TcpStream> {
        let deadline = Instant::now() + self.connect_timeout;
        let addresses = Addresses::new(&self.resolver.resolve(server).await?)?;
        if addresses.unused > 0 && self.reported.lock().insert(server.to_owned()) {
            let used: Vec<_> = addresses.used().collect();
            telemetry::ambiguous_name(server, &used, addresses.unused);
        }
        let Some(second) = addresses.second else {
            // the client ends this attempt when `connect_timeout` is over
            let connected = TcpStream::connect(addresses.first).await;
            return connected.map_err(|error| addresses.error(&[&error]));
        };
        // an address that swallows what is sent to it must leave time for the other one
        let share = deadline.saturating_duration_since(Instant::now()) / 2;
        let first = match timeout(share, TcpStream::connect(addresses.first)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {share:?}"),
            ),
        };
        let connected = TcpStream::connect(second).await;
        connected.map_err(|error| addresses.error(&[&first, &error]))
    }

    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        // the system counts both in whole seconds
        const SECOND: Duration = Duration::from_secs(1);
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let probes = TcpKeepalive::new()
            .with_time(self.keepalive.max(SECOND))
            .with_interval((self.user_timeout / 3).max(SECOND));
        socket.set_tcp_keepalive(&probes)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        Ok(())
    }
}

/// The addresses of a name, in the order in which they are tried.
#[derive(Debug, PartialEq, Eq)]
struct Addresses {
    /// The lowest IPv6 address, or the lowest IPv4 address if there is none.
    first: SocketAddr,
    /// The lowest IPv4 address, if it is not the first.
    second: Option<SocketAddr>,
    /// How many others the name has.
    unused: usize,
}

impl Addresses {
    fn new(found: &[SocketAddr]) -> io::Result<Self> {
        let found: BTreeSet<_> = found.iter().copied().collect();
        let v6 = found.iter().find(|address| address.is_ipv6());
        let v4 = found.iter().find(|address| address.is_ipv4());
        let (first, second) = match (v6, v4) {
            (Some(v6), v4) => (*v6, v4.copied()),
            (None, Some(v4)) => (*v4, None),
            (None, None) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the name has no address",
                ));
            }
        };
        let used = 1 + usize::from(second.is_some());
        Ok(Self {
            first,
            second,
            unused: found.len() - used,
        })
    }

    fn used(&self) -> impl Iterator<Item = SocketAddr> {
        iter::once(self.first).chain(self.second)
    }

    /// Returns the error of a name whose addresses failed with `errors`, in their order.
    fn error(&self, errors: &[&io::Error]) -> io::Error {
        let mut failures: Vec<_> = self
            .used()
            .zip(errors)
            .map(|(address, error)| format!("{address}: {error}"))
            .collect();
        if self.unused > 0 {
            let unused = self.unused;
            failures.push(format!(
                "not tried, as they may be other servers: {unused} more"
            ));
        }
        let kind = errors
            .last()
            .map_or(io::ErrorKind::Other, |error| error.kind());
        io::Error::new(kind, failures.join("; "))
    }
}

#[cfg(test)]
mod tests;
