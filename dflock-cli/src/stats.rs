//! `dflock stats`: shows the holders and the queue of each key.

use std::io::{self, Write};
use std::process::ExitCode;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use dflock::cli_support::cluster;
use dflock::{Client, Error, Stats};
use serde_json::json;
use tokio::task::JoinSet;

use crate::args::StatsOptions;
use crate::error::CliError;
use crate::exit_code::{self, UNAVAILABLE};
use crate::message::message;
use crate::signals::pid_1_termination;
use crate::table::table;

/// The statistics of one server, or the error.
pub(crate) struct Report {
    pub(crate) server: String,
    pub(crate) stats: Result<Stats, Error>,
}

pub(crate) async fn stats(options: StatsOptions) -> Result<ExitCode, CliError> {
    tokio::select! {
        exit_code = show(options) => exit_code,
        signal = pid_1_termination() => match signal {
            Ok(signal) => Ok(exit_code::from_signal(signal)),
            Err(error) => Err(CliError::system("cannot listen for signals", &error)),
        },
    }
}

async fn show(options: StatsOptions) -> Result<ExitCode, CliError> {
    let builder = options.client.builder()?;
    let all = builder.clone().build()?;
    // One client for each server, so that the failure of one server does not hide the others.
    let clients: Vec<_> = match cluster(&all) {
        Some(_) => vec![all],
        None => all
            .servers()
            .map(|server| builder.clone().servers([server]).build())
            .collect::<Result<_, _>>()?,
    };
    let stdout = AutoStream::auto(io::stdout());
    let screen = options.watch && !options.json && stdout.is_terminal();
    loop {
        let reports = fetch(&clients).await;
        let text = if options.json {
            json(&reports)
        } else {
            let table = table(&reports);
            match stdout.current_choice() {
                // Standard output is no terminal that supports colors, or `NO_COLOR` is set.
                ColorChoice::Never => strip_str(&table).to_string(),
                _ => table,
            }
        };
        // Overwrite the previous output instead of clearing it first, which would flicker.
        let text = if screen {
            format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
        } else {
            text
        };
        match io::stdout()
            .write_all(text.as_bytes())
            .and_then(|()| io::stdout().flush())
        {
            Ok(()) => {}
            // Not an error: the reader, such as `head`, has closed the pipe early.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(CliError::system("cannot write to standard output", &error)),
        }
        if !options.watch {
            let all_ok = reports.iter().all(|report| report.stats.is_ok());
            return Ok(if all_ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(UNAVAILABLE)
            });
        }
        tokio::time::sleep(options.interval).await;
    }
}

/// Queries all servers concurrently. Returns the reports in the order of `clients`.
async fn fetch(clients: &[Client]) -> Vec<Report> {
    let mut queries = JoinSet::new();
    for (index, client) in clients.iter().cloned().enumerate() {
        queries.spawn(async move {
            let server = cluster(&client).unwrap_or_else(|| client.servers().collect());
            // The client has one server or one cluster.
            let stats = client
                .stats()
                .await
                .map(|mut all| all.pop().unwrap_or_default());
            (index, Report { server, stats })
        });
    }
    let mut reports = queries.join_all().await;
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Returns the reports as one line of JSON, so that a reader of `--watch` can parse it line by
/// line.
fn json(reports: &[Report]) -> String {
    let servers = reports.iter().map(|Report { server, stats }| match stats {
        Ok(stats) => json!({ "server": server, "stats": stats }),
        Err(error) => json!({ "server": server, "error": message(error) }),
    });
    format!("{}\n", servers.collect::<serde_json::Value>())
}
