//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::duration::{duration, pause};
use crate::serve::ServeOptions;
use crate::servers::ServerOptions;

/// Distributed semaphores for the command line, on dflockd servers
#[derive(Parser)]
#[command(name = "dflock", version, after_long_help = ENDS)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a command while holding a slot
    ///
    /// Waits in line for a slot of the key, runs the command while it is held, and gives the slot back when the command ends. When
    /// the slot is lost, the command is ended with all that it has started: by SIGTERM, and by SIGKILL when the grace time is over. When
    /// dflock itself is killed, so is the command; when dflock is stopped, the command is killed when its slot and the grace time are
    /// over.
    #[command(after_long_help = ENDS)]
    Run(RunOptions),

    /// Show who holds what
    Stats(StatsOptions),

    /// Run a dflockd-compatible server, for one machine and for trying things out
    ///
    /// Prints its address, and serves until SIGINT or SIGTERM. Then it waits for those who hold slots; a second signal ends it at once.
    /// SIGUSR1, SIGUSR2 and SIGALRM have no effect.
    Serve(Box<ServeOptions>),

    /// Print shell completions
    Completions {
        /// For which shell
        shell: Shell,
    },

    /// Print a man page, as roff
    Man {
        /// Of which command; of dflock itself if none is named
        command: Option<String>,
    },
}

#[derive(clap::Args)]
pub(crate) struct RunOptions {
    /// Key to hold a slot of: 1 to 256 bytes without white space
    #[arg(long, short)]
    pub(crate) key: String,

    /// How many may hold a slot of the key at once; the same for all who use the key
    #[arg(long, short, default_value_t = 1)]
    pub(crate) limit: u32,

    /// How long to wait for a slot, such as 30s, with connecting; 0 for only if a slot is free now [default: until there is one]
    #[arg(long, short, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// How long the server keeps the slot without hearing of its holder, in whole seconds [default: the server's]
    ///
    /// The lease is renewed for as long as the command runs.
    #[arg(long, value_parser = duration)]
    pub(crate) lease: Option<Duration>,

    /// How long the command may take to end after SIGTERM when the slot is lost; 0 for SIGKILL at once
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) grace: Duration,

    /// Give the command the fence of its slot; the servers are v2.1 or newer
    #[arg(long)]
    pub(crate) fencing: bool,

    #[command(flatten)]
    pub(crate) servers: ServerOptions,

    /// Command to run, and its arguments; `--` before it ends the options of dflock
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(clap::Args)]
pub(crate) struct StatsOptions {
    /// Print JSON: one line, an array with an object for each server
    #[arg(long)]
    pub(crate) json: bool,

    /// Ask again and again, until interrupted
    #[arg(long, short)]
    pub(crate) watch: bool,

    /// How long to wait between two questions; at least 10ms
    #[arg(long, default_value = "1s", value_parser = pause, requires = "watch")]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) servers: ServerOptions,
}

const ENDS: &str = "\
Exit status of `dflock run`:
  that of the command, or 128+N when signal N ended it (or ended dflock while it waited)
  64   usage: the command line or the environment makes no sense, or the key has another limit
  69   no server: it cannot be reached, does not answer, or went away while dflock waited
  71   the system refused, such as to start one more process
  75   timeout: no slot in time, a full line, or no more keys; it may do another time
  76   lost: the slot was lost, and the command was ended
  77   the server does not take the secret, or asks for one
  126  the command cannot be run
  127  the command was not found

Environment of the command:
  DFLOCK_KEY, DFLOCK_TOKEN, and with --fencing DFLOCK_FENCE, a number that grows with each grant
  DFLOCK_HELD_KEYS: the keys of all `dflock run` around the command, with spaces between them

Environment of dflock (one that an option replaces is not looked context):
  DFLOCK_SERVERS, DFLOCK_AUTH_TOKEN, DFLOCK_AUTH_TOKEN_FILE, DFLOCK_TLS, DFLOCK_TLS_CA,
  DFLOCK_CONNECT_TIMEOUT, DFLOCK_SOCKET_TIMEOUT, DFLOCK_SERVER_READ_TIMEOUT, DFLOCK_HEARTBEAT,
  DFLOCK_MAX_CONNECTION_AGE
  NO_COLOR: no colours, if it is set and not empty";
