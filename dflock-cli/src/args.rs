//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use dflock::LimitMismatch;

use crate::client_options::ClientOptions;
use crate::duration::{parse_duration, parse_interval};
use crate::serve::ServeOptions;

/// Distributed semaphores for the command line, on dflockd servers or an etcd cluster
#[derive(Parser)]
#[command(name = "dflock", version, after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a command while holding a slot
    ///
    /// Waits for a slot of the key, runs the command while the slot is held, and releases the slot
    /// when the command ends. If the slot is lost, the command and all processes that it started
    /// get SIGTERM, and SIGKILL after the grace time. If dflock is killed, the command is killed as
    /// well. If dflock is stopped, the command is killed after the lease and the grace time.
    #[command(after_long_help = AFTER_HELP)]
    Run(RunOptions),

    /// Show the holders and the queue of each key
    Stats(StatsOptions),

    /// Show the holders of a key, on an etcd cluster
    Holders(HoldersOptions),

    /// Take a slot away from its holder, on an etcd cluster
    ///
    /// The holder loses the slot at its next renewal, after a third of its lease at the latest.
    /// Another client may hold the slot before that. The exit status is 1 if no holder of KEY has
    /// the token.
    Revoke(RevokeOptions),

    /// Run a dflockd-compatible server for a single machine and for tests
    ///
    /// Prints the address of the server and serves until SIGINT or SIGTERM. Then it waits until all
    /// slots are released; a second signal ends it immediately. SIGUSR1, SIGUSR2 and SIGALRM have
    /// no effect.
    Serve(Box<ServeOptions>),

    /// Print shell completions
    Completions {
        /// Shell to print completions for
        shell: Shell,
    },

    /// Print a man page in roff format
    Man {
        /// Command to print the page of [default: dflock itself]
        command: Option<String>,
    },
}

#[derive(clap::Args)]
pub(crate) struct RunOptions {
    /// Key of the semaphore: 1 to 256 bytes without white space
    #[arg(long, short)]
    pub(crate) key: String,

    /// Maximum number of slots held at once; must be the same for every client of the key
    #[arg(long, short, default_value_t = 1)]
    pub(crate) limit: u32,

    /// Number of slots to hold, all or none; at most --limit
    #[arg(long, default_value_t = 1)]
    pub(crate) permits: u32,

    /// Reaction to a key that is in use with another limit: fail, wait until the limit can be set,
    /// or adopt the limit of the server [default: `$DFLOCK_ON_LIMIT_MISMATCH`, or fail]
    ///
    /// `wait-out` tries again until --timeout. `adopt` prints a warning. A dflockd server forgets
    /// the limit of a key that has been idle for about a minute, an etcd cluster at once.
    #[arg(long, value_parser = limit_mismatch(), value_name = "REACTION")]
    pub(crate) on_limit_mismatch: Option<LimitMismatch>,

    /// Maximum time to wait for a slot, such as 30s; 0 fails if no slot is free [default: no limit]
    ///
    /// The time includes connecting and the replies of the server.
    #[arg(long, short, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,

    /// Exit with status 0 without running the command if no slot is free
    ///
    /// dflock does not wait, and prints nothing. Other errors are reported as without the option.
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) skip: bool,

    /// Lease of the slot, in whole seconds [default: the server's; 10s on etcd]
    ///
    /// The server frees the slot if the lease is not renewed in this time. dflock renews the lease
    /// for as long as the command runs.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) lease: Option<Duration>,

    /// Maximum time for which the slot is held, such as 1h; at least --lease [default: no limit]
    ///
    /// At its end the slot is lost: the command and all processes that it started get SIGTERM, and
    /// SIGKILL after the grace time.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) max_hold: Option<Duration>,

    /// Minimum time for which the slot stays taken, such as 1m; at most --max-hold [default: 0]
    ///
    /// If the command ends before, dflock keeps the slot, and exits at the end of this time. A
    /// signal ends this wait.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) min_hold: Option<Duration>,

    /// Time between SIGTERM and SIGKILL when the slot is lost; 0 sends SIGKILL immediately
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) grace: Duration,

    /// Pass the fence of the slot to the command in `$DFLOCK_FENCE`; requires servers from v2.1 on
    ///
    /// On an etcd cluster the variable is set without the option.
    #[arg(long)]
    pub(crate) fencing: bool,

    #[command(flatten)]
    pub(crate) client: ClientOptions,

    /// Command to run and its arguments; a `--` before it ends the options of dflock
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(clap::Args)]
pub(crate) struct StatsOptions {
    /// Print JSON: one line, an array with an object for each server
    #[arg(long)]
    pub(crate) json: bool,

    /// Repeat until interrupted
    #[arg(long, short)]
    pub(crate) watch: bool,

    /// Time between two updates; at least 10ms
    #[arg(
        long,
        default_value = "1s",
        value_parser = parse_interval,
        value_name = "TIME",
        requires = "watch"
    )]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

#[derive(clap::Args)]
pub(crate) struct HoldersOptions {
    /// Key of the semaphore or lock
    pub(crate) key: String,

    /// Print JSON: one line, an array with an object for each holder
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

#[derive(clap::Args)]
pub(crate) struct RevokeOptions {
    /// Key of the semaphore or lock
    pub(crate) key: String,

    /// Token of the slot, as `dflock holders` shows it
    pub(crate) token: String,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

/// Returns the parser of `--on-limit-mismatch`.
fn limit_mismatch() -> impl TypedValueParser<Value = LimitMismatch> {
    PossibleValuesParser::new(["fail", "wait-out", "adopt"]).map(|word| match word.as_str() {
        "wait-out" => LimitMismatch::WaitOut,
        "adopt" => LimitMismatch::Adopt,
        _ => LimitMismatch::Fail,
    })
}

const AFTER_HELP: &str = "\
Exit status of `dflock run`:
  that of the command, or 128+N if signal N ended the command (or dflock before it started)
  64   usage error: invalid command line or environment, or the key has another limit
  69   server unavailable: not reachable, no reply, or disconnected while dflock waited
  71   system error, such as a process that cannot be started
  75   timeout: no slot in time, the queue is full, or the server has too many keys; try again later
  76   slot lost: the slot was lost, and the command was terminated
  77   authentication failed: the auth token is missing or wrong
  126  the command cannot be executed
  127  the command was not found

Environment of the command:
  DFLOCK_KEY        the key
  DFLOCK_TOKEN      the token of the slot
  DFLOCK_FENCE      with --fencing, and always on etcd: a number that grows with each grant
  DFLOCK_HELD_KEYS  the keys of all enclosing `dflock run`, separated by spaces

Environment of dflock (a variable is ignored if the option that replaces it is given):
  DFLOCK_SERVERS, DFLOCK_AUTH_TOKEN, DFLOCK_AUTH_TOKEN_FILE, DFLOCK_TLS, DFLOCK_TLS_CA,
  DFLOCK_TLS_CERT, DFLOCK_TLS_KEY, DFLOCK_CONNECT_TIMEOUT, DFLOCK_SOCKET_TIMEOUT,
  DFLOCK_SERVER_READ_TIMEOUT, DFLOCK_HEARTBEAT, DFLOCK_MAX_CONNECTION_AGE, DFLOCK_ETCD_PREFIX,
  DFLOCK_ON_LIMIT_MISMATCH
  NO_COLOR: disables colors if it is set and not empty";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_and_the_page_name_all_environment_variables() {
        let page = include_str!("../../docs/CLI.md");
        for (name, _) in dflock::cli_support::env_variables() {
            assert!(AFTER_HELP.contains(name), "--help lacks {name}");
            assert!(page.contains(name), "docs/CLI.md lacks {name}");
        }
    }
}
