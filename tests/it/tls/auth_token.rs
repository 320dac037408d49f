//! Warnings about auth tokens sent in clear text, and redaction of secrets.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use dflock::server::Server;
use dflock::{AuthErrorKind, AuthTokenErrorKind, Client, ClientBuilder, ConfigError, Error};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::test_ca::{HOST, TestCa};

/// Subscriber that collects warnings.
#[derive(Clone, Default)]
pub(super) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Collects the warnings of this thread until the guard is dropped.
    pub(super) fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let warnings = Self::default();
        (warnings.clone(), tracing::subscriber::set_default(warnings))
    }

    /// Returns the warnings since the previous call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Returns the warnings emitted while `work` runs.
    fn of(work: impl FnOnce()) -> Vec<String> {
        let warnings = Self::default();
        tracing::subscriber::with_default(warnings.clone(), work);
        Arc::into_inner(warnings.0)
            .map(|lines| lines.into_inner().unwrap())
            .unwrap_or_default()
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn warnings(builder: ClientBuilder) -> Vec<String> {
    Warnings::of(|| drop(builder.build().unwrap().clone()))
}

#[test]
fn a_clear_text_auth_token_causes_one_warning_per_server() {
    let servers = [
        "10.0.0.1:6388",
        "localhost:6388",
        "lock.internal:6388",
        "127.0.0.1:1",
        "[::1]:1",
        "[fe80::1]:1",
        "127.9.9.9:1",
    ];
    let messages = warnings(Client::builder().servers(servers).auth("hush"));
    assert_eq!(messages.len(), 3, "{messages:?}");
    for (line, server) in
        messages
            .iter()
            .zip(["10.0.0.1:6388", "lock.internal:6388", "[fe80::1]:1"])
    {
        assert!(
            line.contains(server) && line.contains("TLS") && !line.contains("hush"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn an_empty_or_protected_auth_token_causes_no_warning() {
    let server = Server::start().await.unwrap();
    let builder = || Client::builder().servers(["lock.internal:6388"]);
    assert_eq!(warnings(builder()), [""; 0]);
    assert_eq!(warnings(builder().auth("")), [""; 0]);
    assert_eq!(
        warnings(builder().auth("hush").tls(TestCa::new().tls())),
        [""; 0]
    );
    // The client cannot know the destination of this connector.
    assert_eq!(
        warnings(builder().auth("hush").connector(server.connector())),
        [""; 0]
    );
    assert_eq!(warnings(Client::builder().auth("hush")), [""; 0]);
}

#[tokio::test]
async fn the_server_requires_the_auth_token_after_the_handshake() {
    let ca = TestCa::new();
    let server = Server::builder()
        .tls(ca.server())
        .auth_token("hush")
        .build()
        .start()
        .await
        .unwrap();
    let open = Server::builder()
        .tls(ca.server())
        .build()
        .start()
        .await
        .unwrap();
    let builder = |server: &Server| {
        Client::builder()
            .servers([server.addr().to_string()])
            .tls(ca.tls())
    };
    builder(&server)
        .auth("hush")
        .build()
        .unwrap()
        .ping()
        .await
        .unwrap();
    for (builder, expected) in [
        (builder(&server), AuthErrorKind::Missing),
        (
            builder(&server).auth("hash"),
            AuthErrorKind::Wrong { long: false },
        ),
        (builder(&open).auth("hush"), AuthErrorKind::Unneeded),
    ] {
        let error = builder.build().unwrap().ping().await.unwrap_err();
        assert!(
            matches!(&error, Error::Auth { kind, .. } if *kind == expected),
            "{error:?}"
        );
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hush") && !shown.contains("hash"),
            "{shown}"
        );
    }
}

// Covers bug T16.
#[test]
fn an_auth_token_with_a_line_break_is_rejected() {
    for auth_token in ["two\nlines", "two\rlines", "two\r\nlines", "hush\n"] {
        let error = Client::builder()
            .auth(auth_token)
            .tls(TestCa::new().tls())
            .build()
            .unwrap_err();
        assert_eq!(
            error,
            ConfigError::AuthToken {
                kind: AuthTokenErrorKind::Forbidden
            }
        );
        assert!(!error.to_string().contains(auth_token.trim()));
    }
}

#[tokio::test]
async fn printed_values_contain_no_key_and_no_auth_token() {
    let ca = TestCa::new();
    let cert = ca.issue(HOST);
    let tls = ca.tls().client_pem(&cert.certificate, &cert.key).unwrap();
    let config = Server::builder()
        .tls(cert.server())
        .auth_token("hush")
        .build();
    let shown = format!("{tls:?} {:?} {config:?}", cert.server());
    let server = config.start().await.unwrap();
    let builder = server.client_builder().tls(tls);
    let shown = format!("{shown} {server:?} {builder:?} {:?}", server.client());
    let inner = cert.key.lines().nth(1).unwrap();
    for auth_token in [
        "hush",
        inner,
        "PRIVATE",
        &format!("{:?}", &cert.private_key().secret_der()[40..44]),
    ] {
        assert!(!shown.contains(auth_token), "{shown}");
    }
}
