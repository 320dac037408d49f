//! Shared code of the example programs. Each program is a file in this folder.

use std::error::Error;
use std::process::ExitCode;

use dflock::Client;
use dflock::server::Server;

/// Result of an example.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Returns a client of the servers in `DFLOCK_SERVERS`, or of new embedded servers if it is not
/// set.
///
/// The embedded servers run until they are dropped.
///
/// # Errors
///
/// Returns an error if an option is invalid or no port is free.
pub async fn connect(
    servers: usize,
) -> Result<(Client, Vec<Server>), Box<dyn Error + Send + Sync>> {
    if std::env::var_os("DFLOCK_SERVERS").is_some() {
        return Ok((Client::from_env()?, Vec::new()));
    }
    let mut embedded = Vec::new();
    for _ in 0..servers {
        embedded.push(Server::start().await?);
    }
    let client = Client::builder()
        .servers(embedded.iter().map(|server| server.addr().to_string()))
        .fencing(true)
        .build()?;
    Ok((client, embedded))
}

/// Prints the error of an example, if any, and returns the exit code.
#[must_use]
pub fn finish(outcome: Outcome) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!(
        "error: {error}{}",
        error
            .source()
            .map(|source| format!(": {source}"))
            .unwrap_or_default()
    );
    ExitCode::FAILURE
}
