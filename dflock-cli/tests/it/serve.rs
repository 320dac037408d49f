//! Tests of `dflock serve`.

use dflock::Client;
use rustix::process::Signal;

#[cfg(target_os = "linux")]
use crate::process::pid;
use crate::process::{Process, TIMEOUT, acquire, dflock};

/// Starts `dflock serve` on a free port, and returns it with its address.
async fn start_server(flags: &[&str]) -> (Process, String) {
    let mut serve = Process::spawn(&mut dflock(&[&["serve", "--port", "0"], flags].concat()));
    let addr = serve.next_line().await.unwrap();
    (serve, addr)
}

#[tokio::test]
async fn sigint_and_sigterm_shut_the_server_down() {
    for signal in [Signal::INT, Signal::TERM] {
        let (mut serve, addr) = start_server(&[]).await;
        let client = Client::builder().servers([addr]).build().unwrap();
        let held = acquire(&client, "pool", 2).await;
        held.release().await.unwrap();
        serve.signal(signal);
        assert_eq!(serve.status().await, 0, "{signal:?}");
    }
}

#[tokio::test]
async fn other_signals_have_no_effect() {
    let (mut serve, addr) = start_server(&[]).await;
    let client = Client::builder().servers([addr]).build().unwrap();
    for signal in [Signal::USR1, Signal::USR2, Signal::ALARM] {
        serve.signal(signal);
        client.ping().await.unwrap();
    }
    serve.signal(Signal::TERM);
    assert_eq!(serve.status().await, 0);
}

#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_shuts_the_server_down() {
    let blocked = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGTERM);
    blocked.thread_block().unwrap();
    let mut serve = Process::spawn(&mut dflock(&["serve", "--port", "0"]));
    blocked.thread_unblock().unwrap();
    serve.next_line().await.unwrap();
    serve.signal(Signal::TERM);
    assert_eq!(serve.status().await, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_server_runs_with_closed_output() {
    let mut command = tokio::process::Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" serve --port 0 >&- 2>&-",
        env!("CARGO_BIN_EXE_dflock"),
    ]);
    let mut serve = Process::spawn(
        command
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true),
    );
    // There is no output to wait for, so wait until it handles SIGTERM.
    let status = format!("/proc/{}/status", pid(&serve.dflock).as_raw_nonzero());
    let listens = async {
        loop {
            let status = std::fs::read_to_string(&status).unwrap();
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))
                .unwrap();
            if u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (Signal::TERM.as_raw() - 1))
                != 0
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, listens)
        .await
        .expect("the server handles SIGTERM");
    serve.signal(Signal::TERM);
    assert_eq!(serve.status().await, 0);
}

#[tokio::test]
async fn an_address_that_cannot_be_printed_exits_with_71() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = dflock(&["serve", "--port", "0"]);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let status = tokio::time::timeout(TIMEOUT, command.status())
        .await
        .expect("the server ends")
        .unwrap();
    assert_eq!(status.code(), Some(71));
}

#[tokio::test]
async fn shutdown_waits_for_holders_until_a_second_signal() {
    let (mut serve, addr) = start_server(&["--shutdown-timeout", "0"]).await;
    let client = Client::builder().servers([addr]).build().unwrap();
    let _held = acquire(&client, "pool", 2).await;
    serve.signal(Signal::INT);
    // The shutdown has begun when the server refuses an acquire.
    while client
        .semaphore("other", 1)
        .unwrap()
        .try_acquire()
        .await
        .is_ok()
    {}
    serve.signal(Signal::INT);
    assert_eq!(serve.status().await, 130);
}

#[tokio::test]
async fn flags_set_the_options_of_the_server() {
    let (_serve, addr) = start_server(&[
        "--auth-token",
        "hush",
        "--default-lease-ttl",
        "7",
        "--max-locks",
        "1",
    ])
    .await;
    let without_token = Client::builder().servers([&*addr]).build().unwrap();
    assert!(without_token.ping().await.unwrap_err().is_auth());
    let client = Client::builder()
        .servers([&*addr])
        .auth("hush")
        .build()
        .unwrap();
    let held = acquire(&client, "pool", 2).await;
    assert_eq!(held.lease().as_secs(), 7);
    let error = client
        .semaphore("second", 2)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(
        matches!(error, dflock::Error::TooManyKeys { .. }),
        "{error}"
    );
}
