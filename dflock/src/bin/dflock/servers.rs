//! Which servers, and how to reach them.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use dflock::{ClientBuilder, Tls};

use crate::duration::duration;
use crate::status::Failure;

/// What the command line says of the servers; what it does not say, the environment does.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Servers")]
pub(crate) struct ServerOptions {
    /// Servers, host:port with commas between them, in the same order for all [default: `$DFLOCK_SERVERS`, or 127.0.0.1:6388]
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    servers: Vec<String>,

    /// File with the secret that the servers ask for [default: `$DFLOCK_AUTH_TOKEN_FILE` or `$DFLOCK_AUTH_TOKEN`, not both]
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,

    /// PEM file with the certificates to trust; with it, TLS [default: `$DFLOCK_TLS_CA`, or as `$DFLOCK_TLS` says]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// The servers' --read-timeout, the smallest of any server, such as 3s [default: `$DFLOCK_SERVER_READ_TIMEOUT`, or 23s]
    ///
    /// After this much silence a server gives a slot away, so a slot is believed for no longer. Without `$DFLOCK_HEARTBEAT` the
    /// lease is renewed each third of it at least, or each 8s if it is 23s or more.
    #[arg(long, value_parser = some_time, value_name = "TIME")]
    server_read_timeout: Option<Duration>,
}

impl ServerOptions {
    /// The options of a client of these servers.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Failure> {
        let mut builder = ClientBuilder::from_lookup(|name| self.variable(name))?;
        if !self.servers.is_empty() {
            builder = builder.servers(self.servers.iter().map(|server| server.trim()));
        }
        if let Some(path) = &self.auth_token_file {
            builder = builder.auth_file(path);
        }
        if let Some(path) = &self.tls_ca {
            builder = builder.tls(Tls::ca_pem_file(path)?);
        }
        if self.is_secret() && !self.is_tls() {
            let client = builder.clone().build()?;
            if let Some(server) = client.servers().find(|server| !is_local(server)) {
                // nobody is left to tell when this fails
                let _ = writeln!(
                    io::stderr(),
                    "dflock: warning: the secret goes to {server} in the clear; use TLS, with --tls-ca or DFLOCK_TLS"
                );
            }
        }
        Ok(builder)
    }

    /// Whether there is a secret; the variables have been found to make sense.
    fn is_secret(&self) -> bool {
        let said = |name| self.variable(name).is_some_and(|value| !value.is_empty());
        self.auth_token_file.is_some()
            || said("DFLOCK_AUTH_TOKEN")
            || said("DFLOCK_AUTH_TOKEN_FILE")
    }

    /// Whether there is TLS; the variables have been found to make sense.
    fn is_tls(&self) -> bool {
        self.tls_ca.is_some()
            || self.variable("DFLOCK_TLS_CA").is_some()
            || self.variable("DFLOCK_TLS").is_some_and(|tls| tls != "off")
    }

    /// What is left to a variable of the environment: nothing that an option says.
    fn variable(&self, name: &str) -> Option<OsString> {
        let replaced = match name {
            "DFLOCK_SERVERS" => !self.servers.is_empty(),
            "DFLOCK_AUTH_TOKEN" | "DFLOCK_AUTH_TOKEN_FILE" => self.auth_token_file.is_some(),
            "DFLOCK_TLS" | "DFLOCK_TLS_CA" => self.tls_ca.is_some(),
            "DFLOCK_SERVER_READ_TIMEOUT" => {
                // the heartbeat follows from it in the same way
                return self
                    .server_read_timeout
                    .map(|time| time.as_secs_f64().to_string().into())
                    .or_else(|| env::var_os(name));
            }
            _ => false,
        };
        if replaced { None } else { env::var_os(name) }
    }
}

/// Parses a time that is more than none, and less than a mistake.
fn some_time(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let time = duration(text)?;
    if time.is_zero() || time > YEAR {
        Err("it must be more than 0, and a year at most".to_owned())
    } else {
        Ok(time)
    }
}

/// Whether what is sent to `server`, as `host:port`, stays on this machine.
fn is_local(server: &str) -> bool {
    let host = server
        .rsplit_once(':')
        .map_or(server, |(host, _)| host)
        .trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}
