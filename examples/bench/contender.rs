//! The measured clients, and their load.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::flags::Runtime;
use crate::round::Round;
use crate::{Result, epoll, raw, sdk, sockets};

/// Load of one round.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Addresses of the servers, `host:port`.
    pub(crate) servers: Vec<String>,
    /// PEM file of the trusted certificates, if the servers use TLS.
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) workers: u32,
    /// Number of cycles of all workers together.
    pub(crate) cycles: u32,
    /// All workers use the same key.
    pub(crate) contend: bool,
    pub(crate) limit: u32,
    pub(crate) hold: Duration,
}

impl Load {
    /// Returns the key that the worker `index` acquires.
    pub(crate) fn key(&self, index: u32) -> String {
        if self.contend {
            "hot".to_owned()
        } else {
            format!("key-{index}")
        }
    }

    /// Returns the number of cycles that each worker runs before it is measured.
    pub(crate) fn warm_up(&self) -> u32 {
        (self.cycles / self.workers / 10).clamp(20, 500)
    }

    /// Returns the address of the only server, because raw sockets do not support sharding.
    pub(crate) fn only_server(&self) -> Result<SocketAddr> {
        let [server] = &self.servers[..] else {
            return Err("raw sockets need exactly one server".into());
        };
        server
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| format!("{server} has no address").into())
    }
}

/// A client that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Contender {
    /// The client of the dflock crate.
    Dflock(Runtime),
    /// Blocking sockets, with a thread for each worker and reused connections.
    Blocking,
    /// Blocking sockets, with a thread for each worker and a new connection for each cycle.
    BlockingReconnect,
    /// One thread for all workers, with epoll and reused connections.
    Epoll,
    /// One thread for all workers, with epoll and a new connection for each cycle.
    EpollReconnect,
    /// Sockets of tokio, with a task for each worker and reused connections.
    Tokio(Runtime),
}

impl Contender {
    /// Returns the contenders that dflock is compared with.
    ///
    /// Epoll cannot be used with a hold time, because its only thread cannot sleep for one worker.
    pub(crate) fn floor(with_epoll: bool) -> Vec<Self> {
        let mut floor = vec![
            Self::Blocking,
            Self::BlockingReconnect,
            Self::Tokio(Runtime::Current),
            Self::Tokio(Runtime::Multi),
        ];
        if with_epoll {
            floor.extend([Self::Epoll, Self::EpollReconnect]);
        }
        floor
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dflock(Runtime::Current) => "dflock, current-thread",
            Self::Dflock(Runtime::Multi) => "dflock, multi-thread",
            Self::Blocking => "blocking, kept",
            Self::BlockingReconnect => "blocking, dialled",
            Self::Epoll => "epoll, kept",
            Self::EpollReconnect => "epoll, dialled",
            Self::Tokio(Runtime::Current) => "tokio sockets, current-thread",
            Self::Tokio(Runtime::Multi) => "tokio sockets, multi-thread",
        }
    }

    pub(crate) fn run(self, load: &Load) -> Result<Round> {
        match self {
            Self::Dflock(runtime) => sdk::run(load, runtime),
            Self::Blocking => raw::run(load, false),
            Self::BlockingReconnect => raw::run(load, true),
            Self::Epoll => epoll::run(load, false),
            Self::EpollReconnect => epoll::run(load, true),
            Self::Tokio(runtime) => sockets::run(load, runtime),
        }
    }
}

/// Runs each contender once in each round, one after the other.
///
/// Returns the rounds of each contender, in the order of `contenders`.
pub(crate) fn run_rounds(
    contenders: &[Contender],
    load: &Load,
    rounds: NonZeroU32,
) -> Result<Vec<Vec<Round>>> {
    let mut all: Vec<_> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds.get() {
        for (contender, rounds) in contenders.iter().zip(&mut all) {
            rounds.push(
                contender
                    .run(load)
                    .map_err(|error| format!("{}: {error}", contender.name()))?,
            );
        }
    }
    Ok(all)
}

/// Returns the median of `key` over `rounds`.
pub(crate) fn median(rounds: &[Round], key: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(key).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the median of the ratios of `key`, which are computed round by round.
pub(crate) fn median_ratio(ours: &[Round], theirs: &[Round], key: impl Fn(&Round) -> f64) -> f64 {
    let mut ratios: Vec<_> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| key(ours) / key(theirs))
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}
