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
    reason = "each is a switch of the command line"
)]
pub(crate) struct Flags {
    /// Servers to use, `host:port`, separated by commas; without them an embedded server is started in a process of its own
    #[arg(long, value_delimiter = ',')]
    pub(crate) servers: Vec<String>,
    /// Program to start in place of the embedded server: a dflockd
    #[arg(long, conflicts_with = "servers")]
    pub(crate) server_program: Option<PathBuf>,
    /// How many acquire at once
    #[arg(long, default_value = "64")]
    pub(crate) workers: NonZeroU32,
    /// How often every contender runs
    #[arg(long, default_value = "5")]
    pub(crate) rounds: NonZeroU32,
    /// How many cycles all workers together make in a round
    #[arg(long, default_value = "20000")]
    pub(crate) cycles: NonZeroU32,
    /// All workers want the same key; else each has one of its own
    #[arg(long)]
    pub(crate) contend: bool,
    /// How many may hold a key at once
    #[arg(long, default_value_t = 5)]
    pub(crate) limit: u32,
    /// How long a slot is held, in milliseconds
    #[arg(long, default_value = "0", value_parser = milliseconds)]
    pub(crate) hold: Duration,
    /// The runtime that dflock runs on
    #[arg(long, value_enum, default_value_t = Runtime::Current)]
    pub(crate) runtime: Runtime,
    /// Cores of the client, separated by commas; else all
    #[arg(long, value_delimiter = ',')]
    pub(crate) client_cpus: Vec<usize>,
    /// Cores of the server, separated by commas; else all
    #[arg(long, value_delimiter = ',')]
    pub(crate) server_cpus: Vec<usize>,
    /// Prints JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Raw sockets do the same in turns with dflock
    #[arg(long)]
    pub(crate) floor: bool,
    /// Holds this many slots at once instead, and looks at memory and CPU
    #[arg(long, value_name = "N", conflicts_with = "floor")]
    pub(crate) hold_many: Option<NonZeroU32>,
    /// Measures every bar of docs/PERFORMANCE.md, and prints the table
    #[arg(long, conflicts_with_all = ["servers", "floor", "hold_many"])]
    pub(crate) bars: bool,
    /// The servers speak TLS, and this file (PEM) says whom to trust
    #[arg(
        long,
        value_name = "FILE",
        requires = "servers",
        conflicts_with = "floor"
    )]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Is the server; for the process that this program starts
    #[arg(long, hide = true)]
    pub(crate) serve: Option<Role>,
    #[arg(long, hide = true, requires = "serve")]
    pub(crate) tls_cert: Option<PathBuf>,
    #[arg(long, hide = true, requires = "serve")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Which of tokio's runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// One thread
    Current,
    /// As many threads as there are cores
    Multi,
}

impl Flags {
    /// What is to be done, on `servers`.
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

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}
