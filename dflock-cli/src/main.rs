//! The program `dflock`: runs a command while it holds a slot, shows statistics, and serves.
//!
//! Modules of `dflock run`, in the order in which they are used:
//!
//! 1. `args`: the command line; `duration`: parser of `30s` and the like; `client_options`: options
//!    of the client that all commands share
//! 2. `run`: acquires the slot and runs the command; `wait`: the wait for the slot, with progress
//! 3. `watchdog`: the process that starts the command, and kills it when `dflock` cannot; `child`:
//!    the running command; `exec`: the process that becomes the command; `fd_passing`: its standard
//!    input; `process_tree`: the processes of the command; `proc`: parser of `/proc`; `prctl`:
//!    subreapers and signals at the death of a parent; `reaper`: exit statuses of children, and
//!    orphans
//! 4. `signals`: forwarded signals, and the signal mask
//! 5. `error`: the errors of `dflock`; `message`: the texts of library errors; `exit_code`: the exit
//!    codes; `warning`: warnings on standard error
//!
//! The other commands: `stats` with `table` and `escape`, `holders` with `revoke`, `serve`, and
//! `completions`; `output` prints.

#[cfg(not(unix))]
compile_error!("dflock-cli needs a Unix system");

mod args;
mod child;
mod client_options;
mod completions;
mod duration;
mod error;
mod escape;
mod exec;
mod exit_code;
mod fd_passing;
mod holders;
mod message;
mod output;
mod prctl;
mod proc;
mod process_tree;
mod reaper;
mod run;
mod serve;
mod signals;
mod stats;
mod table;
mod wait;
mod warning;
mod watchdog;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use error::CliError;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // Before any thread starts: `exec` replaces this process, and the watchdog outlives its parent.
    match args.next() {
        Some(first) if first == exec::NAME => return exec::exec(args),
        Some(first) if first == watchdog::NAME => return watchdog::run(args),
        _ => {}
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return error::print_clap_error(error),
    };
    dispatch(args.command).unwrap_or_else(|error| {
        // Ignored: without a standard error there is no place to report the failure.
        let _ = writeln!(io::stderr(), "dflock: {error}");
        error.exit_code()
    })
}

fn dispatch(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Run(options) => block_on(run::run(options)),
        Command::Stats(options) => block_on(stats::stats(options)),
        Command::Holders(options) => block_on(holders::holders(options)),
        Command::Revoke(options) => block_on(holders::revoke(options)),
        Command::Serve(options) => block_on(serve::serve(*options)),
        Command::Completions { shell } => completions::completions(shell),
        Command::Man { command } => completions::man(command.as_deref()),
    }
}

/// Runs `future` to completion on the main thread.
///
/// The main thread has to start the command: the parent-death signal is sent when the thread that
/// started the command ends, and the main thread lives as long as the process.
fn block_on(
    future: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::system("cannot start the async runtime", &error))?
        .block_on(future)
}
