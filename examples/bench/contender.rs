//! Who is measured, and under what load.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::flags::Runtime;
use crate::round::Round;
use crate::{Result, epoll, raw, sdk, sockets};

/// What is to be done in a round.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where the servers are, `host:port`.
    pub(crate) servers: Vec<String>,
    /// Whom to trust, if they speak TLS.
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) workers: u32,
    /// How many cycles all workers together make.
    pub(crate) cycles: u32,
    /// Whether all workers want the same key.
    pub(crate) contend: bool,
    pub(crate) limit: u32,
    pub(crate) hold: Duration,
}

impl Load {
    /// The key that the worker `index` wants.
    pub(crate) fn key(&self, index: u32) -> String {
        if self.contend {
            "hot".to_owned()
        } else {
            format!("key-{index}")
        }
    }

    /// How many cycles each worker makes before it is measured.
    pub(crate) fn warm_up(&self) -> u32 {
        (self.cycles / self.workers / 10).clamp(20, 500)
    }

    /// The only server: raw sockets know nothing of sharding.
    pub(crate) fn only_server(&self) -> Result<SocketAddr> {
        let [server] = &self.servers[..] else {
            return Err("raw sockets are measured on one server".into());
        };
        server
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| format!("{server} has no address").into())
    }
}

/// Who is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Contender {
    /// This SDK.
    Dflock(Runtime),
    /// Blocking sockets, a thread for each worker, on kept connections.
    Kept,
    /// The same, on a new connection for each cycle.
    Dialled,
    /// One thread for all workers, with epoll, on kept connections.
    Epoll,
    /// The same, on a new connection for each cycle.
    EpollDialled,
    /// Tokio's sockets, a task for each worker, on kept connections.
    Tokio(Runtime),
}

impl Contender {
    /// All that is measured beside dflock. With epoll nobody can sleep while it holds.
    pub(crate) fn floor(with_epoll: bool) -> Vec<Self> {
        let mut floor = vec![
            Self::Kept,
            Self::Dialled,
            Self::Tokio(Runtime::Current),
            Self::Tokio(Runtime::Multi),
        ];
        if with_epoll {
            floor.extend([Self::Epoll, Self::EpollDialled]);
        }
        floor
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dflock(Runtime::Current) => "dflock, current-thread",
            Self::Dflock(Runtime::Multi) => "dflock, multi-thread",
            Self::Kept => "blocking, kept",
            Self::Dialled => "blocking, dialled",
            Self::Epoll => "epoll, kept",
            Self::EpollDialled => "epoll, dialled",
            Self::Tokio(Runtime::Current) => "tokio sockets, current-thread",
            Self::Tokio(Runtime::Multi) => "tokio sockets, multi-thread",
        }
    }

    pub(crate) fn run(self, load: &Load) -> Result<Round> {
        match self {
            Self::Dflock(runtime) => sdk::run(load, runtime),
            Self::Kept => raw::run(load, false),
            Self::Dialled => raw::run(load, true),
            Self::Epoll => epoll::run(load, false),
            Self::EpollDialled => epoll::run(load, true),
            Self::Tokio(runtime) => sockets::run(load, runtime),
        }
    }
}

/// Lets all run once a round, one after the other; each one's rounds, in the order of `contenders`.
pub(crate) fn take_turns(
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

/// The value in the middle of `key` over `rounds`.
pub(crate) fn median(rounds: &[Round], key: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(key).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value in the middle of the ratios of `key`, round by round.
pub(crate) fn median_ratio(ours: &[Round], theirs: &[Round], key: impl Fn(&Round) -> f64) -> f64 {
    let mut ratios: Vec<_> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| key(ours) / key(theirs))
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}
