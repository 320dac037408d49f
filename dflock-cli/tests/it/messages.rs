//! Messages of library errors: they name the options of `dflock`, not those of the library.

use dflock::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::process::{dflock, output_of, status, text};

/// Runs `dflock run` with `options` and the environment variable `variable`, and returns its exit
/// code and its standard error.
async fn error(options: &[&str], variable: (&str, &str)) -> (i32, String) {
    let args = [&["run", "--key", "job"], options, &["true"]].concat();
    let output = output_of(dflock(&args).env(variable.0, variable.1)).await;
    (status(&output), text(&output.stderr).to_owned())
}

/// Starts a server that answers every request with `reply`. An empty one is no answer.
async fn scripted_server(reply: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            while client.read(&mut request).await.unwrap() > 0 {
                client.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_message_names_the_options_of_dflock() {
    let secured = Server::builder().auth_token("hush").build();
    let server = secured.start().await.unwrap();
    let secured = server.addr().to_string();
    let silent = scripted_server("").await;
    let http = scripted_server("HTTP/1.1 400 Bad Request\n").await;
    let follower = scripted_server("error_not_leader lock-2:6388\n").await;
    for (options, variable, code, expected) in [
        (
            &["--lease", "1500ms"][..],
            ("DFLOCK_HEARTBEAT", "1"),
            64,
            "--lease 1.5s is refused",
        ),
        (
            &["--max-hold", "1s", "--lease", "2s"],
            ("DFLOCK_TLS", "off"),
            64,
            "--max-hold 1s is refused; it must be at least the --lease, 2s",
        ),
        (
            &["--max-hold", "0"],
            ("DFLOCK_TLS", "off"),
            64,
            "--max-hold 0ns is refused; it must be more than 0",
        ),
        (
            &["--max-hold", "1s", "--min-hold", "2s"],
            ("DFLOCK_TLS", "off"),
            64,
            "--min-hold 2s is refused; it must be at most the --max-hold, 1s",
        ),
        (
            &[],
            ("DFLOCK_SERVERS", "user:hunter2@lock-1:6388"),
            64,
            "DFLOCK_SERVERS is refused: server \"lock-1:6388\" is refused: user and password are \
             not allowed in an address; give the auth token with --auth-token-file",
        ),
        (
            &["--servers", &secured],
            ("DFLOCK_AUTH_TOKEN", "loud"),
            77,
            "the auth token of --auth-token-file or DFLOCK_AUTH_TOKEN; check it",
        ),
        (
            &["--servers", &silent],
            ("DFLOCK_SOCKET_TIMEOUT", "0.1"),
            69,
            "raise DFLOCK_SOCKET_TIMEOUT",
        ),
        (
            &["--servers", &http],
            ("DFLOCK_TLS", "off"),
            69,
            "check that --servers names the host and port of a dflockd server",
        ),
        (
            &["--servers", &follower],
            ("DFLOCK_TLS", "off"),
            69,
            "name the leader with --servers",
        ),
    ] {
        let (status, stderr) = error(options, variable).await;
        assert_eq!(status, code, "{options:?}: {stderr}");
        assert!(stderr.contains(expected), "{options:?}: {stderr}");
        for name in ["`servers`", "`auth`", "`tls`", "_timeout`", "lease_ttl"] {
            assert!(!stderr.contains(name), "{options:?}: {stderr}");
        }
    }
}

#[tokio::test]
async fn an_invalid_option_of_the_server_is_named_as_on_the_command_line() {
    for (option, expected) in [
        (["--max-locks", "0"], "--max-locks (0)"),
        (
            ["--default-lease-ttl", "1500ms"],
            "--default-lease-ttl (1.5s)",
        ),
        (["--read-timeout", "0"], "--read-timeout (0ns)"),
    ] {
        let args = [&["serve", "--port", "0"][..], &option].concat();
        let output = output_of(&mut dflock(&args)).await;
        let stderr = text(&output.stderr);
        assert_eq!(status(&output), 64, "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
