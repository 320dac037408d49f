//! `dflock holders` and `dflock revoke`, on an etcd cluster.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use dflock::{Error, Holder, Operation};
use serde_json::json;
use unicode_width::UnicodeWidthStr;

use crate::args::{HoldersOptions, RevokeOptions};
use crate::error::CliError;
use crate::escape::escape;
use crate::output::print;

/// Lists the holders of a key.
pub(crate) async fn holders(options: HoldersOptions) -> Result<ExitCode, CliError> {
    let client = options.client.builder()?.build()?;
    let holders = client.holders(&options.key).await?;
    let text = if options.json {
        json(&holders)
    } else {
        table(&holders, SystemTime::now())
    };
    print(text.as_bytes())
}

/// Takes the slot of a holder away.
pub(crate) async fn revoke(options: RevokeOptions) -> Result<ExitCode, CliError> {
    let RevokeOptions { key, token, client } = options;
    let client = client.builder()?.build()?;
    let holders = client.holders(&key).await.map_err(|mut error| {
        // The list of holders is not what was asked for.
        if let Error::Unsupported { context, .. } = &mut error {
            context.operation = Operation::Revoke;
        }
        error
    })?;
    let holder = holders.iter().find(|holder| holder.token.as_str() == token);
    if let Some(holder) = holder
        && client.revoke(&key, &holder.token).await?
    {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::no_such_holder(&key))
}

/// Returns one line with an array.
fn json(holders: &[Holder]) -> String {
    let holders = holders.iter().map(|holder| {
        json!({
            "token": holder.token.as_str(),
            "kind": kind(holder),
            "permits": holder.permits,
            "limit": holder.limit,
            "host": holder.host,
            "pid": holder.pid,
            "program": holder.program,
            "joined_at": seconds_since_epoch(holder.joined_at),
        })
    });
    format!("{}\n", holders.collect::<serde_json::Value>())
}

fn kind(holder: &Holder) -> &'static str {
    if holder.is_lock { "lock" } else { "semaphore" }
}

fn seconds_since_epoch(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}

/// Returns the table, with a line for each holder.
fn table(holders: &[Holder], now: SystemTime) -> String {
    if holders.is_empty() {
        return "no holders\n".to_owned();
    }
    let head = [
        "TOKEN", "KIND", "PERMITS", "HOST", "PID", "PROGRAM", "JOINED",
    ]
    .map(str::to_owned);
    let rows = holders.iter().map(|holder| {
        // By the clocks of two machines.
        let age = now.duration_since(holder.joined_at).unwrap_or_default();
        [
            holder.token.as_str().to_owned(),
            kind(holder).to_owned(),
            format!("{}/{}", holder.permits, holder.limit),
            escape(&holder.host),
            holder.pid.to_string(),
            escape(&holder.program),
            format!("{} s ago", age.as_secs()),
        ]
    });
    let rows: Vec<_> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            // `format!` pads by characters, but a terminal has columns.
            let pad = width(column).unwrap_or(0) - cell.width();
            format!("{cell}{}", " ".repeat(pad))
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
