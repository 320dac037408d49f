//! A value in place of the path of a file: a key without its BEGIN line, or an auth token.

use std::ffi::OsString;

use dflock::{Client, ClientBuilder, ConfigError, Tls};

use super::redaction::{SOURCES, assert_hides, printed_forms};
use super::temp_dir::TempDir;
use super::test_ca::{HOST, TestCa};

/// The base64 of an EC private key. It is shorter than the longest file name.
fn ec_body() -> String {
    let key = TestCa::new().issue(HOST).key;
    key.lines().filter(|line| !line.starts_with('-')).collect()
}

/// A text of the form of an RSA private key: as long, with a slash in every 64 characters or so.
fn rsa_body() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 1_u64;
    let random = std::iter::from_fn(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Some(char::from(ALPHABET[usize::try_from(state >> 58).unwrap()]))
    });
    let body: String = "MIIEpAIBAAKCAQEA"
        .chars()
        .chain(random.take(1576))
        .collect();
    assert!(body.split('/').all(|name| name.len() < 255));
    body
}

/// The base64 `body` in lines of 64 characters.
fn lines(body: &str, separator: &str) -> String {
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    lines.join(separator)
}

fn variables(variables: &[(&str, &str)]) -> Result<(), ConfigError> {
    let lookup = |asked: &str| {
        let found = variables.iter().find(|(name, _)| *name == asked);
        found.map(|(_, value)| OsString::from(value))
    };
    ClientBuilder::from_lookup(lookup)?.build().map(drop)
}

#[test]
fn a_bare_key_in_place_of_a_path_is_not_shown() {
    for body in [ec_body(), rsa_body()] {
        for text in [
            body.clone(),
            lines(&body, "\\n"),
            lines(&body, " "),
            format!("\"{body}\""),
            format!("./{body}"),
            format!("/run/secrets/{body}.pem"),
        ] {
            for (way, take) in SOURCES
                .into_iter()
                .filter(|(way, _)| way.starts_with("path"))
            {
                let error = take(&TempDir::new(), &text).expect_err(way);
                assert_hides(&printed_forms(&error), &body);
                assert!(error.to_string().contains("not shown"), "{way}: {error}");
            }
        }
    }
}

#[test]
fn a_random_token_with_a_slash_is_not_shown() {
    for token in [
        "q3/PZ0n9wYk2uVxT7hL5sR1mB8dF4gJ+",
        "3vQe/8pLk2NzXw7RtYb4UcHs6MdGaJf1o9TqVi0EhBk=",
    ] {
        let error = Client::builder().auth_file(token).build().unwrap_err();
        assert_hides(&printed_forms(&error), token);
    }
}

#[test]
fn the_value_of_dflock_tls_ca_is_not_named_when_it_cannot_be_read() {
    let path = "/no/such/authority.pem";
    for native in [&[][..], &[("DFLOCK_TLS", "native")]] {
        let error = variables(&[native, &[("DFLOCK_TLS_CA", path)]].concat()).unwrap_err();
        assert_hides(&printed_forms(&error), path);
        if native.is_empty() {
            let text = error.to_string();
            let wanted = ["DFLOCK_TLS_CA", "cannot be read", "not shown"];
            assert!(wanted.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}

#[test]
fn a_value_without_a_separator_is_not_shown_when_it_cannot_be_read() {
    for value in ["hunter2", "correct.horse-battery_staple"] {
        for error in [
            Client::builder().auth_file(value).build().unwrap_err(),
            variables(&[("DFLOCK_AUTH_TOKEN_FILE", value)]).unwrap_err(),
        ] {
            let text = printed_forms(&error);
            assert!(!text.contains(value), "{text}");
            let hint = "the value is not shown, as it may be the token itself";
            assert!(
                text.contains("cannot be read") && text.contains(hint),
                "{text}"
            );
        }
    }
}

#[test]
fn a_path_that_cannot_be_read_is_shown() {
    for path in [
        "/no/such/file",
        "no/such/token",
        "/run/secrets/no-such-service/token",
        "/var/run/secrets/kubernetes.io/serviceaccount/no-such-ca.crt",
        "/no/such/directory/of/kubernetes/secrets/production/application/tls.crt",
    ] {
        let token = Client::builder().auth_file(path).build().unwrap_err();
        let ca = Tls::ca_pem_file(path).unwrap_err();
        for text in [token.to_string(), ca.to_string()] {
            assert!(
                text.contains(path) && text.contains("cannot be read"),
                "{text}"
            );
        }
    }
}
