//! `dflock serve`: the embedded server as a program.

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

use crate::children::reap_orphans;
use crate::duration::duration;
use crate::signals::InheritedMask;
use crate::status::{self, Failure};

/// The flags of the real `dflockd`.
#[derive(clap::Args)]
pub(crate) struct ServeOptions {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 for a free one
    #[arg(long, default_value_t = 6388)]
    port: u16,
    /// Lease of requests that name none
    #[arg(long, default_value = "33s", value_parser = duration)]
    default_lease_ttl: Duration,
    /// How often leases that are over are looked for
    #[arg(long, default_value = "1s", value_parser = duration)]
    lease_sweep_interval: Duration,
    /// How often idle keys are looked for
    #[arg(long, default_value = "5s", value_parser = duration)]
    gc_interval: Duration,
    /// How long an idle key is remembered
    #[arg(long, default_value = "60s", value_parser = duration)]
    gc_max_idle: Duration,
    /// How many keys there may be
    #[arg(long, default_value_t = 1024)]
    max_locks: usize,
    /// How many may wait for one key; 0 for no limit
    #[arg(long, default_value_t = 0)]
    max_waiters: usize,
    /// How many connections there may be; 0 for no limit
    #[arg(long, default_value_t = 0)]
    max_connections: usize,
    /// How long a connection may be silent
    #[arg(long, default_value = "23s", value_parser = duration)]
    read_timeout: Duration,
    /// How long a client may take to take a reply; 0 for as long as it likes
    #[arg(long, default_value = "5s", value_parser = duration)]
    write_timeout: Duration,
    /// How long holders may take to release at the end; 0 for as long as they like
    #[arg(long, default_value = "30s", value_parser = duration)]
    shutdown_timeout: Duration,
    /// Secret that every connection has to begin with; the list of processes shows it
    #[arg(long, conflicts_with = "auth_token_file")]
    auth_token: Option<String>,
    /// File with the secret
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// File with the certificate for TLS, in PEM, and behind it those that lead to its issuer
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// File with the key of the certificate
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Whether slots go with the connection that acquired them
    #[arg(long, default_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set, value_name = "BOOL")]
    auto_release_on_disconnect: bool,
}

impl ServeOptions {
    fn into_config(self) -> Result<ServerConfig, Failure> {
        let token = Zeroizing::new(self.auth_token.unwrap_or_default());
        if token.trim().is_empty() && !token.is_empty() {
            return Err(Failure::usage(
                "the secret is empty: leave it out, or give one that is not",
            ));
        }
        let tls = match self.tls_cert.zip(self.tls_key) {
            Some((chain, key)) => Some(ServerTls::pem_files(chain, key)?),
            None => None,
        };
        // an IPv6 address is told from its port by brackets
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

pub(crate) async fn serve(options: ServeOptions) -> Result<ExitCode, Failure> {
    let failed = |error| Failure::system("cannot listen for signals", &error);
    // before any other thread is started, as each inherits the mask; it starts no process that would
    // get it back
    InheritedMask::unblock().map_err(failed)?;
    let server = options.into_config()?.start().await?;
    // from before the address is known, so that none is missed
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    // as with the real server, they have no effect; their default actions would end this process
    for kind in [
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::alarm(),
    ] {
        drop(signal(kind).map_err(failed)?);
    }
    let mut asked = async || {
        tokio::select! {
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
        }
    };
    writeln!(io::stdout(), "{}", server.addr())
        .map_err(|error| Failure::system("cannot print the address", &error))?;
    let ended = async {
        asked().await;
        tokio::select! {
            () = server.shutdown() => ExitCode::SUCCESS,
            signal = asked() => status::of_signal(signal),
        }
    };
    tokio::select! {
        ended = ended => Ok(ended),
        never = reap_orphans() => match never {},
    }
}
