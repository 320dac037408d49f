//! What the example programs of dflock share; each of them is a file of its own in this folder.

use std::error::Error;
use std::process::ExitCode;

use dflock::Client;
use dflock::server::Server;

/// What an example ends with.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// A client of the servers of `DFLOCK_SERVERS`; without it, of as many embedded servers as wanted, which run until they are dropped.
///
/// # Errors
///
/// When an option is refused, or when there is no free port.
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

/// Says in words what went wrong, if something did.
#[must_use]
pub fn finish(outcome: Outcome) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!(
        "error: {error}{}",
        error
            .source()
            .map(|why| format!(": {why}"))
            .unwrap_or_default()
    );
    ExitCode::FAILURE
}
