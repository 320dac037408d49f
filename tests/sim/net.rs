//! In-memory network between the clients and the servers, with injected faults.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dflock::server::MemoryConnector;
use dflock::{BoxStream, Clock, ConnectFuture, Connector};
use tokio::time::{Instant, sleep};

use super::endpoint::{Endpoint, Side};
use super::link::Link;
use super::pipe::{Pipe, Segment};
use super::plan::SERVERS;
use super::rng::Rng;

pub(super) struct Net {
    state: Mutex<State>,
}

pub(super) struct State {
    rng: Rng,
    /// Current listener of each shard.
    servers: [Option<Listener>; SERVERS.len()],
    hosts: Vec<ClientHost>,
    pub(super) links: Vec<Link>,
}

/// A server that accepts connections.
#[derive(Clone)]
struct Listener {
    connector: MemoryConnector,
    number: usize,
    /// Number of its last connection.
    last: u64,
}

/// State of the network for one client.
struct ClientHost {
    up: RangeInclusive<u64>,
    down: RangeInclusive<u64>,
    /// Numbers of faults that hold back packets to the servers, packets from the servers, and the
    /// program.
    stalls: Stalls,
    busy: u32,
    /// Wakers of the tasks that wait for these faults to end.
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stalls {
    up: u32,
    down: u32,
}

impl Net {
    pub(super) fn new(
        seed: u64,
        hosts: impl Iterator<Item = (RangeInclusive<u64>, RangeInclusive<u64>)>,
    ) -> Arc<Self> {
        let host = |(up, down)| ClientHost {
            up,
            down,
            stalls: Stalls::default(),
            busy: 0,
            wakers: Vec::new(),
        };
        let state = State {
            rng: Rng::new(seed, 1),
            servers: Default::default(),
            hosts: hosts.map(host).collect(),
            links: Vec::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Sends new connections to `shard` to `server` from now on, or refuses them if it is `None`.
    pub(super) fn set_listener(&self, shard: usize, server: Option<(MemoryConnector, usize)>) {
        self.lock().servers[shard] = server.map(|(connector, number)| Listener {
            connector,
            number,
            last: 0,
        });
    }

    /// Returns the connector of a client.
    pub(super) fn connector(self: &Arc<Self>, host: usize, clock: Clock) -> impl Connector {
        SimConnector {
            net: Arc::clone(self),
            host,
            clock,
        }
    }

    /// Holds back the packets of a client.
    pub(super) fn stall(&self, host: usize, up: bool, down: bool) {
        let state = &mut *self.lock();
        state.hosts[host].stalls.up += u32::from(up);
        state.hosts[host].stalls.down += u32::from(down);
        let now = Instant::now();
        for link in state.links.iter_mut().filter(|link| link.host == host) {
            link.stall(now, up, down, false);
        }
    }

    pub(super) fn heal(&self, host: usize, up: bool, down: bool) {
        let state = &mut *self.lock();
        state.hosts[host].stalls.up -= u32::from(up);
        state.hosts[host].stalls.down -= u32::from(down);
        state.heal_where(up, down, |link| link.host == host);
        state.hosts[host].wake();
    }

    /// Holds back one open connection of a client, chosen by `random`. Returns its index.
    pub(super) fn stall_connection(
        &self,
        host: usize,
        random: usize,
        up: bool,
        down: bool,
    ) -> Option<usize> {
        let state = &mut *self.lock();
        let open: Vec<_> = state.open_links(host).collect();
        let found = *open.get(random.checked_rem(open.len())?)?;
        state.links[found].stall(Instant::now(), up, down, false);
        Some(found)
    }

    pub(super) fn heal_connection(&self, index: usize, up: bool, down: bool) {
        let state = &mut *self.lock();
        let mut each = 0..;
        state.heal_where(up, down, |_| each.next() == Some(index));
    }

    /// Suspends a client: its received packets are not read, and it sends nothing.
    pub(super) fn start_busy(&self, host: usize) {
        let state = &mut *self.lock();
        state.hosts[host].busy += 1;
        let now = Instant::now();
        for link in state.links.iter_mut().filter(|link| link.host == host) {
            link.up.stall(now, false);
            link.down.stall(now, true);
        }
    }

    pub(super) fn end_busy(&self, host: usize) {
        let state = &mut *self.lock();
        state.hosts[host].busy -= 1;
        state.heal_where(true, true, |link| link.host == host);
        state.hosts[host].wake();
    }

    /// Resets open connections of a client at both ends: the one chosen by `random`, or all.
    /// Returns whether there was one.
    pub(super) fn reset(&self, host: usize, random: Option<usize>) -> bool {
        let state = &mut *self.lock();
        let mut open: Vec<_> = state.open_links(host).collect();
        if let (Some(random), 1..) = (random, open.len()) {
            open = vec![open[random % open.len()]];
        }
        let now = Instant::now();
        for &link in &open {
            for side in [Side::Client, Side::Server] {
                state.send(link, side, Segment::Reset, now);
            }
        }
        !open.is_empty()
    }

    pub(super) fn poll_not_busy(&self, host: usize, cx: &mut Context<'_>) -> Poll<()> {
        let host = &mut self.lock().hosts[host];
        if host.busy == 0 {
            return Poll::Ready(());
        }
        host.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    /// Returns the number of connections that are not dropped at both ends.
    pub(super) fn open_connections(&self) -> usize {
        self.lock()
            .links
            .iter()
            .filter(|link| link.dropped_ends < 2)
            .count()
    }

    fn poll_reachable(&self, host: usize, cx: &mut Context<'_>) -> Poll<()> {
        let host = &mut self.lock().hosts[host];
        if host.busy == 0 && host.stalls.up == 0 && host.stalls.down == 0 {
            return Poll::Ready(());
        }
        host.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    async fn connect(self: &Arc<Self>, host: usize, server: &str) -> std::io::Result<BoxStream> {
        let Some(shard) = SERVERS.iter().position(|address| *address == server) else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let round_trip = {
            let state = &mut *self.lock();
            state.latency(host, Side::Client) + state.latency(host, Side::Server)
        };
        std::future::poll_fn(|cx| self.poll_reachable(host, cx)).await;
        sleep(round_trip).await;
        std::future::poll_fn(|cx| self.poll_reachable(host, cx)).await;
        let Some(listener) = self.lock().servers[shard].clone() else {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        };
        let link = self.lock().add(host);
        let client = Endpoint::new(self, link, Side::Client);
        listener
            .connector
            .accept_stream(Box::new(Endpoint::new(self, link, Side::Server)))
            .await?;
        let state = &mut *self.lock();
        if let Some(Listener { number, last, .. }) = &mut state.servers[shard] {
            // The server numbers its connections in the same order, starting at 1.
            *last += 1;
            state.links[link].peer = Some((*number, *last));
        }
        Ok(Box::new(client))
    }
}

impl State {
    pub(super) fn send(&mut self, link: usize, from: Side, segment: Segment, now: Instant) {
        let latency = self.latency(self.links[link].host, from);
        let splits =
            matches!(&segment, Segment::Bytes(bytes) if bytes.len() > 1) && self.rng.percent(10);
        match segment {
            Segment::Bytes(mut bytes) if splits => {
                let rest = bytes.split_off(1 + self.rng.index(bytes.len() - 1));
                let later = latency + self.rng.millis(0..=30);
                self.links[link]
                    .pipe_from(from)
                    .push(Segment::Bytes(bytes), now, latency);
                self.links[link]
                    .pipe_from(from)
                    .push(Segment::Bytes(rest), now, later);
            }
            segment => self.links[link].pipe_from(from).push(segment, now, latency),
        }
    }

    fn latency(&mut self, host: usize, from: Side) -> Duration {
        let range = match from {
            Side::Client => self.hosts[host].up.clone(),
            Side::Server => self.hosts[host].down.clone(),
        };
        self.rng.millis(range)
    }

    fn add(&mut self, host: usize) -> usize {
        let ClientHost { stalls, busy, .. } = self.hosts[host];
        let (up, down) = (
            Pipe::stalled(stalls.up + busy),
            Pipe::stalled(stalls.down + busy),
        );
        self.links.push(Link {
            host,
            up,
            down,
            peer: None,
            closed_by_client: None,
            closed_by_server: None,
            dropped_ends: 0,
        });
        self.links.len() - 1
    }

    fn open_links(&self, host: usize) -> impl Iterator<Item = usize> {
        self.links
            .iter()
            .enumerate()
            .filter(move |(_, link)| link.host == host && link.dropped_ends == 0)
            .map(|(index, _)| index)
    }

    fn heal_where(&mut self, up: bool, down: bool, mut which: impl FnMut(&Link) -> bool) {
        let now = Instant::now();
        for index in 0..self.links.len() {
            if !which(&self.links[index]) {
                continue;
            }
            let host = self.links[index].host;
            for (heals, side) in [(up, Side::Client), (down, Side::Server)] {
                if heals {
                    let latency = self.latency(host, side);
                    self.links[index].pipe_from(side).heal(now, latency);
                }
            }
        }
    }
}

impl ClientHost {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Connector of one client.
struct SimConnector {
    net: Arc<Net>,
    host: usize,
    clock: Clock,
}

impl Connector for SimConnector {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        Box::pin(self.net.connect(self.host, server))
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }
}
