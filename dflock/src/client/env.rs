//! Client options from environment variables.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use dflock_duration::parse_duration_or_seconds;
use zeroize::Zeroizing;

use super::address::Servers;
use super::builder::{TIMEOUT_RANGE, is_valid_timeout};
use super::{Client, ClientBuilder};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use crate::engine::dflockd::CLIENT_KEY;
use crate::engine::dflockd::{AuthToken, AuthTokenFile, Reloadable};
use crate::error::{AuthTokenFileErrorKind, ConfigError};
use crate::limit_mismatch::LimitMismatch;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use crate::{Tls, error::PemErrorKind};

/// An environment variable that sets an option of the client.
struct Variable {
    name: &'static str,
    /// The value, in Markdown, for the documentation.
    meaning: &'static str,
    setter: Setter,
}

/// Syntax of a value, and the function that sets the option.
enum Setter {
    /// A duration, or a number of seconds.
    Timeout(fn(ClientBuilder, Duration) -> ClientBuilder),
    /// Any text.
    Text(fn(Settings, String) -> Result<Settings, ConfigError>),
    /// The path of a file.
    Path(fn(Settings, PathBuf) -> Settings),
}

/// Defines the names of the variables, their list, and [`Client::from_env`] with a table of them.
macro_rules! variables {
    ($($constant:ident = $name:literal, $meaning:literal, $setter:expr;)*) => {
        $(const $constant: &str = $name;)*

        static VARIABLES: &[Variable] = &[
            $(Variable { name: $constant, meaning: $meaning, setter: $setter },)*
        ];

        impl Client {
            /// Returns a client with the options of the environment variables, and defaults for the
            /// others.
            ///
            /// | variable | meaning |
            /// |---|---|
            $(#[doc = concat!("| `", $name, "` | ", $meaning, " |")])*
            ///
            /// A time is a duration such as `5s`, `500ms` or `1h30m`, or a number of seconds such as
            /// `5` or `0.5` ([`parse_duration_or_seconds`](crate::parse_duration_or_seconds)). It is
            /// more than zero and less than a century.
            ///
            /// # Errors
            ///
            /// A [`ConfigError`] that names the invalid variable.
            pub fn from_env() -> Result<Self, ConfigError> {
                build(ClientBuilder::from_env()?)
            }
        }
    };
}

// A new variable is an entry here, and a row of `docs/SETTINGS.md`, which a test asks for.
variables! {
    SERVERS = "DFLOCK_SERVERS",
        "`host:port` or `etcd://host:port`, several separated by commas; default `127.0.0.1:6388`",
        Setter::Text(|settings, list| settings.servers(&list));
    AUTH_TOKEN = "DFLOCK_AUTH_TOKEN",
        "the auth token, on etcd `NAME:PASSWORD`; an empty one is none",
        Setter::Text(|settings, token| {
            let auth_token = Some(Zeroizing::new(token)).filter(|token| !token.is_empty());
            Ok(Settings { auth_token, ..settings })
        });
    AUTH_TOKEN_FILE = "DFLOCK_AUTH_TOKEN_FILE",
        "the file of the auth token, on etcd of `NAME:PASSWORD`, read again when it changes; refused \
         with `DFLOCK_AUTH_TOKEN`",
        Setter::Path(|settings, file| Settings { auth_token_file: Some(file), ..settings });
    TLS = "DFLOCK_TLS",
        "`native`: TLS with the root certificates of the system; `off`: no TLS",
        Setter::Text(|settings, tls| Ok(Settings { tls: Some(tls), ..settings }));
    TLS_CA = "DFLOCK_TLS_CA",
        "a PEM file of CA certificates, read again when it changes, which enables TLS; with \
         `DFLOCK_TLS=native` those of the system are trusted as well; refused with \
         `DFLOCK_TLS=off`",
        Setter::Path(|settings, file| Settings { tls_ca: Some(file), ..settings });
    TLS_CERT = "DFLOCK_TLS_CERT",
        "a PEM file of the client certificate for servers that require one, read again when it \
         changes; refused without `DFLOCK_TLS_KEY`, and if neither `DFLOCK_TLS_CA` nor \
         `DFLOCK_TLS=native` enables TLS",
        Setter::Path(|settings, file| Settings { tls_cert: Some(file), ..settings });
    TLS_KEY = "DFLOCK_TLS_KEY",
        "the PEM file of the private key of `DFLOCK_TLS_CERT`, read again when it changes; it may be \
         the same file; refused without `DFLOCK_TLS_CERT`",
        Setter::Path(|settings, file| Settings { tls_key: Some(file), ..settings });
    CONNECT_TIMEOUT = "DFLOCK_CONNECT_TIMEOUT",
        "the longest time to connect, including the TLS handshake; default `5s`",
        Setter::Timeout(ClientBuilder::connect_timeout);
    SOCKET_TIMEOUT = "DFLOCK_SOCKET_TIMEOUT",
        "the longest time for a reply that the server sends without waiting; default `5s`",
        Setter::Timeout(ClientBuilder::socket_timeout);
    SERVER_READ_TIMEOUT = "DFLOCK_SERVER_READ_TIMEOUT",
        "the smallest `--read-timeout` of the servers; default `23s`",
        Setter::Timeout(ClientBuilder::server_read_timeout);
    HEARTBEAT = "DFLOCK_HEARTBEAT",
        "the longest time between two renewals; default `8s`, or a third of a \
         `DFLOCK_SERVER_READ_TIMEOUT` under `23s`",
        Setter::Timeout(ClientBuilder::heartbeat);
    MAX_CONNECTION_AGE = "DFLOCK_MAX_CONNECTION_AGE",
        "the age at which an idle connection is closed, so that the name of its server is resolved \
         again; default `5m`",
        Setter::Timeout(ClientBuilder::max_connection_age);
    ETCD_PREFIX = "DFLOCK_ETCD_PREFIX",
        "the prefix of all keys in etcd; default `dflock/`; no effect on dflockd",
        Setter::Text(|settings, prefix| Ok(settings.etcd_prefix(prefix)));
    ON_LIMIT_MISMATCH = "DFLOCK_ON_LIMIT_MISMATCH",
        "the reaction of semaphores to a key that is in use with another limit: `fail`, the \
         default; `wait-out`: try again until the wait is over; `adopt`: use the limit of the server",
        Setter::Text(|settings, word| settings.on_limit_mismatch(&word));
}

/// Returns the names of all environment variables of a client, each with its meaning in Markdown.
pub fn env_variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    VARIABLES
        .iter()
        .map(|variable| (variable.name, variable.meaning))
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
        Settings::default().read(lookup)
    }

    /// Like [`from_lookup`](Self::from_lookup), with `trust` in place of the variables that enable
    /// TLS. `lookup` returns `None` for those.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    pub(crate) fn from_lookup_with_trust(
        trust: Option<Tls>,
        lookup: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let settings = Settings {
            trust,
            ..Settings::default()
        };
        settings.read(lookup)
    }
}

/// The options of the variables that were read so far.
#[derive(Default)]
struct Settings {
    builder: ClientBuilder,
    auth_token: Option<Zeroizing<String>>,
    auth_token_file: Option<PathBuf>,
    tls: Option<String>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    /// The TLS options in place of `tls` and `tls_ca`.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    trust: Option<Tls>,
}

impl Settings {
    /// Sets the options that `lookup` returns, and returns the builder.
    fn read(
        mut self,
        lookup: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<ClientBuilder, ConfigError> {
        for Variable { name, setter, .. } in VARIABLES {
            let Some(value) = lookup(name) else { continue };
            match setter {
                Setter::Timeout(set) => {
                    let timeout = parse_timeout(name, &into_text(name, value)?)?;
                    self.builder = set(self.builder, timeout);
                }
                Setter::Text(set) => self = set(self, into_text(name, value)?)?,
                Setter::Path(set) => self = set(self, value.into()),
            }
        }
        self.into_builder()
    }

    fn servers(mut self, list: &str) -> Result<Self, ConfigError> {
        let servers = list.split(',').map(str::trim);
        Servers::parse(servers.clone()).map_err(|error| variable_error(SERVERS, &error))?;
        self.builder = self.builder.servers(servers);
        Ok(self)
    }

    fn on_limit_mismatch(mut self, word: &str) -> Result<Self, ConfigError> {
        let parsed = LimitMismatch::parse(word.trim()).ok_or_else(|| {
            let reason = format!("{word:?} is none of `fail`, `wait-out` and `adopt`");
            variable_error(ON_LIMIT_MISMATCH, &reason)
        });
        self.builder = self.builder.on_limit_mismatch(parsed?);
        Ok(self)
    }

    #[cfg(feature = "etcd")]
    fn etcd_prefix(mut self, prefix: String) -> Self {
        self.builder = self.builder.etcd_prefix(prefix);
        self
    }

    /// Ignores the prefix: without the feature, `DFLOCK_SERVERS` can name no etcd cluster.
    #[cfg(not(feature = "etcd"))]
    fn etcd_prefix(self, _prefix: String) -> Self {
        self
    }

    /// Combines the variables that depend on each other, and returns the builder.
    fn into_builder(mut self) -> Result<ClientBuilder, ConfigError> {
        let token = match (self.auth_token.take(), self.auth_token_file.take()) {
            (None, None) => None,
            (Some(token), None) => AuthToken::new(token)
                .map_err(|kind| variable_error(AUTH_TOKEN, &ConfigError::AuthToken { kind }))?
                .map(Reloadable::from_value),
            (None, Some(file)) => Some(open_auth_token_file(file)?),
            (Some(_), Some(_)) => {
                let reason = format!("`{AUTH_TOKEN}` is set, too; unset one of the two");
                return Err(variable_error(AUTH_TOKEN_FILE, &reason));
            }
        };
        self.builder = self.builder.auth_token(token);
        self.apply_tls()
    }

    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    fn apply_tls(mut self) -> Result<ClientBuilder, ConfigError> {
        let certificate = match (self.tls_cert.take(), self.tls_key.take()) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(_), None) => return Err(missing_half(TLS_CERT, TLS_KEY)),
            (None, Some(_)) => return Err(missing_half(TLS_KEY, TLS_CERT)),
        };
        match (self.trusted_certificates()?, certificate) {
            (None, None) => Ok(self.builder),
            (Some(tls), None) => Ok(self.builder.tls(tls)),
            (Some(tls), Some((cert, key))) => {
                let tls = tls.client_pem_files(cert, key).map_err(|error| {
                    let is_key =
                        matches!(error, ConfigError::Pem { role, .. } if role == CLIENT_KEY);
                    certificate_error(if is_key { TLS_KEY } else { TLS_CERT }, error)
                });
                Ok(self.builder.tls(tls?))
            }
            (None, Some(_)) => {
                let reason = format!("TLS is off; set `{TLS_CA}`, or set `{TLS}` to `native`");
                Err(variable_error(TLS_CERT, &reason))
            }
        }
    }

    /// Returns the TLS options with the trusted certificates. `None` if TLS is off.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    fn trusted_certificates(&mut self) -> Result<Option<Tls>, ConfigError> {
        let tls = match (self.tls.as_deref(), self.tls_ca.take()) {
            (None | Some("off"), None) => return Ok(self.trust.take()),
            (Some("native"), None) => {
                Tls::native_roots().map_err(|error| certificate_error(TLS, error))
            }
            (Some("native"), Some(ca)) => {
                Tls::native_roots_and(&ca).map_err(|error| certificate_error(TLS_CA, error))
            }
            (None, Some(ca)) => {
                Tls::ca_pem_file(ca).map_err(|error| certificate_error(TLS_CA, error))
            }
            (Some("off"), Some(_)) => {
                let reason = format!("`{TLS}` is `off`; unset one of the two");
                Err(variable_error(TLS_CA, &reason))
            }
            // The value is not shown, because it may be a certificate or a key.
            (Some(_), _) => Err(variable_error(TLS, &"it is neither `native` nor `off`")),
        };
        tls.map(Some)
    }

    /// Refuses variables that request TLS, because the connection would otherwise be in clear text.
    #[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
    fn apply_tls(self) -> Result<ClientBuilder, ConfigError> {
        for (name, requests_tls) in [
            (TLS, self.tls.is_some_and(|tls| tls != "off")),
            (TLS_CA, self.tls_ca.is_some()),
            (TLS_CERT, self.tls_cert.is_some()),
            (TLS_KEY, self.tls_key.is_some()),
        ] {
            if requests_tls {
                let reason = "this program was built without TLS; build it with the feature `tls` of \
                           `dflock`";
                return Err(variable_error(name, &reason));
            }
        }
        Ok(self.builder)
    }
}

/// Returns the value of the variable `name`, which must be UTF-8.
fn into_text(name: &'static str, value: OsString) -> Result<String, ConfigError> {
    let text = value.into_string();
    text.map_err(|_| variable_error(name, &"it is not UTF-8"))
}

fn open_auth_token_file(file: PathBuf) -> Result<Reloadable<AuthTokenFile>, ConfigError> {
    AuthTokenFile::open(file).map_err(|error| match error {
        // Omit the path: the value may be the auth token itself, in the wrong variable.
        ConfigError::AuthTokenFile { kind, .. } => {
            let kind = match kind {
                AuthTokenFileErrorKind::Unreadable { error } => {
                    AuthTokenFileErrorKind::NotPath { error }
                }
                kind => kind,
            };
            variable_error(AUTH_TOKEN_FILE, &kind)
        }
        error => variable_error(AUTH_TOKEN_FILE, &error),
    })
}

/// Returns the error for `name`, which is set without the `other` file that it needs.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
fn missing_half(name: &'static str, other: &str) -> ConfigError {
    variable_error(name, &format!("`{other}` is not set; set both, or neither"))
}

/// Returns the error for the certificates of the variable `name`, or of the system.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
fn certificate_error(name: &'static str, error: ConfigError) -> ConfigError {
    match error {
        ConfigError::NoNativeRoots { reason } => {
            let advice = format!(
                "install its CA certificates, or unset `{TLS}` and name them with `{TLS_CA}`"
            );
            variable_error(
                TLS,
                &format!("the system has no certificate that can be trusted: {reason}; {advice}"),
            )
        }
        // Omit the path: the value may be a key or a certificate.
        ConfigError::Pem {
            role,
            kind: PemErrorKind::Unreadable { error },
            ..
        } => {
            let (file, kind) = (None, PemErrorKind::NotPath { error });
            variable_error(name, &ConfigError::Pem { role, file, kind })
        }
        error => variable_error(name, &error),
    }
}

fn parse_timeout(name: &'static str, text: &str) -> Result<Duration, ConfigError> {
    match parse_duration_or_seconds(text.trim()) {
        Ok(timeout) if is_valid_timeout(timeout) => Ok(timeout),
        Ok(_) => Err(variable_error(
            name,
            &format!("{text:?} is refused; {TIMEOUT_RANGE}"),
        )),
        Err(error) => Err(variable_error(name, &error)),
    }
}

/// Builds the client. An error of an option names its variable.
fn build(builder: ClientBuilder) -> Result<Client, ConfigError> {
    match builder.build() {
        Err(error @ ConfigError::EtcdPrefix { .. }) => Err(variable_error(ETCD_PREFIX, &error)),
        // The expected name in the certificate is derived from the host.
        Err(error @ ConfigError::ServerName { .. }) => Err(variable_error(SERVERS, &error)),
        Err(
            error @ ConfigError::Duration {
                option: "heartbeat",
                ..
            },
        ) => Err(variable_error(HEARTBEAT, &error)),
        result => result,
    }
}

fn variable_error(name: &'static str, reason: &dyn Display) -> ConfigError {
    let reason = reason.to_string();
    ConfigError::Variable { name, reason }
}

#[cfg(test)]
#[path = "../../../dflock-duration/tests/cases/mod.rs"]
mod duration_cases;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
        for (word, expected) in [
            ("fail", LimitMismatch::Fail),
            ("wait-out", LimitMismatch::WaitOut),
            (" adopt\n", LimitMismatch::Adopt),
        ] {
            let client = client(&[("DFLOCK_ON_LIMIT_MISMATCH", word)]).unwrap();
            assert_eq!(client.on_limit_mismatch(), expected);
        }
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
            ("DFLOCK_TLS_CERT", "no/such/file"),
            ("DFLOCK_TLS_KEY", "no/such/file"),
            ("DFLOCK_CONNECT_TIMEOUT", "soon"),
            ("DFLOCK_CONNECT_TIMEOUT", "0"),
            ("DFLOCK_SOCKET_TIMEOUT", "-1"),
            ("DFLOCK_SOCKET_TIMEOUT", "NaN"),
            ("DFLOCK_SOCKET_TIMEOUT", "inf"),
            ("DFLOCK_SERVER_READ_TIMEOUT", "0"),
            ("DFLOCK_SERVER_READ_TIMEOUT", "3x"),
            ("DFLOCK_MAX_CONNECTION_AGE", "0"),
            ("DFLOCK_MAX_CONNECTION_AGE", "36501d"),
            #[cfg(feature = "etcd")]
            ("DFLOCK_ETCD_PREFIX", "jobs\n"),
            ("DFLOCK_ON_LIMIT_MISMATCH", ""),
            ("DFLOCK_ON_LIMIT_MISMATCH", "wait_out"),
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

    // The same table is that of the macros and of the command line.
    #[test]
    fn a_time_has_the_grammar_of_all_durations() {
        let given = duration_cases::DURATIONS
            .into_iter()
            .chain(duration_cases::SECONDS);
        for (text, duration) in given.filter(|(_, duration)| is_valid_timeout(*duration)) {
            for text in [text.to_owned(), format!(" {text}\n")] {
                let client = client(&[(SOCKET_TIMEOUT, &text)]).unwrap();
                assert_eq!(client.timing().socket_timeout, duration, "{text:?}");
            }
        }
        let spaced = |text: &str| text != text.trim();
        for text in duration_cases::REFUSED
            .into_iter()
            .filter(|text| !spaced(text))
        {
            let error = client(&[(SOCKET_TIMEOUT, text)]).unwrap_err();
            let reason = parse_duration_or_seconds(text).unwrap_err();
            assert_eq!(error, variable_error(SOCKET_TIMEOUT, &reason));
        }
        for text in ["0", "0s", "36500d1s"] {
            let error = client(&[(SOCKET_TIMEOUT, text)]).unwrap_err().to_string();
            assert!(error.contains(SOCKET_TIMEOUT), "{error}");
            assert!(
                error.contains(&format!("{text:?} is refused; {TIMEOUT_RANGE}")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_page_of_the_settings_has_a_row_for_each_variable() {
        // Read when the test runs, because the page is not in the package of this crate.
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SETTINGS.md");
        let page = fs::read_to_string(page).unwrap();
        let rows: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("| `DFLOCK_"))
            .collect();
        let expected: Vec<_> = env_variables()
            .map(|(name, meaning)| format!("| `{name}` | {meaning} |"))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_default_heartbeat_is_derived_from_the_read_timeout() {
        for (vars, read_timeout, heartbeat) in [
            (&[][..], 23, 8),
            (&[(SERVER_READ_TIMEOUT, "3")], 3, 1),
            (&[(SERVER_READ_TIMEOUT, "60")], 60, 8),
            (&[(SERVER_READ_TIMEOUT, "60"), (HEARTBEAT, "20")], 60, 20),
            (&[(SERVER_READ_TIMEOUT, "9"), (HEARTBEAT, "1")], 9, 1),
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
            &[(AUTH_TOKEN, ""), (AUTH_TOKEN_FILE, "no/such/file")][..],
            &[(AUTH_TOKEN, "hush"), (AUTH_TOKEN_FILE, "no/such/file")],
        ] {
            let Err(ConfigError::Variable { name, reason }) = client(vars) else {
                panic!("{vars:?}")
            };
            assert_eq!(
                (name, reason.contains("unset one of the two")),
                (AUTH_TOKEN_FILE, !vars[0].1.is_empty()),
                "{reason}"
            );
            assert!(!reason.contains("hush"));
        }
        let debug = format!("{:?}", client(&[(AUTH_TOKEN, "")]).unwrap());
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
        let files = [(TLS_CERT, "no/such/cert"), (TLS_KEY, "no/such/key")];
        for (vars, expected, part) in [
            (&files[..1], TLS_CERT, TLS_KEY),
            (&files[1..], TLS_KEY, TLS_CERT),
            (&files, TLS_CERT, "TLS is off"),
            (&[&[(TLS, "off")], &files[..]].concat(), TLS_CERT, TLS_CA),
        ] {
            let (name, reason) = named(vars);
            assert_eq!((name, reason.contains(part)), (expected, true), "{reason}");
        }
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
        for vars in [
            (TLS, "native"),
            (TLS_CA, "ca.pem"),
            (TLS_CERT, "cert.pem"),
            (TLS_KEY, "key.pem"),
        ] {
            let error = client(&[vars]).unwrap_err().to_string();
            assert!(error.contains("built without TLS"), "{error}");
        }
    }
}
