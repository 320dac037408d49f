//! Client processes, and their faults. Each client reaches each member through a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::now;
use dflock_tests::harness::proxy::{Disconnect, Proxy, Shaping};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::sleep;

use super::record::SharedRecord;
use crate::event::Stall;
use crate::fault::{Fault, FaultKind};
use crate::fault_target::Client;

/// Pause between two faults.
const PAUSE: Duration = Duration::from_secs(2);

/// Durations of a fault, in milliseconds: shorter than the interval of renewals, and longer than any
/// lease.
const LENGTHS: [std::ops::Range<u64>; 2] = [200..2500, 15_500..18_000];

/// Delay of the bytes in each direction. Two of them are shorter than an attempt of a request.
const DELAY: Duration = Duration::from_millis(200);

/// The faults that affect a client.
pub(crate) const CLIENT_FAULTS: [FaultKind; 7] = [
    FaultKind::ClientStopped,
    FaultKind::ClientKilled,
    FaultKind::ClientBusy,
    FaultKind::CutOff,
    FaultKind::PartlyCutOff,
    FaultKind::Reset,
    FaultKind::Slowed,
];

/// Number of clients of which one is affected at a time.
const GROUP: usize = 2;

/// Client processes, of which at most one is affected at a time.
pub(crate) struct ClientGroup {
    clients: Vec<ClientTarget>,
    rng: StdRng,
}

/// A client process with its proxies.
struct ClientTarget {
    index: usize,
    seed: u64,
    proxies: Vec<Proxy>,
    client: Client,
}

impl ClientGroup {
    /// Starts the clients of all groups.
    pub(crate) async fn start_all(
        clients: usize,
        members: &[String],
        seed: u64,
        record: &SharedRecord,
    ) -> HarnessResult<Vec<Self>> {
        let mut groups: Vec<Self> = Vec::new();
        for index in 0..clients {
            let mut proxies = Vec::new();
            for member in members {
                let address: SocketAddr = member.parse()?;
                proxies.push(Proxy::start(watch::Sender::new(address).subscribe()).await?);
            }
            let seed = seed.wrapping_add(1000 * index as u64);
            let target = ClientTarget {
                index,
                seed,
                client: start_client(index, &proxies, seed, record)?,
                proxies,
            };
            match groups.last_mut() {
                Some(group) if group.clients.len() < GROUP => group.clients.push(target),
                _ => groups.push(Self {
                    clients: vec![target],
                    rng: StdRng::seed_from_u64(seed),
                }),
            }
        }
        Ok(groups)
    }

    /// Applies one fault after the other until `end`.
    pub(crate) async fn run_faults(
        mut self,
        end: Duration,
        record: SharedRecord,
    ) -> HarnessResult<Self> {
        let mut kinds = Vec::new();
        loop {
            let Some(kind) = kinds.pop() else {
                kinds = CLIENT_FAULTS.to_vec();
                kinds.shuffle(&mut self.rng);
                continue;
            };
            let range = LENGTHS[self.rng.random_range(0..LENGTHS.len())].clone();
            let length = Duration::from_millis(self.rng.random_range(range));
            sleep(PAUSE).await;
            if now() + PAUSE > end {
                return Ok(self);
            }
            // A fault that the end of the run shortens is one of the short kind.
            let length = length.min(end.saturating_sub(now()));
            let member = self.rng.random_range(0..self.clients[0].proxies.len());
            let client = self.rng.random_range(0..self.clients.len());
            self.clients[client]
                .apply(kind, member, length, &record)
                .await?;
        }
    }

    /// Ends all clients with SIGKILL.
    pub(crate) async fn end(self) -> HarnessResult<()> {
        for target in self.clients {
            target.client.kill().await?;
        }
        Ok(())
    }
}

impl ClientTarget {
    async fn apply(
        &mut self,
        kind: FaultKind,
        member: usize,
        length: Duration,
        record: &SharedRecord,
    ) -> HarnessResult<()> {
        let mut from = now();
        match kind {
            FaultKind::ClientStopped => {
                self.client.program.stop().await?;
                from = now();
                sleep(length).await;
                record.timeline.lock().faults.push(self.fault(kind, from));
                return Ok(self.client.program.resume()?);
            }
            FaultKind::ClientKilled => self.restart(record).await?,
            FaultKind::ClientBusy => {
                let Stall { from: began, .. } = self.client.block(length).await?;
                from = began;
            }
            FaultKind::CutOff | FaultKind::PartlyCutOff => {
                for (index, proxy) in self.proxies.iter().enumerate() {
                    if kind == FaultKind::CutOff || index == member {
                        proxy.shape(Shaping::Stalled, Shaping::Stalled);
                    }
                }
                sleep(length).await;
                // The network has forgotten the connections.
                for proxy in &self.proxies {
                    if kind == FaultKind::CutOff {
                        proxy.disconnect(Disconnect::Reset);
                    }
                    proxy.heal();
                }
            }
            FaultKind::Slowed => {
                for proxy in &self.proxies {
                    proxy.shape(Shaping::Delayed(DELAY), Shaping::Delayed(DELAY));
                }
                sleep(length).await;
                for proxy in &self.proxies {
                    proxy.heal();
                }
                sleep(DELAY).await;
            }
            _ => {
                for proxy in &self.proxies {
                    proxy.disconnect(Disconnect::Reset);
                }
            }
        }
        let mut timeline = record.timeline.lock();
        timeline.faults.push(self.fault(kind, from));
        if !self.client.program.is_running() {
            return Err(format!("client {} ended unexpectedly", self.index).into());
        }
        Ok(())
    }

    /// Returns a fault that ends now.
    fn fault(&self, kind: FaultKind, from: Duration) -> Fault {
        Fault {
            kind,
            client: Some(self.index),
            from,
            to: now(),
        }
    }

    async fn restart(&mut self, record: &SharedRecord) -> HarnessResult<()> {
        self.seed = self.seed.wrapping_add(1_000_000);
        let next = start_client(self.index, &self.proxies, self.seed, record)?;
        let last = std::mem::replace(&mut self.client, next);
        let pid = last.program.id();
        last.kill().await?;
        record.end_process(pid, now());
        Ok(())
    }
}

/// Starts a client that knows the members by the addresses of their proxies.
fn start_client(
    index: usize,
    proxies: &[Proxy],
    seed: u64,
    record: &SharedRecord,
) -> HarnessResult<Client> {
    let servers: Vec<String> = proxies
        .iter()
        .map(|proxy| format!("etcd://{}", proxy.addr()))
        .collect();
    // Unused on etcd.
    let read_timeout = Duration::from_secs(23);
    let servers = servers.join(",");
    let client = Client::start(index, &servers, read_timeout, seed, &record.timeline)?;
    record.add_process(client.program.id(), index);
    Ok(client)
}
