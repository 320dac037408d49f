//! Which servers, and how to reach them.

use std::path::{Path, PathBuf};

use dflock::{ClientBuilder, Tls};

use crate::status::Failure;

/// What the command line says of the servers; what it does not say, the environment does.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Servers")]
pub(crate) struct ServerOptions {
    /// Servers, host:port with commas between them, in the same order for all [default: `$DFLOCK_SERVERS`, or 127.0.0.1:6388]
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    servers: Vec<String>,

    /// File with the secret that the servers ask for [default: `$DFLOCK_AUTH_TOKEN_FILE`, or `$DFLOCK_AUTH_TOKEN`]
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,

    /// PEM file with the certificates to trust; with it, TLS [default: `$DFLOCK_TLS_CA`, or as `$DFLOCK_TLS` says]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

impl ServerOptions {
    /// The options of a client of these servers.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Failure> {
        let mut builder = ClientBuilder::from_env()?;
        if !self.servers.is_empty() {
            builder = builder.servers(self.servers.iter().map(|server| server.trim()));
        }
        if let Some(path) = &self.auth_token_file {
            builder = builder.auth(secret(path)?);
        }
        if let Some(path) = &self.tls_ca {
            builder = builder.tls(Tls::ca_pem_file(path)?);
        }
        Ok(builder)
    }
}

/// The secret in a file; white space around it does not count.
pub(crate) fn secret(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("the secret in {} cannot be read: {error}", path.display())))?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(Failure::usage(format!("{} has no secret in it", path.display())));
    }
    Ok(secret.to_owned())
}
