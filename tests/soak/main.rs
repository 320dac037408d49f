//! A soak: processes that share slots, a server, and everything that can go wrong between them, over real sockets.
//!
//! Each client says what it believes to hold, and when; all clocks of a machine are the same, so what they say is merged and
//! judged: too many believers, a loss that was told late, a slot that nobody has while somebody waits for it. Ends with a status
//! that is not zero when there was any of these. `--cycles` counts descriptors and tasks instead.

mod client;
mod cycles;
mod deck;
mod event;
mod evidence;
mod fault;
mod judge;
mod key;
mod probe;
mod pulse;
mod report;
mod run;
mod span;
mod timeline;
mod victim;
mod violation;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use dflock_tests::fleet::Outcome;
use dflock_tests::fleet::clock::now;
use dflock_tests::fleet::server::{Recipe, Serve};

/// Puts clients and a server through faults, and counts the slots that too many or nobody had.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What decides which faults come in which order [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// How many client processes
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// A program with dflockd's flags, instead of the embedded server
    #[arg(long)]
    server_bin: Option<PathBuf>,
    /// The server's, in seconds
    #[arg(long, default_value_t = 2)]
    read_timeout: u64,
    /// What the clients are told it is, in seconds; more is a mistake that the soak must find
    #[arg(long)]
    told_read_timeout: Option<u64>,
    /// Instead: this many cycles in one process, and what is left of them
    #[arg(long)]
    cycles: Option<u64>,
}

/// What the processes that it starts are.
#[derive(Debug, Subcommand)]
enum Mode {
    #[command(hide = true)]
    Serve(Serve),
    #[command(hide = true)]
    Client(client::Customer),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.mode {
        Some(Mode::Serve(server)) => server.run().map(|never| match never {}),
        Some(Mode::Client(customer)) => customer.run().map(|never| match never {}),
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

/// Whether all went well.
fn soak(options: Options) -> Outcome<bool> {
    let seed = options.seed.unwrap_or_else(|| now().subsec_nanos().into());
    if let Some(cycles) = options.cycles {
        return cycles::run(cycles, seed);
    }
    let plan = run::Plan {
        length: Duration::from_secs(options.seconds),
        seed,
        clients: options.clients,
        server: Recipe {
            program: options.server_bin,
            read_timeout: options.read_timeout,
        },
        told: Duration::from_secs(options.told_read_timeout.unwrap_or(options.read_timeout)),
    };
    // one thread: when it does not get to run, its pulse knows
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run::run(plan))
}
