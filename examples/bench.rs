//! Benchmark of dflock. Raw sockets that send the same requests are the baseline, the floor.
//!
//! ```text
//! cargo run --release -p dflock-examples --example bench -- --workers 64 --floor
//! cargo run --release -p dflock-examples --example bench -- --bars
//! ```
//!
//! A cycle is one acquire and one release. Every contender runs once in each round, so that other
//! load on the machine affects all of them alike. The output is the median of the rounds. The
//! benchmark runs on Linux only.

#[path = "bench/bars.rs"]
mod bars;
#[path = "bench/certificate.rs"]
mod certificate;
#[path = "bench/contender.rs"]
mod contender;
#[path = "bench/epoll.rs"]
mod epoll;
#[path = "bench/flags.rs"]
mod flags;
#[path = "bench/machine.rs"]
mod machine;
#[path = "bench/many_slots.rs"]
mod many_slots;
#[path = "bench/raw.rs"]
mod raw;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/round.rs"]
mod round;
#[path = "bench/sdk.rs"]
mod sdk;
#[path = "bench/serve.rs"]
mod serve;
#[path = "bench/several.rs"]
mod several;
#[path = "bench/sockets.rs"]
mod sockets;
#[path = "bench/tasks.rs"]
mod tasks;

use std::process::ExitCode;

use clap::Parser;

use contender::{Contender, run_rounds};
use flags::Flags;
use serve::ServerProcess;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!(
                "error: {error}{}",
                error
                    .source()
                    .map(|source| format!(": {source}"))
                    .unwrap_or_default()
            );
            ExitCode::from(2)
        }
    }
}

fn run(flags: &Flags) -> Result<ExitCode> {
    if let Some(role) = flags.serve {
        serve::run(
            role,
            flags.tls_cert.as_deref().zip(flags.tls_key.as_deref()),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    machine::raise_descriptor_limit()?;
    if flags.bars {
        return bars::run(flags);
    }
    machine::pin_to_cpus(&flags.client_cpus)?;
    let server = if flags.servers.is_empty() {
        Some(ServerProcess::start(
            flags.server_program.as_deref(),
            &flags.server_cpus,
            None,
        )?)
    } else {
        None
    };
    let load = flags.load(server.as_ref().map_or_else(
        || flags.servers.clone(),
        |server| vec![server.addr().to_string()],
    ));
    if let Some(slots) = flags.hold_many {
        let cost = many_slots::measure(&load, slots)?;
        report::print_hold_cost(&cost, flags.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if flags.several {
        let comparisons = several::measure(&load, flags.runtime, flags.rounds)?;
        report::print_comparisons(&comparisons, flags.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut contenders = vec![Contender::Dflock(flags.runtime)];
    if flags.floor {
        contenders.extend(Contender::floor(load.hold.is_zero()));
    }
    let rounds = run_rounds(&contenders, &load, flags.rounds)?;
    let allocations = sdk::allocations_per_cycle(&load)?;
    report::print_rounds(&contenders, &rounds, allocations, flags.json)?;
    Ok(ExitCode::SUCCESS)
}
