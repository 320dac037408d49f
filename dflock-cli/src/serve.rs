//! `dflock serve`: runs the embedded server.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::BoolishValueParser;
use dflock::server::{Server, ServerConfig, ServerTls};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::duration::parse_duration;
use crate::error::CliError;
use crate::exit_code;
use crate::reaper::reap_orphans;
use crate::signals::InheritedMask;

/// Options of the server, with the flags and defaults of `dflockd`.
#[derive(clap::Args)]
pub(crate) struct ServeOptions {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 selects a free port
    #[arg(long, default_value_t = 6388)]
    port: u16,
    /// Lease of requests that do not set one
    #[arg(long, default_value = "33s", value_parser = parse_duration, value_name = "TIME")]
    default_lease_ttl: Duration,
    /// Interval at which expired leases are swept
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    lease_sweep_interval: Duration,
    /// Interval at which idle keys are collected
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    gc_interval: Duration,
    /// Time after which an idle key is collected
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    gc_max_idle: Duration,
    /// Maximum number of keys
    #[arg(long, default_value_t = 1024)]
    max_locks: usize,
    /// Maximum number of waiters of one key; 0 means no limit
    #[arg(long, default_value_t = 0)]
    max_waiters: usize,
    /// Maximum number of connections; 0 means no limit
    #[arg(long, default_value_t = 0)]
    max_connections: usize,
    /// Time after which a silent connection is closed
    #[arg(long, default_value = "23s", value_parser = parse_duration, value_name = "TIME")]
    read_timeout: Duration,
    /// Time in which a client has to read a reply; 0 means no limit
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    write_timeout: Duration,
    /// Time that a shutdown waits for slots to be released; 0 means no limit
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    shutdown_timeout: Duration,
    /// Auth token that clients must send; visible in the process list
    #[arg(long, conflicts_with = "auth_token_file")]
    auth_token: Option<String>,
    /// File with the auth token
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// PEM file with the TLS certificate, followed by its intermediate certificates
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Release the slots of a connection when it is closed
    #[arg(
        long,
        default_value = "true",
        value_parser = BoolishValueParser::new(),
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    auto_release_on_disconnect: bool,
}

impl ServeOptions {
    fn into_config(self) -> Result<ServerConfig, CliError> {
        let token = self.auth_token.map(Zeroizing::new);
        if token.as_ref().is_some_and(|token| token.trim().is_empty()) {
            return Err(CliError::usage(
                "the auth token is empty; omit --auth-token to run without one",
            ));
        }
        let token = token.unwrap_or_default();
        let tls = match self.tls_cert.zip(self.tls_key) {
            Some((chain, key)) => Some(ServerTls::pem_files(chain, key)?),
            None => None,
        };
        // An IPv6 address needs brackets before a port.
        let host = if self.host.contains(':') {
            format!("[{}]", self.host.trim_matches(['[', ']']))
        } else {
            self.host
        };
        let config = Server::builder()
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
            .build();
        match self.auth_token_file {
            Some(path) => Ok(config.auth_token_file(path)?),
            None => Ok(config),
        }
    }
}

/// Runs the server until SIGINT or SIGTERM.
pub(crate) async fn serve(options: ServeOptions) -> Result<ExitCode, CliError> {
    let no_signals = |error| CliError::system("cannot listen for signals", &error);
    // Before any other thread is started: each thread inherits the mask. The inherited mask is not
    // kept, because the server starts no processes.
    InheritedMask::unblock().map_err(no_signals)?;
    let server = options.into_config()?.start().await?;
    // Before the address is printed, so that no signal is missed.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    // As in dflockd, these signals have no effect. Their default actions would end this process.
    for kind in [
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::alarm(),
    ] {
        drop(signal(kind).map_err(no_signals)?);
    }
    let mut stop_signal = async || {
        tokio::select! {
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
        }
    };
    writeln!(io::stdout(), "{}", server.addr())
        .map_err(|error| CliError::system("cannot print the address", &error))?;
    let exit_code = async {
        stop_signal().await;
        tokio::select! {
            () = server.shutdown() => ExitCode::SUCCESS,
            signal = stop_signal() => exit_code::from_signal(signal),
        }
    };
    tokio::select! {
        exit_code = exit_code => Ok(exit_code),
        never = reap_orphans() => match never {},
    }
}
