//! `dflock`: runs a command while it holds a slot, shows who holds what, and serves.
//!
//! The modules, in the order in which one `dflock run` goes:
//!
//! 1. `args`: the command line; `duration`: `30s` and the like; `servers`: which servers, and how to reach them
//! 2. `run`: the slot and the command, side by side; `line`: the wait for the slot
//! 3. `guard`: what ends the command when nobody else can; `job`: its processes; `exec`: what becomes the command;
//!    `family`: which processes those are; `children`: their exit statuses, and orphans
//! 4. `signals`: what is passed on, and the signal mask
//! 5. `status`: how it all ended
//!
//! and besides: `stats`, `table` and `escape`, `serve`, `manual`.

#[cfg(not(unix))]
compile_error!("the command line of dflock needs Unix: build without the feature `cli`");

mod args;
mod children;
mod duration;
mod escape;
mod exec;
mod family;
mod guard;
mod job;
mod line;
mod manual;
mod process;
mod run;
mod serve;
mod servers;
mod signals;
mod stats;
mod status;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use status::Failure;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // before anything is started: these two are to become, or to outlive, another process
    match args.next() {
        Some(first) if first == exec::NAME => return exec::exec(args),
        Some(first) if first == guard::NAME => return guard::guard(),
        _ => {}
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return status::of_usage(error),
    };
    dispatch(args.command).unwrap_or_else(|failure| {
        // nobody is left to tell when this fails
        let _ = writeln!(io::stderr(), "dflock: {failure}");
        failure.status()
    })
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(options) => on_this_thread(run::run(options)),
        Command::Stats(options) => on_this_thread(stats::stats(options)),
        Command::Serve(options) => on_this_thread(serve::serve(*options)),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { command } => manual::man(command.as_deref()),
    }
}

/// The main thread is the one that starts the command: it lives as long as the process, and the command dies with its thread.
fn on_this_thread(
    work: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("no runtime", &error))?
        .block_on(work)
}
