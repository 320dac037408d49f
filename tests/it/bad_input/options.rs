//! Options are validated before a byte is sent: covers bug P32.

use std::time::Duration;

use dflock::{
    AddressErrorKind, AuthTokenErrorKind, Client, ClientBuilder, ConfigError, Error, KeyErrorKind,
    Semaphore,
};

use super::reads_well;
use crate::scripted_server::ScriptedServer;

const LONGEST: Duration = Duration::from_secs(9_223_372_036);
const NANO: Duration = Duration::from_nanos(1);

// Covers bugs T16, P21, N10.
#[tokio::test]
async fn a_key_has_1_to_256_bytes_and_no_white_space() {
    let scripted_server = ScriptedServer::memory([]);
    for (key, expected) in [
        (String::new(), KeyErrorKind::Empty),
        ("k".repeat(257), KeyErrorKind::TooLong { bytes: 257 }),
        ("é".repeat(129), KeyErrorKind::TooLong { bytes: 258 }),
        ("a b".to_owned(), KeyErrorKind::Forbidden { found: ' ' }),
        (" ".to_owned(), KeyErrorKind::Forbidden { found: ' ' }),
        ("a\tb".to_owned(), KeyErrorKind::Forbidden { found: '\t' }),
        ("a\r".to_owned(), KeyErrorKind::Forbidden { found: '\r' }),
        (
            "a\n0 1\nsl\nb".to_owned(),
            KeyErrorKind::Forbidden { found: '\n' },
        ),
        ("\0".to_owned(), KeyErrorKind::Forbidden { found: '\0' }),
    ] {
        let error = scripted_server
            .client()
            .semaphore(key.as_str(), 1)
            .unwrap_err();
        assert!(
            matches!(error, ConfigError::Key { kind, .. } if kind == expected),
            "{key:?}: {error:?}"
        );
        reads_well(
            &error,
            &[
                "key",
                "1 to 256 bytes",
                "without space, tab, line break or NUL",
            ],
        );
    }
    for key in ["k".repeat(256), "键☃".to_owned(), "a\u{a0}b".to_owned()] {
        assert_eq!(
            scripted_server
                .client()
                .semaphore(key.as_str(), 1)
                .unwrap()
                .key(),
            key
        );
    }
    assert_eq!(scripted_server.connections(), 0);
}

#[tokio::test]
async fn a_limit_is_1_to_1048576() {
    let scripted_server = ScriptedServer::memory([]);
    for limit in [0, 1_048_577, u32::MAX] {
        let error = scripted_server
            .client()
            .semaphore("pool", limit)
            .unwrap_err();
        assert_eq!(error, ConfigError::Limit { limit });
        reads_well(&error, &["limit", &limit.to_string(), "1 to 1048576"]);
    }
    for limit in [1, 1_048_576] {
        assert_eq!(
            scripted_server
                .client()
                .semaphore("pool", limit)
                .unwrap()
                .limit(),
            limit
        );
    }
    assert_eq!(scripted_server.connections(), 0);
}

// Covers bugs T18, P22, G20.
#[tokio::test]
async fn a_renew_ratio_is_between_0_and_1() {
    let scripted_server = ScriptedServer::memory([]);
    let pool = |ratio| {
        Semaphore::builder()
            .key("pool")
            .limit(1)
            .renew_ratio(ratio)
            .client(scripted_server.client())
            .build()
    };
    for ratio in [
        0.0,
        -0.0,
        1.0,
        -0.5,
        1.5,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let error = pool(ratio).unwrap_err();
        assert!(matches!(error, ConfigError::RenewRatio { .. }), "{error:?}");
        reads_well(
            &error,
            &["renew_ratio", &ratio.to_string(), "between 0 and 1"],
        );
    }
    for ratio in [f64::MIN_POSITIVE, 0.5, 0.999] {
        pool(ratio).unwrap();
    }
    assert_eq!(scripted_server.connections(), 0);
}

// Covers bugs G20, T47.
#[tokio::test]
async fn a_lease_is_a_valid_number_of_whole_seconds() {
    let scripted_server = ScriptedServer::memory([]);
    let pool = |lease| {
        Semaphore::builder()
            .key("pool")
            .limit(1)
            .lease_ttl(lease)
            .client(scripted_server.client())
            .build()
    };
    for lease in [
        Duration::ZERO,
        NANO,
        Duration::from_millis(999),
        Duration::from_millis(1500),
        LONGEST + Duration::from_secs(1),
        Duration::MAX,
    ] {
        let error = pool(lease).unwrap_err();
        assert_eq!(error, ConfigError::Lease { lease });
        reads_well(
            &error,
            &[
                "lease_ttl",
                &format!("{lease:?}"),
                "whole seconds",
                "1 s",
                "9223372036 s",
            ],
        );
    }
    for lease in [Duration::from_secs(1), LONGEST] {
        pool(lease).unwrap();
    }
    assert_eq!(scripted_server.connections(), 0);
}

#[tokio::test]
async fn max_hold_is_at_least_the_lease_and_min_hold_at_most_max_hold() {
    let scripted_server = ScriptedServer::memory([]);
    let pool = || {
        Semaphore::builder()
            .key("pool")
            .limit(1)
            .client(scripted_server.client())
    };
    let second = Duration::from_secs(1);
    let error = pool().max_hold(Duration::ZERO).build().unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Duration {
                option: "max_hold",
                ..
            }
        ),
        "{error:?}"
    );
    reads_well(&error, &["max_hold", "0ns", "more than 0"]);

    let (max_hold, lease_ttl) = (Duration::from_nanos(4_999_999_999), 5 * second);
    let error = pool()
        .max_hold(max_hold)
        .lease_ttl(lease_ttl)
        .build()
        .unwrap_err();
    assert_eq!(
        error,
        ConfigError::MaxHold {
            max_hold,
            lease_ttl
        }
    );
    reads_well(
        &error,
        &["max_hold", "4.999999999s", "at least", "lease_ttl", "5s"],
    );

    let (min_hold, max_hold) = (second + NANO, second);
    let error = pool()
        .min_hold(min_hold)
        .max_hold(max_hold)
        .build()
        .unwrap_err();
    assert_eq!(error, ConfigError::MinHold { min_hold, max_hold });
    reads_well(
        &error,
        &["min_hold", "1.000000001s", "at most", "max_hold", "1s"],
    );

    for valid in [
        pool().max_hold(NANO),
        pool().max_hold(Duration::MAX).min_hold(Duration::MAX),
        pool().max_hold(second).lease_ttl(second).min_hold(second),
        pool().min_hold(Duration::ZERO),
    ] {
        valid.build().unwrap();
    }
    assert_eq!(scripted_server.connections(), 0);
}

// Covers bug G20. The limit applies after rounding up to whole seconds.
#[tokio::test]
async fn a_wait_timeout_has_a_maximum() {
    let scripted_server = ScriptedServer::memory([]);
    let pool = |wait| {
        Semaphore::builder()
            .key("pool")
            .limit(1)
            .acquire_timeout(wait)
            .client(scripted_server.client())
            .build()
    };
    for wait in [
        LONGEST + NANO,
        LONGEST + Duration::from_secs(1),
        Duration::MAX,
    ] {
        let error = pool(wait).unwrap_err();
        assert_eq!(error, ConfigError::Wait { wait });
        reads_well(&error, &["wait", &format!("{wait:?}"), "9223372036 s"]);
        let error = scripted_server
            .pool()
            .acquire_within(wait)
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Config(ConfigError::Wait { .. })),
            "{error:?}"
        );
        reads_well(&error, &["9223372036 s"]);
    }
    for wait in [Duration::ZERO, NANO, LONGEST] {
        pool(wait).unwrap();
    }
    assert_eq!(scripted_server.connections(), 0);
}

// Covers bug G28.
#[test]
fn a_server_address_is_a_host_and_a_port() {
    let none: [&str; 0] = [];
    let error = Client::builder().servers(none).build().unwrap_err();
    assert_eq!(error, ConfigError::NoServers);
    reads_well(&error, &["host:port", "servers"]);
    for (address, expected) in [
        ("", AddressErrorKind::NoPort),
        ("localhost", AddressErrorKind::NoPort),
        ("localhost:", AddressErrorKind::NoPort),
        ("[::1]", AddressErrorKind::NoPort),
        (":6388", AddressErrorKind::NoHost),
        ("localhost:0", AddressErrorKind::BadPort),
        ("localhost:65536", AddressErrorKind::BadPort),
        ("localhost:port", AddressErrorKind::BadPort),
        ("localhost:-1", AddressErrorKind::BadPort),
        ("::1:6388", AddressErrorKind::BadHost),
        ("tcp://localhost:6388", AddressErrorKind::BadHost),
        ("two words:6388", AddressErrorKind::BadHost),
    ] {
        let error = Client::builder()
            .servers(["good:1", address])
            .build()
            .unwrap_err();
        assert!(
            matches!(&error, ConfigError::Address { kind, .. } if *kind == expected),
            "{address:?}: {error:?}"
        );
        reads_well(&error, &["server", &format!("{address:?}"), "`host:port`"]);
    }
}

#[test]
fn a_password_in_an_address_is_redacted() {
    let password_leaks = |shown: &str| {
        ["hun", "ter2", "user", "redis", "tcp"]
            .iter()
            .any(|part| shown.contains(part))
    };
    for address in [
        "redis://:hunter2@lock-1:6388/0",
        "tcp://user:hunter2@lock-1:6388",
        "user:hunter2@lock-1:6388",
        "hunter2@lock-1:6388",
        "user:hun@ter2@lock-1:6388",
        "user:hunter2%40lock-1:6388",
        "hunter2%40lock-1:6388",
        "user:hunter2%2540lock-1:6388",
        "user:hunter2@lock-1:6388?password=hunter2",
        // The comma in the password splits this value into two addresses.
        "redis://:hun,ter2@lock-1:6388",
        "other:1,redis://:hunter2@lock-1:6388,:0",
        ":0,redis://:hunter2@lock-1:6388",
    ] {
        let builder = Client::builder().servers(address.split(','));
        assert!(
            !password_leaks(&format!("{builder:?}")),
            "{address}: {builder:?}"
        );
        let error = builder.build().unwrap_err();
        let expected = ConfigError::Address {
            address: "lock-1:6388".to_owned(),
            kind: AddressErrorKind::UserInfo,
        };
        assert_eq!(error, expected, "{address}");
        reads_well(
            &error,
            &[
                "\"lock-1:6388\"",
                "user and password",
                "`auth`",
                "`host:port`",
            ],
        );
        assert!(
            !password_leaks(&format!("{error} {error:?}").replace("user and", "")),
            "{address}: {error:?}"
        );

        let lookup = |name: &str| (name == "DFLOCK_SERVERS").then(|| address.into());
        let error = ClientBuilder::from_lookup(lookup).unwrap_err();
        reads_well(
            &error,
            &["DFLOCK_SERVERS", "\"lock-1:6388\"", "user and password"],
        );
        assert!(
            !password_leaks(&format!("{error} {error:?}").replace("user and", "")),
            "{address}: {error:?}"
        );
    }
    let error = Client::builder()
        .servers(["redis://lock-1:6388/0?password=hunter2"])
        .build()
        .unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}

// Covers bug G28.
#[test]
fn timeouts_must_be_consistent() {
    let seconds = Duration::from_secs;
    for (option, builder) in [
        (
            "connect_timeout",
            Client::builder().connect_timeout(Duration::ZERO),
        ),
        (
            "connect_timeout",
            Client::builder().connect_timeout(Duration::MAX),
        ),
        (
            "socket_timeout",
            Client::builder().socket_timeout(Duration::ZERO),
        ),
        (
            "server_read_timeout",
            Client::builder().server_read_timeout(Duration::ZERO),
        ),
        (
            "server_read_timeout",
            Client::builder().server_read_timeout(Duration::MAX),
        ),
        (
            "max_connection_age",
            Client::builder().max_connection_age(Duration::ZERO),
        ),
        (
            "max_connection_age",
            Client::builder().max_connection_age(Duration::MAX),
        ),
        ("heartbeat", Client::builder().heartbeat(Duration::ZERO)),
        ("heartbeat", Client::builder().heartbeat(seconds(23))),
        ("heartbeat", Client::builder().heartbeat(seconds(60))),
        (
            "heartbeat",
            Client::builder()
                .heartbeat(seconds(8))
                .server_read_timeout(seconds(8)),
        ),
        // The minimum is the read timeout that the client assumes for the server.
        (
            "heartbeat",
            Client::builder()
                .heartbeat(seconds(9))
                .server_read_timeout(seconds(10))
                .clock_drift(0.1),
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(
            matches!(error, ConfigError::Duration { option: named, .. } if named == option),
            "{option}: {error:?}"
        );
        reads_well(&error, &[option, "must be"]);
    }
    for drift in [-0.01, 0.5, 1.0, f64::NAN, f64::INFINITY] {
        let error = Client::builder().clock_drift(drift).build().unwrap_err();
        assert!(matches!(error, ConfigError::ClockDrift { .. }), "{error:?}");
        reads_well(
            &error,
            &["clock_drift", &drift.to_string(), "less than 0.5"],
        );
    }
}

// Covers bug T16.
#[test]
fn an_auth_token_is_one_line_and_redacted() {
    for (auth_token, expected) in [
        ("hush\nl\nkey\n0", AuthTokenErrorKind::Forbidden),
        ("hush\r", AuthTokenErrorKind::Forbidden),
        ("hu\0sh", AuthTokenErrorKind::Forbidden),
        (" hush", AuthTokenErrorKind::Padded),
        ("hush\t", AuthTokenErrorKind::Padded),
        (&"hush".repeat(20_000), AuthTokenErrorKind::TooLong),
    ] {
        let builder = Client::builder().auth(auth_token);
        assert!(!format!("{builder:?}").contains("hu"));
        let error = builder.build().unwrap_err();
        assert_eq!(error, ConfigError::AuthToken { kind: expected });
        reads_well(&error, &["auth token", "65536 bytes", "line break or NUL"]);
        assert!(!format!("{error} {error:?}").contains("hu"));
    }
    let client = Client::builder().auth("hush").build().unwrap();
    let pool = client.semaphore("pool", 1).unwrap();
    assert!(!format!("{client:?} {client:#?} {pool:?}").contains("hush"));
}

// Covers bugs T21, G16.
#[tokio::test]
async fn a_sharding_function_returns_an_existing_server() {
    let scripted_server = ScriptedServer::memory([]);
    for index in [1, 2, usize::MAX] {
        let client = scripted_server
            .builder()
            .sharding(move |_: &str, _: usize| index)
            .build()
            .unwrap();
        let error = client.semaphore("pool", 1).unwrap_err();
        assert_eq!(
            error,
            ConfigError::Shard {
                key: "pool".to_owned(),
                index,
                servers: 1
            }
        );
        reads_well(
            &error,
            &["sharding", "\"pool\"", &index.to_string(), "from 0 to 0"],
        );
    }
    assert_eq!(scripted_server.connections(), 0);
}
