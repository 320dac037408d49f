//! Soak test: client processes that share slots, a server, and faults between them, over real
//! sockets.
//!
//! Each client process reports the slots that it considers held, and when. All processes of a
//! machine share one clock, so the reports are merged into one timeline and checked for three
//! violations: more holders than the limit, a loss that was noticed too late, and a free slot that
//! a waiter does not get. The exit status is not zero if there was a violation. With `--cycles` the
//! program counts descriptors and tasks instead.

mod analysis;
mod client;
mod cycles;
mod etcd;
mod event;
mod fault;
mod fault_target;
mod hold_monitor;
mod interval;
mod key;
mod late_loss;
mod probe;
mod report;
mod run;
mod schedule;
mod stall_monitor;
mod timeline;
mod violation;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::now;
use dflock_tests::harness::server::{ServeArgs, ServerCommand};

/// Runs clients and a server under faults, and checks that the limit holds and no slot is lost.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Duration of the run, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the order of the faults [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Engine that the clients use
    #[arg(long, default_value = "dflockd", conflicts_with_all = ["server_bin", "cycles"])]
    engine: Engine,
    /// Number of client processes
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// Server program with the flags of dflockd, instead of the embedded server
    #[arg(long)]
    server_bin: Option<PathBuf>,
    /// Read timeout of the server, in seconds
    #[arg(long, default_value_t = 2)]
    read_timeout: u64,
    /// Read timeout that the clients assume, in seconds [default: that of the server]. More than
    /// the server's is a misconfiguration that the soak must detect
    #[arg(long)]
    client_read_timeout: Option<u64>,
    /// Run this many cycles in one process instead, and report what they leave behind
    #[arg(long)]
    cycles: Option<u64>,
}

/// Engines that the soak knows.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    /// One server, embedded or `--server-bin`
    Dflockd,
    /// A cluster of three members, if etcd is installed or `ETCD` names it
    Etcd,
}

/// Internal modes of the child processes.
#[derive(Debug, Subcommand)]
enum Mode {
    #[command(hide = true)]
    Serve(ServeArgs),
    #[command(hide = true)]
    Client(client::ClientArgs),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.mode {
        Some(Mode::Serve(server)) => server.run().map(|never| match never {}),
        Some(Mode::Client(client)) => client.run().map(|never| match never {}),
        None => soak(options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the soak. Returns whether it passed.
fn soak(options: Options) -> HarnessResult<bool> {
    let seed = options.seed.unwrap_or_else(|| now().subsec_nanos().into());
    if let Some(cycles) = options.cycles {
        return cycles::run(cycles, seed);
    }
    // On a single thread the stall monitor notices every delay of the executor.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let Engine::Etcd = options.engine {
        return runtime.block_on(etcd::run(etcd::Plan {
            length: Duration::from_secs(options.seconds),
            seed,
            clients: options.clients,
        }));
    }
    let plan = run::Plan {
        length: Duration::from_secs(options.seconds),
        seed,
        clients: options.clients,
        server: ServerCommand {
            program: options.server_bin,
            read_timeout: options.read_timeout,
            max_keys: 1024,
        },
        client_read_timeout: Duration::from_secs(
            options.client_read_timeout.unwrap_or(options.read_timeout),
        ),
    };
    runtime.block_on(run::run(plan))
}
