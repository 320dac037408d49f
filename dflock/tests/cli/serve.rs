//! `dflock serve`.

use dflock::Client;
use rustix::process::Signal;

#[cfg(target_os = "linux")]
use crate::program::pid;
use crate::program::{PATIENCE, Run, dflock};

async fn served(flags: &[&str]) -> (Run, String) {
    let mut serve = Run::of(&mut dflock(&[&["serve", "--port", "0"], flags].concat()));
    let addr = serve.line().await.unwrap();
    (serve, addr)
}

#[tokio::test]
async fn it_serves_until_it_is_asked_to_end() {
    for signal in [Signal::INT, Signal::TERM] {
        let (mut serve, addr) = served(&[]).await;
        let client = Client::builder().servers([addr]).build().unwrap();
        let held = client
            .semaphore("pool", 2)
            .unwrap()
            .acquire()
            .await
            .unwrap();
        held.release().await.unwrap();
        serve.signal(signal);
        assert_eq!(serve.status().await, 0, "{signal:?}");
    }
}

#[tokio::test]
async fn signals_that_ask_for_nothing_have_no_effect() {
    let (mut serve, addr) = served(&[]).await;
    let client = Client::builder().servers([addr]).build().unwrap();
    for signal in [Signal::USR1, Signal::USR2, Signal::ALARM] {
        serve.signal(signal);
        client.ping().await.unwrap();
    }
    serve.signal(Signal::TERM);
    assert_eq!(serve.status().await, 0);
}

#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_ends_it() {
    let blocked = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGTERM);
    blocked.thread_block().unwrap();
    let mut serve = Run::of(&mut dflock(&["serve", "--port", "0"]));
    blocked.thread_unblock().unwrap();
    serve.line().await.unwrap();
    serve.signal(Signal::TERM);
    assert_eq!(serve.status().await, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn with_closed_output_it_serves() {
    let mut command = tokio::process::Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" serve --port 0 >&- 2>&-",
        env!("CARGO_BIN_EXE_dflock"),
    ]);
    let mut serve = Run::of(
        command
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true),
    );
    // there is nothing to read: it serves when it listens for SIGTERM
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
    tokio::time::timeout(PATIENCE, listens)
        .await
        .expect("it serves");
    serve.signal(Signal::TERM);
    assert_eq!(serve.status().await, 0);
}

#[tokio::test]
async fn without_a_reader_of_its_address_it_is_71() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = dflock(&["serve", "--port", "0"]);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let status = tokio::time::timeout(PATIENCE, command.status())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(status.code(), Some(71));
}

#[tokio::test]
async fn it_waits_for_holders_and_a_second_signal_ends_that() {
    let (mut serve, addr) = served(&["--shutdown-timeout", "0"]).await;
    let client = Client::builder().servers([addr]).build().unwrap();
    let _held = client
        .semaphore("pool", 2)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    serve.signal(Signal::INT);
    // it has heard the first when it takes nobody any more
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
async fn its_flags_are_the_servers_options() {
    let (_serve, addr) = served(&[
        "--auth-token",
        "hush",
        "--default-lease-ttl",
        "7",
        "--max-locks",
        "1",
    ])
    .await;
    let stranger = Client::builder().servers([&*addr]).build().unwrap();
    assert!(stranger.ping().await.unwrap_err().is_auth());
    let client = Client::builder()
        .servers([&*addr])
        .auth("hush")
        .build()
        .unwrap();
    let held = client
        .semaphore("pool", 2)
        .unwrap()
        .acquire()
        .await
        .unwrap();
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
