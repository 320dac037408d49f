//! A client from environment variables.

use std::env::{self, VarError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::Client;
use super::builder::{LONGEST, address};
use crate::error::ConfigError;
use crate::transport::Secret;

impl Client {
    /// A client as the environment says; what it does not say has its default.
    ///
    /// | variable | means |
    /// |---|---|
    /// | `DFLOCK_SERVERS` | `host:port`, several with commas between them |
    /// | `DFLOCK_AUTH_TOKEN` | the shared secret |
    /// | `DFLOCK_AUTH_TOKEN_FILE` | a file with the shared secret; white space around it does not count |
    /// | `DFLOCK_CONNECT_TIMEOUT` | seconds, such as `5` or `0.5` |
    /// | `DFLOCK_SOCKET_TIMEOUT` | seconds, such as `5` or `0.5` |
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the variable that makes no sense.
    pub fn from_env() -> Result<Self, ConfigError> {
        from_lookup(|name| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(ConfigError::Variable { name, why: "it is not UTF-8".to_owned() }),
        })
    }
}

fn from_lookup(lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>) -> Result<Client, ConfigError> {
    let mut builder = Client::builder();
    let name = "DFLOCK_SERVERS";
    if let Some(list) = lookup(name)? {
        let servers: Vec<_> = list.split(',').map(str::trim).collect();
        for server in &servers {
            address(server).map_err(|error| variable(name, &error))?;
        }
        builder = builder.servers(servers);
    }
    let name = "DFLOCK_AUTH_TOKEN";
    if let Some(secret) = lookup(name)?.filter(|secret| !secret.is_empty()) {
        Secret::check(&secret).map_err(|error| variable(name, &error))?;
        builder = builder.auth(secret);
    } else if let Some(file) = lookup("DFLOCK_AUTH_TOKEN_FILE")? {
        builder = builder.auth(secret_of("DFLOCK_AUTH_TOKEN_FILE", &file)?);
    }
    for name in ["DFLOCK_TLS", "DFLOCK_TLS_CA"] {
        // never plain text for who asks for TLS
        if lookup(name)?.is_some_and(|value| value != "off") {
            return Err(refused(name, "this version has no TLS; unset it, or set `off`".to_owned()));
        }
    }
    if let Some(timeout) = seconds("DFLOCK_CONNECT_TIMEOUT", &lookup)? {
        builder = builder.connect_timeout(timeout);
    }
    if let Some(timeout) = seconds("DFLOCK_SOCKET_TIMEOUT", &lookup)? {
        builder = builder.socket_timeout(timeout);
    }
    builder.build()
}

fn secret_of(name: &'static str, file: &str) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| refused(name, format!("{file:?} cannot be read: {error}")))?;
    let secret = Zeroizing::new(text);
    if secret.trim().is_empty() {
        return Err(refused(name, format!("{file:?} has no secret in it")));
    }
    Secret::check(secret.trim()).map_err(|error| variable(name, &error))?;
    Ok(secret.trim().to_owned())
}

fn seconds(
    name: &'static str,
    lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = lookup(name)? else { return Ok(None) };
    let seconds = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds.filter(|seconds| !seconds.is_zero() && *seconds <= LONGEST) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(refused(name, format!("{text:?} is no number of seconds above 0, such as `5` or `0.5`"))),
    }
}

fn variable(name: &'static str, error: &ConfigError) -> ConfigError {
    refused(name, error.to_string())
}

fn refused(name: &'static str, why: String) -> ConfigError {
    ConfigError::Variable { name, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(vars: &[(&'static str, &str)]) -> Result<Client, ConfigError> {
        from_lookup(|name| Ok(vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())))
    }

    #[test]
    fn the_environment_names_the_servers() {
        let debug = format!("{:?}", client(&[]).unwrap());
        assert!(debug.contains("127.0.0.1:6388"), "{debug}");
        let debug = format!("{:?}", client(&[("DFLOCK_SERVERS", "a:1, [::1]:2"), ("DFLOCK_AUTH_TOKEN", "hush")]).unwrap());
        assert!(debug.contains(r#"["a:1", "[::1]:2"]"#), "{debug}");
        assert!(!debug.contains("hush"), "{debug}");
        let timing = client(&[("DFLOCK_SOCKET_TIMEOUT", "0.5")]).unwrap().timing();
        assert_eq!(timing.socket_timeout, Duration::from_millis(500));
    }

    #[test]
    fn a_value_that_makes_no_sense_names_its_variable() {
        for (name, value) in [
            ("DFLOCK_SERVERS", ""),
            ("DFLOCK_SERVERS", "localhost"),
            ("DFLOCK_SERVERS", "a:1,,b:2"),
            ("DFLOCK_AUTH_TOKEN", "two\nlines"),
            ("DFLOCK_AUTH_TOKEN_FILE", "no/such/file"),
            ("DFLOCK_TLS", "native"),
            ("DFLOCK_TLS_CA", "ca.pem"),
            ("DFLOCK_CONNECT_TIMEOUT", "soon"),
            ("DFLOCK_CONNECT_TIMEOUT", "0"),
            ("DFLOCK_SOCKET_TIMEOUT", "-1"),
            ("DFLOCK_SOCKET_TIMEOUT", "NaN"),
            ("DFLOCK_SOCKET_TIMEOUT", "inf"),
        ] {
            match client(&[(name, value)]) {
                Err(ConfigError::Variable { name: named, .. }) => assert_eq!(named, name),
                other => panic!("{name}={value:?}: {other:?}"),
            }
        }
    }
}
