//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::contender::Load;
use crate::serve::Role;

/// Measures cycles of acquire and release.
#[derive(Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent switch of the command line"
)]
pub(crate) struct Flags {
    /// Servers to use, `host:port`, separated by commas [default: an embedded server in a child
    /// process]
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<String>,
    /// dflockd program to start instead of the embedded server
    #[arg(long, conflicts_with = "servers")]
    pub(crate) server_program: Option<PathBuf>,
    /// Number of workers that acquire concurrently
    #[arg(long, default_value = "64")]
    pub(crate) workers: NonZeroU32,
    /// Number of rounds: every contender runs once in each
    #[arg(long, default_value = "5")]
    pub(crate) rounds: NonZeroU32,
    /// Number of cycles in a round, of all workers together
    #[arg(long, default_value = "20000")]
    pub(crate) cycles: NonZeroU32,
    /// Use the same key for all workers, instead of a key for each
    #[arg(long)]
    pub(crate) contend: bool,
    /// Number of slots of a key
    #[arg(long, default_value_t = 5)]
    pub(crate) limit: u32,
    /// Time for which a slot is held, in milliseconds
    #[arg(long, default_value = "0", value_parser = parse_milliseconds)]
    pub(crate) hold: Duration,
    /// Tokio runtime of dflock
    #[arg(long, value_enum, default_value_t = Runtime::Current)]
    pub(crate) runtime: Runtime,
    /// Cores of the client, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) client_cpus: Vec<usize>,
    /// Cores of the server, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) server_cpus: Vec<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Also measure raw sockets that send the same requests
    #[arg(long)]
    pub(crate) floor: bool,
    /// Hold this many slots at once, and measure memory and CPU instead of cycles
    #[arg(long, value_name = "N", conflicts_with = "floor")]
    pub(crate) hold_many: Option<NonZeroU32>,
    /// Measure acquires of several permits and of several keys, beside single acquires, with a
    /// quarter of the cycles
    // Workers that acquire the permits of one key one by one would wait for each other.
    #[arg(long, conflicts_with_all = ["floor", "hold_many", "contend"])]
    pub(crate) several: bool,
    /// Measure every bar of docs/PERFORMANCE.md, and print the table
    #[arg(long, conflicts_with_all = ["servers", "floor", "hold_many", "several"])]
    pub(crate) bars: bool,
    /// Connect with TLS, and trust the certificates of this PEM file
    #[arg(
        long,
        value_name = "FILE",
        requires = "servers",
        conflicts_with = "floor"
    )]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Run as a server, in the process that this program starts
    #[arg(long, hide = true)]
    pub(crate) serve: Option<Role>,
    #[arg(long, hide = true, requires = "serve")]
    pub(crate) tls_cert: Option<PathBuf>,
    #[arg(long, hide = true, requires = "serve")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Kind of tokio runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// One thread
    Current,
    /// One thread for each core
    Multi,
}

impl Flags {
    /// Returns the load that the flags describe, on `servers`.
    pub(crate) fn load(&self, servers: Vec<String>) -> Load {
        Load {
            servers,
            tls_ca: self.tls_ca.clone(),
            workers: self.workers.get(),
            cycles: self.cycles.get(),
            contend: self.contend,
            limit: self.limit,
            hold: self.hold,
        }
    }
}

fn parse_milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}
