//! Redaction: no error shows a byte of a certificate, key or auth token.

use std::error::Error;
use std::fmt::Write as _;

use dflock::server::ServerTls;
use dflock::{Client, ClientBuilder, ConfigError, Tls};

use super::temp_dir::TempDir;
use super::test_ca::{HOST, TestCa, TestCert};

/// Shortest text and fewest numeric bytes that reveal content.
const MIN_TEXT: usize = 8;
const MIN_NUMBERS: usize = 3;

/// Returns every printed form of `error`.
pub(super) fn printed_forms(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        write!(text, "{error}\n{error:?}\n{error:#?}\n").unwrap();
        next = error.source();
    }
    text
}

/// Asserts that `text` contains no part of `content` as text, decimal or hexadecimal numbers.
pub(super) fn assert_hides(text: &str, content: &str) {
    // PEM labels between dashes are not secret.
    let text = text.replace("-----", "");
    for line in content
        .split(['\n', '-', ' '])
        .filter(|line| line.len() >= MIN_TEXT)
    {
        for segment in line.as_bytes().windows(MIN_TEXT) {
            let segment = str::from_utf8(segment).unwrap();
            assert!(!text.contains(segment), "{segment:?} is in {text}");
        }
    }
    let lists = |show: fn(&u8) -> String, separator: &str| -> Vec<String> {
        let numbers: Vec<_> = content.bytes().map(|byte| show(&byte)).collect();
        numbers
            .windows(MIN_NUMBERS)
            .map(|numbers| numbers.join(separator))
            .collect()
    };
    let packed: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for list in [
        lists(u8::to_string, ", "),
        lists(u8::to_string, ","),
        lists(|byte| format!("{byte:#x}"), ", "),
        lists(|byte| format!("{byte:x}"), ", "),
        lists(|byte| format!("{byte:X}"), " "),
        lists(|byte| format!("\\x{byte:02x}"), ""),
    ]
    .concat()
    {
        assert!(!packed.contains(&list), "{list:?} is in {packed}");
    }
}

#[test]
fn assert_hides_detects_content_in_every_form() {
    for text in [
        "see hunter2hunter2",
        "[104, 117, 110]",
        "[\n    104,\n    117,\n    110,\n]",
        "[0x68, 0x75, 0x6e]",
    ] {
        assert!(
            std::panic::catch_unwind(|| assert_hides(text, "hunter2hunter2")).is_err(),
            "{text}"
        );
    }
    assert_hides("section 2 is not PEM", "hunter2hunter2");
}

/// Returns `pem` with the damage of pasting, truncation and joining. None of these is usable.
fn corruptions(pem: &str) -> Vec<String> {
    let (begin, rest) = pem.split_once('\n').unwrap();
    let (body, end) = rest.trim_end().rsplit_once('\n').unwrap();
    let lines = |separator: &str| pem.trim_end().replace('\n', separator);
    vec![
        lines("\\n"),
        lines("\\r\\n"),
        lines(" "),
        lines("\t"),
        lines(""),
        format!("\"{}\"", lines("\\n")),
        // The line break is missing after BEGIN only, or before END only.
        format!("{begin}{body}\n{end}\n"),
        format!("{begin}\n{body}{end}\n"),
        // Truncated.
        format!("{begin}\n{body}\n"),
        format!("{begin}\n"),
        format!("{}\n{body}\n{end}", begin.trim_end_matches('-')),
        format!("{}{body}", begin.trim_end_matches('-')),
        format!("{body}\n{end}\n"),
        // Not base64.
        format!(
            "{begin}\n{}\n{end}\n",
            body.replacen(&body[20..24], "!\u{a7}!", 1)
        ),
        format!("{begin}\n{body}=A\n{end}\n"),
        // Base64 of other content.
        format!("{begin}\n{}\n{end}\n", &body[8..]),
        format!("{begin}\n{}\n{end}\n", &body[..12]),
        pem.replace("-----BEGIN", "-----BEGIN OLD"),
        pem.replace("-----END", "-----END OLD"),
        pem.replace("BEGIN ", "BEGIN MY").replace("END ", "END MY"),
        pem.replacen("-----", "\u{2014}", 1),
    ]
}

/// Ways to pass PEM or an auth token, each as a function of the content.
pub(super) type Source = (&'static str, fn(&TempDir, &str) -> Result<(), ConfigError>);

fn cert() -> TestCert {
    TestCa::new().issue(HOST)
}

fn tls() -> Tls {
    TestCa::new().tls()
}

fn load_variable(name: &'static str, value: &str) -> Result<(), ConfigError> {
    load_variables(&[(name, value)])
}

fn load_variables(variables: &[(&str, &str)]) -> Result<(), ConfigError> {
    let lookup = |wanted| {
        let variable = variables.iter().find(|(name, _)| *name == wanted);
        variable.map(|(_, value)| value.into())
    };
    ClientBuilder::from_lookup(lookup)?.build().map(drop)
}

/// Loads the variables of a client certificate and its key.
fn load_certificate_variables(dir: &TempDir, chain: &str, key: &str) -> Result<(), ConfigError> {
    let ca = dir.file("ca", TestCa::new().pem());
    load_variables(&[
        ("DFLOCK_TLS_CA", &ca),
        ("DFLOCK_TLS_CERT", chain),
        ("DFLOCK_TLS_KEY", key),
    ])
}

pub(super) const SOURCES: [Source; 26] = [
    ("ca_pem", |_, text| Tls::ca_pem(text).map(drop)),
    ("ca_pem_file", |dir, text| {
        Tls::ca_pem_file(dir.file("a", text)).map(drop)
    }),
    ("client_pem, chain", |_, text| {
        tls().client_pem(text, cert().key).map(drop)
    }),
    ("client_pem, key", |_, text| {
        tls().client_pem(cert().certificate, text).map(drop)
    }),
    ("client_pem, both", |_, text| {
        tls().client_pem(text, text).map(drop)
    }),
    ("client_pem_files, chain", |dir, text| {
        tls()
            .client_pem_files(dir.file("a", text), dir.file("b", cert().key))
            .map(drop)
    }),
    ("client_pem_files, key", |dir, text| {
        tls()
            .client_pem_files(dir.file("a", cert().certificate), dir.file("b", text))
            .map(drop)
    }),
    ("ServerTls::pem, chain", |_, text| {
        ServerTls::pem(text, cert().key).map(drop)
    }),
    ("ServerTls::pem, key", |_, text| {
        ServerTls::pem(cert().certificate, text).map(drop)
    }),
    ("ServerTls::pem_files", |dir, text| {
        let file = dir.file("a", text);
        ServerTls::pem_files(&file, &file).map(drop)
    }),
    ("DFLOCK_TLS_CA", |dir, text| {
        load_variable("DFLOCK_TLS_CA", &dir.file("a", text))
    }),
    ("DFLOCK_TLS_CERT", |dir, text| {
        load_certificate_variables(dir, &dir.file("a", text), &dir.file("b", cert().key))
    }),
    ("DFLOCK_TLS_KEY", |dir, text| {
        let chain = dir.file("a", cert().certificate);
        load_certificate_variables(dir, &chain, &dir.file("b", text))
    }),
    // The content in place of a path.
    ("path of ca_pem_file", |_, text| {
        Tls::ca_pem_file(text).map(drop)
    }),
    ("path of client_pem_files, chain", |dir, text| {
        tls()
            .client_pem_files(text, dir.file("b", cert().key))
            .map(drop)
    }),
    ("path of client_pem_files, key", |dir, text| {
        tls()
            .client_pem_files(dir.file("a", cert().certificate), text)
            .map(drop)
    }),
    ("path of ServerTls::pem_files", |_, text| {
        ServerTls::pem_files(text, text).map(drop)
    }),
    ("path in DFLOCK_TLS_CA", |_, text| {
        load_variable("DFLOCK_TLS_CA", text)
    }),
    ("path in DFLOCK_TLS_CERT", |dir, text| {
        load_certificate_variables(dir, text, &dir.file("b", cert().key))
    }),
    ("path in DFLOCK_TLS_KEY", |dir, text| {
        load_certificate_variables(dir, &dir.file("a", cert().certificate), text)
    }),
    ("path of auth_file", |_, text| {
        Client::builder().auth_file(text).build().map(drop)
    }),
    ("path in DFLOCK_AUTH_TOKEN_FILE", |_, text| {
        load_variable("DFLOCK_AUTH_TOKEN_FILE", text)
    }),
    ("DFLOCK_TLS", |_, text| load_variable("DFLOCK_TLS", text)),
    // An auth token has one line only.
    ("auth", |_, text| {
        Client::builder()
            .auth(format!("{text}\n{text}"))
            .build()
            .map(drop)
    }),
    ("auth_file", |dir, text| {
        Client::builder()
            .auth_file(dir.file("a", format!("{text}\n{text}")))
            .build()
            .map(drop)
    }),
    ("DFLOCK_AUTH_TOKEN", |_, text| {
        load_variable("DFLOCK_AUTH_TOKEN", &format!("{text}\n{text}"))
    }),
];

#[test]
fn errors_never_show_file_content() {
    let cert = cert();
    let dir = TempDir::new();
    for content in [&cert.key, &cert.certificate] {
        for text in corruptions(content) {
            for (source_name, take) in SOURCES {
                let error = take(&dir, &text).expect_err(&format!("{source_name}: {text}"));
                assert_hides(&printed_forms(&error), content);
            }
        }
    }
}

#[test]
fn a_key_in_place_of_a_path_is_redacted() {
    // The base64 form of Kubernetes, and the key without its BEGIN line.
    let key = cert().key;
    let body = key
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect::<String>();
    let long = body.repeat(3).replace('/', "+");
    for text in [
        &key,
        &format!("LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hB{body}"),
        &long,
    ] {
        for (source_name, take) in SOURCES
            .into_iter()
            .filter(|(source_name, _)| source_name.starts_with("path"))
        {
            let error = take(&TempDir::new(), text).expect_err(source_name);
            assert_hides(&printed_forms(&error), text);
            assert!(
                error.to_string().contains("the path of"),
                "{source_name}: {error}"
            );
        }
    }
}

#[test]
fn an_auth_token_in_place_of_its_file_is_redacted() {
    let error = load_variable("DFLOCK_AUTH_TOKEN_FILE", "hunter2hunter2").unwrap_err();
    assert_hides(&printed_forms(&error), "hunter2hunter2");
    assert!(
        error.to_string().contains("DFLOCK_AUTH_TOKEN_FILE"),
        "{error}"
    );
}

#[test]
fn the_error_describes_wrong_line_breaks() {
    let key = cert().key;
    for (separator, expected) in [
        (
            "",
            "section 1 is not PEM: no line break after the BEGIN line",
        ),
        (
            " ",
            "section 1 is not PEM: no line break after the BEGIN line",
        ),
        ("\\n", "line breaks are written as backslashes and letters"),
    ] {
        let text = key.trim_end().replace('\n', separator);
        let error = tls()
            .client_pem(cert().certificate, text)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the client key is refused") && error.contains(expected),
            "{error}"
        );
    }
}
