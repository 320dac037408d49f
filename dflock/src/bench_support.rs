//! What the microbenchmarks measure: an entry for each part that they reach.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "this is a benchmark, in no build that is released"
)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::engine::dflockd::{Connection, Idle};
pub use crate::server::AcquireRelease;
use crate::wire::{Capacity, Key, Kind, Limit, Reply, Request, Seconds, Token};

/// The two requests of a cycle.
#[derive(Debug)]
pub struct Requests {
    acquire: Request<'static>,
    release: Request<'static>,
    out: Vec<u8>,
}

impl Default for Requests {
    fn default() -> Self {
        let key = Key::new("worker-pool").expect("it is one word");
        let capacity = Capacity::Semaphore(Limit::new(5).expect("it is not zero"));
        let wait = Seconds::round_up(Duration::from_secs(10)).expect("it is short");
        let token = Token::parse("00000000000000ff0123456789abcdef").expect("it is 32 digits");
        Self {
            acquire: Request::Acquire {
                key,
                capacity,
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
    pub fn encode(&mut self) -> &[u8] {
        self.out.clear();
        self.acquire.encode(&mut self.out);
        self.release.encode(&mut self.out);
        &self.out
    }
}

/// Whether `line` is a reply.
pub fn decode(line: &[u8]) -> bool {
    Reply::decode(line).is_ok()
}

/// Idle connections of the runtime that it is made on.
#[derive(Debug)]
pub struct Pool {
    idle: Arc<Idle>,
    _peers: Vec<DuplexStream>,
}

impl Pool {
    pub fn new(connections: usize) -> Self {
        const HOUR: Duration = Duration::from_hours(1);
        let idle = Idle::new(Clock::Boottime, HOUR, HOUR);
        let now = Clock::Boottime.now();
        let (ours, peers): (Vec<_>, Vec<_>) = (0..connections).map(|_| duplex(64)).unzip();
        for stream in ours {
            idle.put(Connection::new(Box::new(stream), now), now);
        }
        Self {
            idle,
            _peers: peers,
        }
    }

    /// Takes a connection out, and puts it back.
    pub fn checkout(&self) {
        let now = Clock::Boottime.now();
        let connection = self
            .idle
            .take(Handle::current().id(), now)
            .expect("nobody else takes one");
        self.idle.put(connection, now);
    }
}
