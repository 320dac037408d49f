//! `dflock stats`: who holds what.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use dflock::{Client, Error, Stats};
use serde_json::json;
use tokio::task::JoinSet;

use crate::args::StatsOptions;
use crate::signals::end_of_pid_1;
use crate::status::{Failure, UNAVAILABLE, of_signal, said};
use crate::table::{Look, table};

/// What one server says.
pub(crate) struct Report {
    pub(crate) server: String,
    pub(crate) stats: Result<Stats, Error>,
}

pub(crate) async fn stats(options: StatsOptions) -> Result<ExitCode, Failure> {
    tokio::select! {
        ended = show(options) => ended,
        signal = end_of_pid_1() => match signal {
            Ok(signal) => Ok(of_signal(signal)),
            Err(error) => Err(Failure::system("cannot listen for signals", &error)),
        },
    }
}

async fn show(options: StatsOptions) -> Result<ExitCode, Failure> {
    let builder = options.servers.builder()?;
    let all = builder.clone().build()?;
    // a client for each: what one says is shown whether another answers or not
    let clients: Vec<_> = all
        .servers()
        .map(|server| builder.clone().servers([server]).build())
        .collect::<Result<_, _>>()?;
    let screen = options.watch && !options.json && io::stdout().is_terminal();
    loop {
        let reports = ask(&clients).await;
        let text = if options.json {
            json(&reports)
        } else {
            table(&reports, Look::of_stdout())
        };
        // over what was there, without a flicker
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
            // who reads only the beginning, such as `head`, has what he wants
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(Failure::system("cannot print", &error)),
        }
        if !options.watch {
            let all_well = reports.iter().all(|report| report.stats.is_ok());
            return Ok(if all_well {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(UNAVAILABLE)
            });
        }
        tokio::time::sleep(options.interval).await;
    }
}

/// Asks all at once; the reports are in the order of `clients`.
async fn ask(clients: &[Client]) -> Vec<Report> {
    let mut asked = JoinSet::new();
    for (index, client) in clients.iter().cloned().enumerate() {
        asked.spawn(async move {
            let server = client.servers().collect();
            // of one server, so there is one
            let stats = client
                .stats()
                .await
                .map(|mut all| all.pop().unwrap_or_default());
            (index, Report { server, stats })
        });
    }
    let mut reports = asked.join_all().await;
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// One line, so that a reader of `--watch` knows where an answer ends.
fn json(reports: &[Report]) -> String {
    let servers = reports.iter().map(|Report { server, stats }| match stats {
        Ok(stats) => json!({ "server": server, "stats": stats }),
        Err(error) => json!({ "server": server, "error": said(error) }),
    });
    format!("{}\n", servers.collect::<serde_json::Value>())
}
