//! Client options from environment variables.

mod tls;

use std::env;
use std::ffi::OsString;
use std::time::Duration;

use zeroize::Zeroizing;

use super::address::check_addresses;
use super::builder::LONGEST;
use super::{Client, ClientBuilder};
use crate::engine::dflockd::{AuthToken, AuthTokenFile, Reloadable};
use crate::error::{AuthTokenFileErrorKind, ConfigError};

const AUTH: &str = "DFLOCK_AUTH_TOKEN";
const AUTH_FILE: &str = "DFLOCK_AUTH_TOKEN_FILE";
const HEARTBEAT: &str = "DFLOCK_HEARTBEAT";
const TLS: &str = "DFLOCK_TLS";
const TLS_CA: &str = "DFLOCK_TLS_CA";

impl Client {
    /// Returns a client with the options of the environment variables, and defaults for the others.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `DFLOCK_SERVERS` | `host:port`, several separated by commas |
    /// | `DFLOCK_AUTH_TOKEN` | the auth token; an empty one is none |
    /// | `DFLOCK_AUTH_TOKEN_FILE` | the file of the auth token, see [`auth_file`] |
    /// | `DFLOCK_TLS` | `native`: TLS with the root certificates of the system; `off`: no TLS |
    /// | `DFLOCK_TLS_CA` | a PEM file of CA certificates, which enables TLS; see below |
    /// | `DFLOCK_CONNECT_TIMEOUT` | seconds, such as `5` or `0.5` |
    /// | `DFLOCK_SOCKET_TIMEOUT` | seconds, such as `5` or `0.5` |
    /// | `DFLOCK_SERVER_READ_TIMEOUT` | the smallest `--read-timeout` of the servers, in seconds |
    /// | `DFLOCK_HEARTBEAT` | seconds; the default is that of [`heartbeat`] |
    /// | `DFLOCK_MAX_CONNECTION_AGE` | seconds until an idle connection is closed; default 300 |
    ///
    /// `DFLOCK_AUTH_TOKEN` and `DFLOCK_AUTH_TOKEN_FILE` are not allowed together.
    ///
    /// The file of `DFLOCK_TLS_CA` is read again when it changes. With `DFLOCK_TLS=native` the
    /// certificates of the system are trusted as well. It is not allowed with `DFLOCK_TLS=off`.
    ///
    /// [`auth_file`]: ClientBuilder::auth_file
    /// [`heartbeat`]: ClientBuilder::heartbeat
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the invalid variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        build(ClientBuilder::from_env()?)
    }
}

impl ClientBuilder {
    /// Returns a builder with the options of the environment variables of [`Client::from_env`].
    ///
    /// Options that are set on it take precedence.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the invalid variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(env::var_os)
    }

    /// Returns a builder with the options that `lookup` returns for the variables of
    /// [`Client::from_env`].
    ///
    /// This is for programs that replace a variable by another option: `lookup` returns `None` for
    /// it, and the variable is ignored.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the invalid variable.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), dflock::ConfigError> {
    /// // The file of another auth token is not even opened.
    /// let replaced = ["DFLOCK_AUTH_TOKEN", "DFLOCK_AUTH_TOKEN_FILE"];
    /// let lookup = |name: &str| {
    ///     if replaced.contains(&name) { None } else { std::env::var_os(name) }
    /// };
    /// let client = dflock::ClientBuilder::from_lookup(lookup)?.auth("hush").build()?;
    /// # Ok(()) }
    /// ```
    pub fn from_lookup(
        lookup: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        from_text(|name| match lookup(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(value)),
            None => Ok(None),
            Some(Err(_)) => Err(refused(name, "it is not UTF-8".to_owned())),
        })
    }
}

fn from_text(
    lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<ClientBuilder, ConfigError> {
    let mut builder = Client::builder();
    let name = "DFLOCK_SERVERS";
    if let Some(list) = lookup(name)? {
        let servers = list.split(',').map(str::trim);
        check_addresses(servers.clone()).map_err(|error| variable(name, &error))?;
        builder = builder.servers(servers);
    }
    let token = lookup(AUTH)?
        .map(Zeroizing::new)
        .filter(|token| !token.is_empty());
    builder = match (token, lookup(AUTH_FILE)?) {
        (None, None) => builder,
        (Some(token), None) => {
            let token = AuthToken::new(token)
                .map_err(|kind| variable(AUTH, &ConfigError::AuthToken { kind }))?;
            builder.auth_token(token.map(Reloadable::fixed))
        }
        (None, Some(file)) => {
            let token = AuthTokenFile::open(file.into()).map_err(|error| match error {
                // Omit the path: the value may be the auth token itself, in the wrong variable.
                ConfigError::AuthTokenFile { kind, .. } => {
                    let kind = match kind {
                        AuthTokenFileErrorKind::Unreadable { error } => {
                            AuthTokenFileErrorKind::NotPath { error }
                        }
                        kind => kind,
                    };
                    refused(AUTH_FILE, kind.to_string())
                }
                error => variable(AUTH_FILE, &error),
            })?;
            builder.auth_token(Some(token))
        }
        (Some(_), Some(_)) => {
            return Err(refused(
                AUTH_FILE,
                format!("`{AUTH}` is set, too; unset one of the two"),
            ));
        }
    };
    builder = tls::secured(builder, &lookup)?;
    if let Some(timeout) = seconds("DFLOCK_CONNECT_TIMEOUT", &lookup)? {
        builder = builder.connect_timeout(timeout);
    }
    if let Some(timeout) = seconds("DFLOCK_SOCKET_TIMEOUT", &lookup)? {
        builder = builder.socket_timeout(timeout);
    }
    if let Some(age) = seconds("DFLOCK_MAX_CONNECTION_AGE", &lookup)? {
        builder = builder.max_connection_age(age);
    }
    if let Some(timeout) = seconds("DFLOCK_SERVER_READ_TIMEOUT", &lookup)? {
        builder = builder.server_read_timeout(timeout);
    }
    if let Some(heartbeat) = seconds(HEARTBEAT, &lookup)? {
        builder = builder.heartbeat(heartbeat);
    }
    Ok(builder)
}

fn build(builder: ClientBuilder) -> Result<Client, ConfigError> {
    match builder.build() {
        // The expected certificate name is derived from the host.
        Err(error @ ConfigError::ServerName { .. }) => Err(variable("DFLOCK_SERVERS", &error)),
        Err(
            error @ ConfigError::Duration {
                option: "heartbeat",
                ..
            },
        ) => Err(variable(HEARTBEAT, &error)),
        result => result,
    }
}

fn seconds(
    name: &'static str,
    lookup: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = lookup(name)? else {
        return Ok(None);
    };
    let seconds = text
        .trim()
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds.filter(|seconds| !seconds.is_zero() && *seconds <= LONGEST) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(refused(
            name,
            format!("{text:?} is no number of seconds above 0, such as `5` or `0.5`"),
        )),
    }
}

fn variable(name: &'static str, error: &ConfigError) -> ConfigError {
    refused(name, error.to_string())
}

fn refused(name: &'static str, reason: String) -> ConfigError {
    ConfigError::Variable { name, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(vars: &[(&'static str, &str)]) -> Result<Client, ConfigError> {
        build(ClientBuilder::from_lookup(|name| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).into())
        })?)
    }

    #[test]
    fn environment_variables_set_the_options() {
        let debug = format!("{:?}", client(&[]).unwrap());
        assert!(debug.contains("127.0.0.1:6388"), "{debug}");
        let debug = format!(
            "{:?}",
            client(&[
                ("DFLOCK_SERVERS", "a:1, [::1]:2"),
                ("DFLOCK_AUTH_TOKEN", "hush")
            ])
            .unwrap()
        );
        assert!(debug.contains(r#"["a:1", "[::1]:2"]"#), "{debug}");
        assert!(!debug.contains("hush"), "{debug}");
        let timing = client(&[("DFLOCK_SOCKET_TIMEOUT", "0.5")])
            .unwrap()
            .timing()
            .clone();
        assert_eq!(timing.socket_timeout, Duration::from_millis(500));
    }

    #[test]
    fn an_invalid_value_is_an_error_with_the_variable() {
        for (name, value) in [
            ("DFLOCK_SERVERS", ""),
            ("DFLOCK_SERVERS", "localhost"),
            ("DFLOCK_SERVERS", "a:1,,b:2"),
            ("DFLOCK_AUTH_TOKEN", "two\nlines"),
            ("DFLOCK_AUTH_TOKEN_FILE", "no/such/file"),
            ("DFLOCK_TLS", ""),
            ("DFLOCK_TLS", "on"),
            ("DFLOCK_TLS", "NATIVE"),
            ("DFLOCK_TLS_CA", ""),
            ("DFLOCK_TLS_CA", "no/such/file"),
            ("DFLOCK_CONNECT_TIMEOUT", "soon"),
            ("DFLOCK_CONNECT_TIMEOUT", "0"),
            ("DFLOCK_SOCKET_TIMEOUT", "-1"),
            ("DFLOCK_SOCKET_TIMEOUT", "NaN"),
            ("DFLOCK_SOCKET_TIMEOUT", "inf"),
            ("DFLOCK_SERVER_READ_TIMEOUT", "0"),
            ("DFLOCK_SERVER_READ_TIMEOUT", "3s"),
            ("DFLOCK_MAX_CONNECTION_AGE", "0"),
            ("DFLOCK_MAX_CONNECTION_AGE", "5m"),
            ("DFLOCK_HEARTBEAT", "0"),
            // The default read timeout of the servers.
            ("DFLOCK_HEARTBEAT", "23"),
        ] {
            match client(&[(name, value)]) {
                Err(ConfigError::Variable { name: named, .. }) => assert_eq!(named, name),
                other => panic!("{name}={value:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_default_heartbeat_is_derived_from_the_read_timeout() {
        const READ_TIMEOUT: &str = "DFLOCK_SERVER_READ_TIMEOUT";
        for (vars, read_timeout, heartbeat) in [
            (&[][..], 23, 8),
            (&[(READ_TIMEOUT, "3")], 3, 1),
            (&[(READ_TIMEOUT, "60")], 60, 8),
            (&[(READ_TIMEOUT, "60"), (HEARTBEAT, "20")], 60, 20),
            (&[(READ_TIMEOUT, "9"), (HEARTBEAT, "1")], 9, 1),
            (&[(HEARTBEAT, "2")], 23, 2),
        ] {
            let timing = client(vars).unwrap().timing().clone();
            let want = (
                Duration::from_secs(read_timeout),
                Duration::from_secs(heartbeat),
            );
            assert_eq!(
                (timing.server_read_timeout, timing.heartbeat),
                want,
                "{vars:?}"
            );
        }
    }

    #[test]
    fn the_auth_token_has_one_source() {
        for vars in [
            &[(AUTH, ""), (AUTH_FILE, "no/such/file")][..],
            &[(AUTH, "hush"), (AUTH_FILE, "no/such/file")],
        ] {
            let Err(ConfigError::Variable { name, reason }) = client(vars) else {
                panic!("{vars:?}")
            };
            assert_eq!(
                (name, reason.contains("unset one of the two")),
                (AUTH_FILE, !vars[0].1.is_empty()),
                "{reason}"
            );
            assert!(!reason.contains("hush"));
        }
        let debug = format!("{:?}", client(&[(AUTH, "")]).unwrap());
        assert!(debug.contains("auth_token: None"), "{debug}");
    }

    #[test]
    fn tls_can_be_switched_off() {
        let debug = format!("{:?}", client(&[(TLS, "off")]).unwrap());
        assert!(debug.contains("tls: None"), "{debug}");
    }

    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    #[test]
    fn tls_variables_are_applied_or_refused() {
        let named = |vars: &[_]| match client(vars) {
            Err(ConfigError::Variable { name, reason }) => (name, reason),
            other => panic!("{vars:?}: {other:?}"),
        };
        let (name, reason) = named(&[(TLS, "off"), (TLS_CA, "ca.pem")]);
        assert_eq!((name, reason.contains(TLS)), (TLS_CA, true), "{reason}");
        // Both are used, so both must be valid.
        assert_eq!(
            named(&[(TLS, "native"), (TLS_CA, "no/such/file")]).0,
            TLS_CA
        );
        let (name, reason) = named(&[(TLS, "native"), ("DFLOCK_SERVERS", "schlüssel:6388")]);
        assert_eq!(
            (name, reason.contains("schlüssel")),
            ("DFLOCK_SERVERS", true),
            "{reason}"
        );
        match client(&[(TLS, "native")]) {
            Ok(client) => assert!(format!("{client:?}").contains("tls: Some"), "{client:?}"),
            // A system may have no root certificates.
            Err(error) => assert!(error.to_string().contains(TLS), "{error}"),
        }
    }

    #[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
    #[test]
    fn tls_variables_are_refused_in_a_build_without_tls() {
        for vars in [(TLS, "native"), (TLS_CA, "ca.pem")] {
            let error = client(&[vars]).unwrap_err().to_string();
            assert!(error.contains("built without TLS"), "{error}");
        }
    }
}
