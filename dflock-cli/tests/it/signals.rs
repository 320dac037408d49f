//! Signals that `dflock run` receives.

use std::process::Stdio;

use dflock::server::Server;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::Signal;
use tokio::process::Command;

use crate::process::{Process, dflock, output_of, status, text, wait_until_free};
#[cfg(target_os = "linux")]
use {
    crate::process::{TIMEOUT, children_of, pid},
    rustix::process::{Pid, kill_process},
    std::time::Duration,
    tokio::time::timeout,
};

#[tokio::test]
async fn signals_are_forwarded() {
    let server = Server::start().await.unwrap();
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::TERM, "TERM"),
    ] {
        let script =
            format!("trap 'echo {name}; exit 7' {name}; echo ready; while :; do sleep 0.02; done");
        let mut run = Process::run_script(&server.addr().to_string(), &[], &script).await;
        run.signal(signal);
        assert_eq!(run.next_line().await.as_deref(), Some(name));
        assert_eq!(run.status().await, 7, "{name}");
        wait_until_free(&server.client()).await;
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ends_releases_its_slot() {
    let server = Server::start().await.unwrap();
    for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut run =
            Process::run_script(&server.addr().to_string(), &[], "echo ready; exec sleep 60").await;
        let began = std::time::Instant::now();
        run.signal(signal);
        wait_until_free(&server.client()).await;
        println!("signal {signal:?}: free after {:?}", began.elapsed());
        assert_eq!(run.status().await, expected);
        run.wait_for_eof().await;
    }
}

#[tokio::test]
async fn descendants_of_the_command_get_forwarded_signals() {
    let server = Server::start().await.unwrap();
    // The outer shell handles the signal and keeps waiting for the inner one.
    let script = "trap : USR1; sh -c 'trap \"echo inner; exit 5\" USR1; echo ready; \
                  while :; do sleep 0.02; done'";
    let mut run = Process::run_script(&server.addr().to_string(), &[], script).await;
    run.signal(Signal::USR1);
    assert_eq!(run.next_line().await.as_deref(), Some("inner"));
    run.wait_for_eof().await;
}

#[tokio::test]
async fn a_signal_during_the_wait_leaves_the_queue() {
    let server = Server::start().await.unwrap();
    let held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let mut run = Process::spawn(&mut dflock(&[
        "run",
        "--servers",
        &server.addr().to_string(),
        "--key",
        "job",
        "echo",
        "ran",
    ]));
    let waiters = || {
        server
            .stats()
            .semaphores
            .iter()
            .map(|semaphore| semaphore.waiters)
            .sum::<u64>()
    };
    while waiters() == 0 {
        tokio::task::yield_now().await;
    }
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
    assert_eq!(run.wait_for_eof().await, "");
    while waiters() > 0 {
        tokio::task::yield_now().await;
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn a_signal_that_the_parent_ignores_stays_ignored() {
    let server = Server::start().await.unwrap();
    // As `nohup` does.
    let script = "trap '' HUP; exec \"$0\" run --servers \"$1\" --key job \
                  sh -c 'kill -HUP $$; echo ready; kill -HUP $PPID; exec sleep 60'";
    let mut command = dflock(&[]);
    let program = command.as_std().get_program().to_owned();
    command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(program)
        .arg(server.addr().to_string());
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut run = Process::spawn(&mut command);
    assert_eq!(run.next_line().await.as_deref(), Some("ready"));
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
}

/// Returns a shell script with `dflock` as `$0` and `args` as its arguments. Uses `bash`, because
/// not every shell can ignore SIGCHLD.
fn script(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_dflock")])
        .args(args);
    command.process_group(0).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts `command` with SIGTERM and SIGUSR1 blocked.
fn start_with_blocked_signals(command: &mut Command) -> Process {
    let blocked: SigSet = [NixSignal::SIGTERM, NixSignal::SIGUSR1]
        .into_iter()
        .collect();
    blocked.thread_block().unwrap();
    let run = Process::spawn(command);
    blocked.thread_unblock().unwrap();
    run
}

#[tokio::test]
async fn a_parent_that_ignores_sigchld_gets_the_exit_status() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    for (end, expected) in [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)] {
        let run = ["run", "--servers", &addr, "--key", "job", "sh", "-c", end];
        let output = output_of(&mut script("trap '' CHLD; exec \"$0\" \"$@\"", &run)).await;
        assert_eq!(
            (status(&output), text(&output.stderr)),
            (expected, ""),
            "{end}"
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_command_inherits_signal_dispositions_and_the_mask_of_the_parent() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let run = [
        &[
            env!("CARGO_BIN_EXE_dflock"),
            "run",
            "--servers",
            &addr,
            "--key",
            "job",
        ],
        &show[..],
    ]
    .concat();
    let ignore = "trap '' CHLD HUP USR2 TTOU; exec \"$@\"";
    let mut shown = Vec::new();
    for command in [&show[..], &run] {
        shown.push(
            start_with_blocked_signals(&mut script(ignore, command))
                .wait_for_eof()
                .await,
        );
    }
    assert!(
        shown[0].starts_with("SigBlk:\t0000000000004200\nSigIgn:\t"),
        "{}",
        shown[0]
    );
    // Checks the bits of CHLD, HUP, USR2 and TTOU. The environment may ignore others as well.
    let ignored =
        u64::from_str_radix(shown[0].trim_end().rsplit_once('\t').unwrap().1, 16).unwrap();
    assert_eq!(ignored & 0x21_0801, 0x21_0801, "{}", shown[0]);
    assert_eq!(shown[1], shown[0]);
}

#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_ends_the_wait() {
    let server = Server::start().await.unwrap();
    let _held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let addr = server.addr().to_string();
    let mut run = start_with_blocked_signals(&mut dflock(&[
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "echo",
        "ran",
    ]));
    while server
        .stats()
        .semaphores
        .iter()
        .all(|semaphore| semaphore.waiters == 0)
    {
        tokio::task::yield_now().await;
    }
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_is_forwarded() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let mut run = start_with_blocked_signals(&mut dflock(&[
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "sleep",
        "4242",
    ]));
    let sleep = async {
        loop {
            let children = children_of(pid(&run.dflock)).into_iter();
            let name = |pid: &Pid| {
                std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
                    .unwrap_or_default()
            };
            if let Some(sleep) = children.into_iter().find(|pid| name(pid) == "sleep\n") {
                return sleep;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let sleep = timeout(TIMEOUT, sleep).await.expect("the command starts");
    run.signal(Signal::TERM);
    // The command inherits the blocked signal, so it stays pending.
    let arrived = async {
        while !std::fs::read_to_string(format!("/proc/{}/status", sleep.as_raw_nonzero()))
            .unwrap()
            .contains("ShdPnd:\t0000000000004000")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, arrived).await.expect("SIGTERM arrives");
    kill_process(sleep, Signal::KILL).unwrap();
    assert_eq!(run.status().await, 137);
}
