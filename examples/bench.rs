//! How fast dflock is, beside raw sockets that do the same in the same run.
//!
//! ```text
//! cargo run --release -p dflock-examples --example bench -- --workers 64 --floor
//! cargo run --release -p dflock-examples --example bench -- --bars
//! ```
//!
//! A cycle is one acquire and one release. Every contender runs once a round, in turns, so that
//! whatever else the machine does falls on all of them; what is printed is the median of the
//! rounds. Linux only.

#[path = "bench/bars.rs"]
mod bars;
#[path = "bench/certificate.rs"]
mod certificate;
#[path = "bench/contender.rs"]
mod contender;
#[path = "bench/crowd.rs"]
mod crowd;
#[path = "bench/epoll.rs"]
mod epoll;
#[path = "bench/flags.rs"]
mod flags;
#[path = "bench/machine.rs"]
mod machine;
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
#[path = "bench/sockets.rs"]
mod sockets;
#[path = "bench/tasks.rs"]
mod tasks;

use std::process::ExitCode;

use clap::Parser;

use contender::{Contender, take_turns};
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
                    .map(|why| format!(": {why}"))
                    .unwrap_or_default()
            );
            ExitCode::from(2)
        }
    }
}

fn run(flags: &Flags) -> Result<ExitCode> {
    if let Some(role) = flags.serve {
        serve::play(
            role,
            flags.tls_cert.as_deref().zip(flags.tls_key.as_deref()),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    machine::raise_descriptor_limit()?;
    if flags.bars {
        return bars::run(flags);
    }
    machine::pin(&flags.client_cpus)?;
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
        let crowd = crowd::hold(&load, slots)?;
        report::crowd(&crowd, flags.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut contenders = vec![Contender::Dflock(flags.runtime)];
    if flags.floor {
        contenders.extend(Contender::floor(load.hold.is_zero()));
    }
    let rounds = take_turns(&contenders, &load, flags.rounds)?;
    let allocations = sdk::allocations(&load)?;
    report::rounds(&contenders, &rounds, allocations, flags.json)?;
    Ok(ExitCode::SUCCESS)
}
