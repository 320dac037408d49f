//! The network between the members of a cluster, from which a member can be cut off.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A member, and its id in the requests that it sends to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) index: usize,
    /// In hexadecimal digits.
    pub(super) id: String,
}

/// A proxy before the port of each member on which the others reach it.
#[derive(Debug)]
pub(super) struct PeerNetwork {
    peers: Vec<(SocketAddr, SocketAddr)>,
    isolated: watch::Sender<Option<Member>>,
    accepts: Vec<JoinHandle<()>>,
}

impl PeerNetwork {
    /// Starts the proxies of `size` members, for which it chooses free ports.
    pub(super) async fn start(size: usize) -> io::Result<Self> {
        let mut network = Self {
            peers: Vec::new(),
            isolated: watch::Sender::new(None),
            accepts: Vec::new(),
        };
        let mut targets = Vec::new();
        for index in 0..size {
            let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            // Kept until all ports are chosen, so that they differ.
            let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = target.local_addr()?;
            network.peers.push((address, proxy.local_addr()?));
            targets.push(target);
            let isolated = network.isolated.subscribe();
            let accept = accept_loop(proxy, index, address, isolated);
            network.accepts.push(tokio::spawn(accept));
        }
        Ok(network)
    }

    /// Returns the address at which each member listens, and the one that it advertises.
    pub(super) fn peers(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.peers.clone()
    }

    /// Holds back all bytes between a member and the others. Clients still reach all members.
    pub(super) fn isolate(&self, member: Member) {
        self.isolated.send_replace(Some(member));
    }

    /// Forwards what was held back, and everything from now on.
    pub(super) fn heal(&self) {
        self.isolated.send_replace(None);
    }
}

impl Drop for PeerNetwork {
    fn drop(&mut self) {
        self.accepts.iter().for_each(JoinHandle::abort);
    }
}

async fn accept_loop(
    listener: TcpListener,
    index: usize,
    target: SocketAddr,
    isolated: watch::Receiver<Option<Member>>,
) {
    while let Ok((incoming, _)) = listener.accept().await {
        tokio::spawn(forward(incoming, index, target, isolated.clone()));
    }
}

/// Forwards a connection to the member `index`. The sender of its first request is that of all.
async fn forward(
    mut incoming: TcpStream,
    index: usize,
    target: SocketAddr,
    isolated: watch::Receiver<Option<Member>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if incoming.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let sender = sender(&head);
    let is_open = |isolated: &Option<Member>| {
        isolated
            .as_ref()
            .is_none_or(|member| member.index != index && Some(&member.id) != sender.as_ref())
    };
    let mut outgoing = TcpStream::connect(target).await?;
    let (up, down) = (isolated.clone(), isolated);
    let (from_client, to_client) = incoming.split();
    let (from_member, to_member) = outgoing.split();
    tokio::try_join!(
        copy(head, from_client, to_member, up, &is_open),
        copy(Vec::new(), from_member, to_client, down, &is_open),
    )?;
    Ok(())
}

/// Forwards `bytes` and what follows them, while `is_open`.
async fn copy(
    mut bytes: Vec<u8>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut isolated: watch::Receiver<Option<Member>>,
    is_open: &impl Fn(&Option<Member>) -> bool,
) -> io::Result<()> {
    loop {
        // An error says that the network is gone, and everything is over.
        if isolated.wait_for(is_open).await.is_err() {
            return Ok(());
        }
        to.write_all(&bytes).await?;
        bytes.clear();
        if from.read_buf(&mut bytes).await? == 0 {
            return to.shutdown().await;
        }
    }
}

/// Returns the id of the member that sent a request.
fn sender(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head).to_lowercase();
    let sender = head
        .lines()
        .find_map(|line| line.strip_prefix("x-server-from:"));
    sender.map(|id| id.trim().to_owned())
}
