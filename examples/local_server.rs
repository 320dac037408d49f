//! The embedded server as a separate program, with the flags of `dflockd`.
//!
//! ```text
//! cargo run --example local_server -- --port 6388
//! ```

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser};
use dflock::server::{Server, ServerConfig, ServerTls};
use tokio::signal::unix::{SignalKind, signal};

/// A dflockd-compatible server. Times are in seconds.
#[derive(Parser)]
struct Flags {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 for a free one
    #[arg(long, default_value_t = 6388)]
    port: u16,
    /// Lease of requests without a lease
    #[arg(long, default_value = "33", value_parser = seconds)]
    default_lease_ttl: Duration,
    /// Interval between checks for expired leases
    #[arg(long, default_value = "1", value_parser = seconds)]
    lease_sweep_interval: Duration,
    /// Interval between checks for idle keys
    #[arg(long, default_value = "5", value_parser = seconds)]
    gc_interval: Duration,
    /// Time after which an idle key is removed
    #[arg(long, default_value = "60", value_parser = seconds)]
    gc_max_idle: Duration,
    /// Maximum number of keys
    #[arg(long, default_value_t = 1024)]
    max_locks: usize,
    /// Maximum number of waiters of a key; 0 for no limit
    #[arg(long, default_value_t = 0)]
    max_waiters: usize,
    /// Maximum number of connections; 0 for no limit
    #[arg(long, default_value_t = 0)]
    max_connections: usize,
    /// Time after which a connection without requests is closed
    #[arg(long, default_value = "23", value_parser = seconds)]
    read_timeout: Duration,
    /// Time after which an unread reply closes the connection; 0 for no limit
    #[arg(long, default_value = "5", value_parser = seconds)]
    write_timeout: Duration,
    /// Time for which a shutdown waits for holders; 0 for no limit
    #[arg(long, default_value = "30", value_parser = seconds)]
    shutdown_timeout: Duration,
    /// Auth token that clients must send; visible in the list of processes
    #[arg(
        long,
        default_value = "",
        conflicts_with = "auth_token_file",
        hide_default_value = true
    )]
    auth_token: String,
    /// File with the auth token
    #[arg(long)]
    auth_token_file: Option<PathBuf>,
    /// PEM file with the TLS certificate, followed by its chain
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Free a slot when its connection closes
    #[arg(
        long,
        default_value = "true",
        value_parser = BoolishValueParser::new(),
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    auto_release_on_disconnect: bool,
}

impl Flags {
    fn into_config(self) -> Result<ServerConfig, String> {
        let token = match &self.auth_token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            None => self.auth_token,
        };
        if token.trim().is_empty() && (self.auth_token_file.is_some() || !token.is_empty()) {
            return Err(
                "the auth token is empty: omit it, or set one that is not empty".to_owned(),
            );
        }
        // Brackets separate an IPv6 address from the port.
        let host = if self.host.contains(':') {
            format!("[{}]", self.host.trim_matches(['[', ']']))
        } else {
            self.host
        };
        let tls = match self.tls_cert.zip(self.tls_key) {
            Some((chain, key)) => {
                Some(ServerTls::pem_files(chain, key).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        Ok(Server::builder()
            .bind(format!("{host}:{}", self.port))
            .auth_token(token.trim())
            .tls(tls)
            .default_lease(self.default_lease_ttl)
            .lease_sweep_interval(self.lease_sweep_interval)
            .gc_interval(self.gc_interval)
            .gc_max_idle(self.gc_max_idle)
            .max_keys(self.max_locks)
            .max_waiters(self.max_waiters)
            .max_connections(self.max_connections)
            .read_timeout(self.read_timeout)
            .write_timeout(self.write_timeout)
            .shutdown_timeout(self.shutdown_timeout)
            .auto_release(self.auto_release_on_disconnect)
            .build())
    }
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run(Flags::parse()).await else {
        return ExitCode::SUCCESS;
    };
    eprintln!(
        "error: {error}{}",
        error
            .source()
            .map(|source| format!(": {source}"))
            .unwrap_or_default()
    );
    ExitCode::from(2)
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let server = flags.into_config()?.start().await?;
    // Registered before the address is printed, because a client may send a signal right after it.
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    writeln!(std::io::stdout(), "{}", server.addr())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.shutdown().await;
    Ok(())
}
