//! Measures safety and hand-off times, and prints them beside the figures of the other clients.
//!
//! Run it with `cargo run --release --bin measure`. With `--engines` it measures the engines beside
//! each other instead.

mod engines;
mod handoff;
mod renewals;
mod safety;

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::server::{ServeArgs, ServerCommand};

/// Measures how safe a slot is and how fast it is handed on, and prints a table
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Server program with the flags of dflockd, measured in addition to the embedded server
    #[arg(long)]
    server_bin: Option<PathBuf>,
    /// Number of hand-offs of each kind
    #[arg(long, default_value_t = 2000)]
    times: usize,
    /// Measure the engines instead: one server, and a cluster of three members of etcd
    #[arg(long)]
    engines: bool,
    /// Number of slots that are held at once, with `--engines`
    #[arg(long, default_value_t = 10_000, requires = "engines")]
    slots: u32,
}

/// Internal modes of the child processes.
#[derive(Debug, Subcommand)]
enum Mode {
    #[command(hide = true)]
    Serve(ServeArgs),
    #[command(hide = true)]
    Hold(handoff::Holder),
    #[command(hide = true)]
    ManySlots(engines::ManySlots),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done: HarnessResult<Infallible> = match options.mode {
        Some(Mode::Serve(server)) => server.run(),
        Some(Mode::Hold(holder)) => holder.run(),
        Some(Mode::ManySlots(slots)) => slots.run(),
        None => match measure(options) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => Err(error),
        },
    };
    let Err(error) = done;
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

#[tokio::main]
async fn measure(options: Options) -> HarnessResult<()> {
    let programs = [None].into_iter().chain(options.server_bin.map(Some));
    let commands: Vec<_> = programs
        .map(|program| ServerCommand {
            program,
            read_timeout: 23,
            // Those of the slots that are held at once, and a few others.
            max_keys: 1024 + options.slots as usize,
        })
        .collect();
    if options.engines {
        return engines::print(&commands, options.times, options.slots).await;
    }
    // These cases mostly wait and can run side by side. The hand-offs below would disturb each
    // other.
    let mut table = safety::table(&commands).await?;
    table.extend(handoff::table(&commands, options.times).await?);
    let servers = ["the embedded server", "the server of `--server-bin`"]
        .map(|server| format!("dflock on {server}"));
    println!(
        "| | other clients, on dflockd v1.10.0 | {} |",
        servers[..commands.len()].join(" | ")
    );
    println!("|---|---|{}", "---|".repeat(commands.len()));
    for Row { what, others, ours } in table {
        println!("| {what} | {others} | {} |", ours.join(" | "));
    }
    Ok(())
}

/// A row of the table.
struct Row {
    what: &'static str,
    others: &'static str,
    /// Results of dflock, one for each server.
    ours: Vec<String>,
}
