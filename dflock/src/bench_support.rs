//! Entry points for the microbenchmarks.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "benchmark code, which is not part of a release"
)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::runtime::Handle;

use crate::clock::{Clock, Instant};
use crate::engine::dflockd::{Connection, IdleConnections};
pub use crate::server::AcquireRelease;
use crate::wire::{Key, Kind, Limit, Primitive, Reply, Request, Seconds, Token};

/// The two requests of an acquire and release cycle.
#[derive(Debug)]
pub struct Requests {
    acquire: Request<'static>,
    release: Request<'static>,
    out: Vec<u8>,
}

impl Default for Requests {
    fn default() -> Self {
        let key = Key::new("worker-pool").expect("the key is valid");
        let primitive = Primitive::Semaphore(Limit::new(5).expect("the limit is not zero"));
        let wait = Seconds::round_up(Duration::from_secs(10)).expect("the wait is short");
        let token =
            Token::parse("00000000000000ff0123456789abcdef").expect("the token has 32 digits");
        Self {
            acquire: Request::Acquire {
                key,
                primitive,
                wait,
                lease: None,
            },
            release: Request::Release {
                key,
                kind: Kind::Semaphore,
                token,
            },
            out: Vec::new(),
        }
    }
}

impl Requests {
    /// Encodes both requests into the reused buffer.
    pub fn encode(&mut self) -> &[u8] {
        self.out.clear();
        self.acquire.encode(&mut self.out);
        self.release.encode(&mut self.out);
        &self.out
    }
}

/// Returns whether `line` is a valid reply.
pub fn decode(line: &[u8]) -> bool {
    Reply::decode(line).is_ok()
}

/// Idle connections of the current runtime.
#[derive(Debug)]
pub struct Pool {
    idle: Arc<IdleConnections>,
    _peers: Vec<DuplexStream>,
}

impl Pool {
    pub fn new(connections: usize) -> Self {
        const HOUR: Duration = Duration::from_hours(1);
        let idle = IdleConnections::new(Clock::Boottime, HOUR, HOUR);
        let now = Clock::Boottime.now();
        let (streams, peers): (Vec<_>, Vec<_>) = (0..connections).map(|_| duplex(64)).unzip();
        for stream in streams {
            idle.put(Connection::new(Box::new(stream), Instant::MAX), now);
        }
        Self {
            idle,
            _peers: peers,
        }
    }

    /// Takes a connection and returns it.
    pub fn checkout(&self) {
        let now = Clock::Boottime.now();
        let connection = self
            .idle
            .take(Handle::current().id(), now)
            .expect("no other task takes connections");
        self.idle.put(connection, now);
    }
}
