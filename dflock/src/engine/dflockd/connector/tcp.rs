//! The default connector: TCP that notices when its peer is gone.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::iter;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{BoxStream, ConnectFuture, Connector};
use crate::clock::Clock;
use crate::engine::dflockd::resolver::Resolver;
use crate::mutex::Mutex;
use crate::telemetry;

/// The time that the IPv6 address of a name has before its IPv4 address is tried as well, as RFC 8305
/// recommends ("Connection Attempt Delay", section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// TCP without delay, with keepalive and with an end to unanswered data.
#[derive(Debug)]
pub(crate) struct Tcp {
    /// After this much silence the system asks whether the peer is still there.
    pub(crate) keepalive: Duration,
    /// Data that is unanswered for this long ends the connection (`TCP_USER_TIMEOUT`, where there is one).
    pub(crate) user_timeout: Duration,
    /// Time for one connection, the look-up of the name included.
    connect_timeout: Duration,
    resolver: Resolver,
    names: Mutex<HashMap<String, History>>,
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
        let (resolver, names) = (Resolver::default(), Mutex::default());
        Self {
            keepalive,
            user_timeout,
            connect_timeout,
            resolver,
            names,
        }
    }

    /// Connects to the IPv6 address of a name or to its IPv4 address.
    ///
    /// The two families lead to one server: it may listen on either (`localhost`). Two addresses of
    /// one family may be two servers, which would both grant a lock. So all clients use the lowest
    /// address of a family and never another one. A refused connection is no exception: a server
    /// that drains or restarts refuses connections while its clients still hold.
    async fn connect_to_name(&self, server: &str) -> io::Result<TcpStream> {
        let deadline = Instant::now() + self.connect_timeout;
        let addresses = Addresses::new(&self.resolver.resolve(server).await?)?;
        if addresses.unused > 0 && self.history(server, History::report_ambiguous) {
            let used: Vec<_> = addresses.used().collect();
            telemetry::warn_ambiguous_name(server, &used, addresses.unused);
        }
        let stream = addresses.connect(deadline).await?;
        // a peer that has closed the connection already may have no address
        if let Ok(to) = stream.peer_addr()
            && let Some(from) = self.history(server, |history| history.replace(to.ip()))
        {
            telemetry::warn_address_change(server, from, to.ip());
        }
        Ok(stream)
    }

    /// Updates what is known of a name.
    fn history<T>(&self, server: &str, update: impl FnOnce(&mut History) -> T) -> T {
        update(self.names.lock().entry(server.to_owned()).or_default())
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

/// The state of a name from the connections that were made to it.
#[derive(Debug, Default)]
struct History {
    /// Set once it was reported that it has several addresses of one family.
    is_reported: bool,
    /// The last addresses that were connected to.
    v6: Option<IpAddr>,
    v4: Option<IpAddr>,
}

impl History {
    /// Returns whether the name has not been reported before.
    fn report_ambiguous(&mut self) -> bool {
        !mem::replace(&mut self.is_reported, true)
    }

    /// Sets the last address of its family. Returns the one before it if that is another one.
    fn replace(&mut self, address: IpAddr) -> Option<IpAddr> {
        let last = match address {
            IpAddr::V6(_) => &mut self.v6,
            IpAddr::V4(_) => &mut self.v4,
        };
        last.replace(address).filter(|last| *last != address)
    }
}

/// The addresses of a name, in the order in which they are tried.
#[derive(Debug, PartialEq, Eq)]
struct Addresses {
    /// The lowest IPv6 address, or the lowest IPv4 address if there is none.
    first: SocketAddr,
    /// The lowest IPv4 address, if it is not the first.
    second: Option<SocketAddr>,
    /// The number of other addresses of the name.
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

    /// Connects to the first address and, when that has not answered for some time or has failed, to
    /// the second one as well. Returns the connection that is made first.
    ///
    /// The first address has until half of the time to `deadline` is over.
    async fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let Some(second) = self.second else {
            // the client ends this attempt when `connect_timeout` is over
            let connected = TcpStream::connect(self.first).await;
            return connected.map_err(|error| self.error(&[&error]));
        };
        let share = deadline.saturating_duration_since(Instant::now()) / 2;
        let first = async {
            match timeout(share, TcpStream::connect(self.first)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {share:?}"),
                )),
            }
        };
        let mut first = pin!(first);
        let failed = |first: &io::Error, second: &io::Error| self.error(&[first, second]);
        match timeout(share.min(HEAD_START), &mut first).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                let connected = TcpStream::connect(second).await;
                return connected.map_err(|second| failed(&error, &second));
            }
            Err(_) => {}
        }
        let mut second = pin!(TcpStream::connect(second));
        tokio::select! {
            biased;
            connected = &mut first => match connected {
                Ok(stream) => Ok(stream),
                Err(first) => second.await.map_err(|second| failed(&first, &second)),
            },
            connected = &mut second => match connected {
                Ok(stream) => Ok(stream),
                Err(second) => first.await.map_err(|first| failed(&first, &second)),
            },
        }
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
