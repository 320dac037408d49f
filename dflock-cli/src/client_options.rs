//! Options of the client that all commands share.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use dflock::cli_support::{builder_from_lookup, is_local, tls};
use dflock::{Client, ClientBuilder, ConfigError, Tls};

use crate::duration::parse_timeout;
use crate::error::CliError;
use crate::message::config_message;
use crate::warning::warn;

/// The variable with the servers of the client, separated by commas.
const SERVERS: &str = "DFLOCK_SERVERS";

/// Options of the client. An option that is not given is taken from the environment.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Servers")]
pub(crate) struct ClientOptions {
    /// Comma-separated list of servers, in the same order for every client; `etcd://HOST:PORT` for
    /// each member of an etcd cluster, in any order [default: `$DFLOCK_SERVERS`, or 127.0.0.1:6388]
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    servers: Vec<String>,

    /// File with the auth token of the servers, or with `NAME:PASSWORD` for etcd [default:
    /// `$DFLOCK_AUTH_TOKEN_FILE` or `$DFLOCK_AUTH_TOKEN`; setting both is an error]
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,

    /// PEM file with the CA certificates to trust; enables TLS [default: `$DFLOCK_TLS_CA`, or as
    /// set by `$DFLOCK_TLS`]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// PEM file with the client certificate, for servers that require one; needs TLS [default:
    /// `$DFLOCK_TLS_CERT`]
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// PEM file with the private key of the client certificate [default: `$DFLOCK_TLS_KEY`]
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Smallest --read-timeout of the servers, such as 3s [default: `$DFLOCK_SERVER_READ_TIMEOUT`,
    /// or 23s]
    ///
    /// A server frees the slots of a connection that is silent for this time, so dflock treats a
    /// slot as lost after it. Unless `$DFLOCK_HEARTBEAT` is set, the lease is renewed at least once
    /// in each third of it, or every 8s if it is 23s or more.
    #[arg(long, value_parser = parse_timeout, value_name = "TIME")]
    server_read_timeout: Option<Duration>,
}

impl ClientOptions {
    /// Returns a builder of a client with these options.
    ///
    /// Prints a warning if the auth token would be sent in clear text to another machine.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, CliError> {
        self.builder_without(None)
    }

    /// Like [`builder`](Self::builder), but ignores the variable that an option of the command
    /// replaces.
    pub(crate) fn builder_without(
        &self,
        replaced: Option<&str>,
    ) -> Result<ClientBuilder, CliError> {
        let lookup = |name| {
            let is_replaced = replaced == Some(name);
            self.variable(name).filter(|_| !is_replaced)
        };
        let trust = self.tls_ca.as_ref().map(Tls::ca_pem_file).transpose()?;
        let mut builder = builder_from_lookup(trust, lookup)?;
        if !self.servers.is_empty() {
            builder = builder.servers(self.servers.iter().map(|server| server.trim()));
        } else if let Some(servers) = env_servers()? {
            builder = builder.servers(servers);
        }
        if let Some(path) = &self.auth_token_file {
            builder = builder.auth_file(path);
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let tls = tls(&builder).cloned().ok_or_else(|| {
                CliError::usage(
                    "--tls-cert is refused without TLS; enable TLS with --tls-ca, DFLOCK_TLS_CA or \
                     DFLOCK_TLS",
                )
            })?;
            builder = builder.tls(tls.client_pem_files(cert, key)?);
        }
        if self.has_token() && tls(&builder).is_none() {
            let client = builder.clone().build()?;
            if let Some(server) = client.servers().find(|server| !is_local(server)) {
                warn(&format!(
                    "the auth token is sent to {server} in clear text; enable TLS with --tls-ca or \
                     DFLOCK_TLS"
                ));
            }
        }
        Ok(builder)
    }

    /// Returns whether an auth token is given. The variables are valid at this point.
    fn has_token(&self) -> bool {
        let is_set = |name| self.variable(name).is_some_and(|value| !value.is_empty());
        self.auth_token_file.is_some()
            || is_set("DFLOCK_AUTH_TOKEN")
            || is_set("DFLOCK_AUTH_TOKEN_FILE")
    }

    /// Returns the environment variable `name`, unless an option replaces it.
    fn variable(&self, name: &str) -> Option<OsString> {
        let replaced = match name {
            // Read by `env_servers`.
            SERVERS => true,
            "DFLOCK_AUTH_TOKEN" | "DFLOCK_AUTH_TOKEN_FILE" => self.auth_token_file.is_some(),
            "DFLOCK_TLS" | "DFLOCK_TLS_CA" => self.tls_ca.is_some(),
            "DFLOCK_TLS_CERT" | "DFLOCK_TLS_KEY" => self.tls_cert.is_some(),
            "DFLOCK_SERVER_READ_TIMEOUT" => {
                // Passed as the variable, because the default heartbeat is derived from it.
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

/// Returns the servers of [`SERVERS`], if it is set.
///
/// The library reports an invalid address in a variable as text. Read here, it is a
/// [`ConfigError::Address`], whose message names the options of `dflock`.
fn env_servers() -> Result<Option<Vec<String>>, CliError> {
    let refused = |reason| ConfigError::Variable {
        name: SERVERS,
        reason,
    };
    let Some(list) = env::var_os(SERVERS) else {
        return Ok(None);
    };
    let list = list
        .into_string()
        .map_err(|_| refused("it is not UTF-8".to_owned()))?;
    let servers: Vec<_> = list
        .split(',')
        .map(|server| server.trim().to_owned())
        .collect();
    Client::builder()
        .servers(&servers)
        .build()
        .map_err(|error| refused(config_message(&error)))?;
    Ok(Some(servers))
}
